//! An image written as a diff, for `rbd import-diff`.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::cursor::Cursor;
use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};
use super::target::{Target, WriteOrder};
use crate::base::{data_runs, lock};
use crate::format::{DiffError, DiffErrorKind, DiffHeader, DiffWriter};

/// Zeros are found in whole blocks of this many bytes: the block size of common file systems.
const BLOCK: usize = 4 << 10;

/// The maximum length of an extent with data, in bytes, since `import-diff` holds a whole extent in
/// memory.
const EXTENT_MAX: usize = 4 << 20;

/// Writes an RBD diff of version 1. Ranges that are not written are not in the diff.
///
/// Blocks of zeros are not written as data. If the image may have data before the diff is applied,
/// these blocks become extents of zeros, joined to adjacent ones. Otherwise they are left out.
pub struct DiffTarget<W> {
    state: Mutex<State<W>>,
    name: String,
    size: u64,
    /// Whether the image may have data before the diff is applied.
    over_data: bool,
}

/// The numbers of extents and bytes of a diff that were written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffTotals {
    /// The number of extents, both of data and of zeros.
    pub extents: u64,
    /// Bytes of data.
    pub data: u64,
    /// Bytes that extents of zeros cover.
    pub zeros: u64,
    /// Bytes of the whole stream; 0 until the diff is finished.
    pub written: u64,
}

struct State<W> {
    /// `None` after the end of the diff is written.
    writer: Option<DiffWriter<W>>,
    cursor: Cursor,
    /// The last extent of zeros. It is written when no more zeros can follow it.
    zeros: Range<u64>,
    totals: DiffTotals,
}

impl<W: Write + Send> DiffTarget<W> {
    /// Begins a diff on `writer`. A diff without `header.from` is full: it is for an empty image.
    /// Messages use `name` for the diff. Fails with [`VolumeErrorKind::Misnamed`] if a diff cannot
    /// hold the name of a snapshot. `writer` should be buffered: headers are written in small
    /// pieces.
    pub fn new(
        writer: W,
        name: impl Into<String>,
        header: &DiffHeader,
    ) -> Result<Self, VolumeError> {
        Self::begin(writer, name, header, header.from.is_some())
    }

    /// Begins a diff without snapshots, of an image of `size` bytes that may have data everywhere.
    pub fn over_data(writer: W, name: impl Into<String>, size: u64) -> Result<Self, VolumeError> {
        let header = DiffHeader {
            from: None,
            to: None,
            size,
            protected: None,
        };
        Self::begin(writer, name, &header, true)
    }

    fn begin(
        writer: W,
        name: impl Into<String>,
        header: &DiffHeader,
        over_data: bool,
    ) -> Result<Self, VolumeError> {
        let name = name.into();
        let writer = DiffWriter::new(writer, header)
            .map_err(|error| refused(VolumeOperation::Create, &name, error))?;
        let state = State {
            writer: Some(writer),
            cursor: Cursor::new(header.size),
            zeros: 0..0,
            totals: DiffTotals::default(),
        };
        Ok(Self {
            state: Mutex::new(state),
            name,
            size: header.size,
            over_data,
        })
    }

    /// Returns the totals so far. They are final after the diff is finished.
    pub fn totals(&self) -> DiffTotals {
        self.lock().totals
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        lock(&self.state)
    }

    /// Runs `write` on the state, if `len` bytes may be written at `offset`. After an error, all
    /// later calls fail.
    fn run(
        &self,
        operation: VolumeOperation,
        offset: u64,
        len: u64,
        write: impl FnOnce(&mut State<W>) -> Result<(), DiffError>,
    ) -> Result<(), VolumeError> {
        let mut state = self.lock();
        state.cursor.admit(operation, &self.name, offset, len)?;
        let written = write(&mut state);
        state.cursor.position = offset + len;
        written.map_err(|error| {
            state.cursor.fail();
            refused(operation, &self.name, error).at(offset)
        })
    }

    fn zeros(&self, state: &mut State<W>, range: Range<u64>) -> Result<(), DiffError> {
        if !self.over_data || range.is_empty() {
            return Ok(());
        }
        if state.zeros.end != range.start {
            state.put_zeros()?;
            state.zeros.start = range.start;
        }
        state.zeros.end = range.end;
        Ok(())
    }
}

impl<W: Write> State<W> {
    fn put_data(&mut self, offset: u64, data: &[u8]) -> Result<(), DiffError> {
        self.put_zeros()?;
        let writer = self.writer()?;
        writer.extent(offset, data.len() as u64)?;
        writer.data(data)?;
        self.totals.extents += 1;
        self.totals.data += data.len() as u64;
        Ok(())
    }

    fn put_zeros(&mut self) -> Result<(), DiffError> {
        let zeros = std::mem::take(&mut self.zeros);
        if !zeros.is_empty() {
            let len = zeros.end - zeros.start;
            self.writer()?.zero(zeros.start, len)?;
            self.totals.extents += 1;
            self.totals.zeros += len;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), DiffError> {
        self.put_zeros()?;
        if let Some(writer) = self.writer.take() {
            // The end record is one byte.
            self.totals.written = writer.offset() + 1;
            writer.finish()?;
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut DiffWriter<W>, DiffError> {
        self.writer.as_mut().ok_or(DiffError {
            kind: DiffErrorKind::Misuse("the diff has ended"),
            offset: self.totals.written,
            source: None,
        })
    }
}

/// Turns an error of the diff's writer into an error of the target.
fn refused(operation: VolumeOperation, name: &str, error: DiffError) -> VolumeError {
    use DiffErrorKind::{NameEmpty, NameNul, NameTooLong};
    let (kind, cause) = match (error.kind, error.source) {
        (DiffErrorKind::Write, Some(source)) => return VolumeError::io(operation, name, source),
        (kind @ (NameEmpty | NameNul | NameTooLong(_)), _) => (VolumeErrorKind::Misnamed, kind),
        (kind, _) => (VolumeErrorKind::Incomplete, kind),
    };
    VolumeError {
        source: Some(io::Error::other(cause.to_string())),
        ..VolumeError::new(kind, operation, name)
    }
}

impl<W: Write + Send> Target for DiffTarget<W> {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Ascending
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let len = data.len() as u64;
        self.run(VolumeOperation::Write, offset, len, |state| {
            let at = |place: usize| offset + place as u64;
            let mut end = 0;
            for run in data_runs(data, BLOCK) {
                self.zeros(state, at(end)..at(run.start))?;
                end = run.end;
                let mut start = at(run.start);
                for extent in data[run].chunks(EXTENT_MAX) {
                    state.put_data(start, extent)?;
                    start += extent.len() as u64;
                }
            }
            self.zeros(state, at(end)..offset + len)
        })
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.run(VolumeOperation::Zero, offset, len, |state| {
            self.zeros(state, offset..offset + len)
        })
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.run(VolumeOperation::Finish, self.size, 0, State::end)
    }
}
