//! An image written as a diff, for `rbd import-diff`.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::error::{ErrorKind, Operation, VolumeError};
use super::sys::fits;
use super::target::{Target, WriteOrder};
use crate::base::{data_runs, lock};
use crate::format::{DiffError, DiffErrorKind, DiffHeader, DiffWriter};

/// How finely zeros are told from data: the block size of the file systems in use.
const BLOCK: usize = 4 << 10;

/// No extent has more data: `import-diff` holds a whole one in memory.
const EXTENT_MAX: usize = 4 << 20;

/// Writes what is given to it as an RBD diff of version 1. Each write must begin where the one before
/// ended or later; what is left out is no part of the diff.
///
/// Blocks of zeros are no data. If the diff builds on a snapshot, which may have data there, they become
/// extents of zeros, joined to their neighbours; if it builds on nothing, they are left out.
pub struct DiffTarget<W> {
    state: Mutex<State<W>>,
    name: String,
    size: u64,
    /// There may be data where the diff says nothing.
    on_snapshot: bool,
}

/// What a diff consists of, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffTotals {
    /// Its extents, of data and of zeros.
    pub extents: u64,
    /// Bytes of data.
    pub data: u64,
    /// Bytes that its extents of zeros cover.
    pub zeros: u64,
    /// Bytes of the stream.
    pub written: u64,
}

struct State<W> {
    /// None once the end is written.
    writer: Option<DiffWriter<W>>,
    /// Behind what was given, in bytes of the image.
    position: u64,
    /// Zeros that may be followed by more of them.
    zeros: Range<u64>,
    failed: bool,
    totals: DiffTotals,
}

impl<W: Write + Send> DiffTarget<W> {
    /// Begins a diff on `writer`, which messages call `name`. A snapshot's name that no diff can have is an
    /// error of kind [`ErrorKind::Misnamed`]. Headers are written in small pieces: give it a buffered writer.
    pub fn new(
        writer: W,
        name: impl Into<String>,
        header: &DiffHeader,
    ) -> Result<Self, VolumeError> {
        let name = name.into();
        let writer = DiffWriter::new(writer, header)
            .map_err(|error| refused(Operation::Create, &name, error))?;
        let state = State {
            writer: Some(writer),
            position: 0,
            zeros: 0..0,
            failed: false,
            totals: DiffTotals::default(),
        };
        Ok(Self {
            state: Mutex::new(state),
            name,
            size: header.size,
            on_snapshot: header.from.is_some(),
        })
    }

    /// What was written so far; all of it once the diff is finished.
    pub fn totals(&self) -> DiffTotals {
        self.lock().totals
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        lock(&self.state)
    }

    /// Runs `write` on the state if `len` bytes may be given at `offset`; after an error it has failed for
    /// good.
    fn run(
        &self,
        operation: Operation,
        offset: u64,
        len: u64,
        write: impl FnOnce(&mut State<W>) -> Result<(), DiffError>,
    ) -> Result<(), VolumeError> {
        let mut state = self.lock();
        let kind = if state.failed {
            ErrorKind::Incomplete
        } else if !fits(self.size, offset, len) {
            ErrorKind::OutOfRange
        } else if offset < state.position {
            ErrorKind::OutOfOrder {
                position: state.position,
            }
        } else {
            let written = write(&mut state);
            state.position = offset + len;
            state.failed = written.is_err();
            return written.map_err(|error| refused(operation, &self.name, error).at(offset));
        };
        state.failed = true;
        Err(VolumeError::new(kind, operation, &self.name).at(offset))
    }

    fn zeros(&self, state: &mut State<W>, range: Range<u64>) -> Result<(), DiffError> {
        if !self.on_snapshot || range.is_empty() {
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
            // The mark of the end is one byte.
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

/// How a failure of the writer is told.
fn refused(operation: Operation, name: &str, error: DiffError) -> VolumeError {
    use DiffErrorKind::{NameEmpty, NameNul, NameTooLong};
    let (kind, cause) = match (error.kind, error.source) {
        (DiffErrorKind::Write, Some(source)) => return VolumeError::io(operation, name, source),
        (kind @ (NameEmpty | NameNul | NameTooLong(_)), _) => (ErrorKind::Misnamed, kind),
        (kind, _) => (ErrorKind::Incomplete, kind),
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
        self.run(Operation::Write, offset, len, |state| {
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
        self.run(Operation::Zero, offset, len, |state| {
            self.zeros(state, offset..offset + len)
        })
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.run(Operation::Finish, self.size, 0, State::end)
    }
}
