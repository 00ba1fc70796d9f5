//! An image written to a stream that cannot seek, such as standard output.

use std::io::{self, Write};
use std::sync::Mutex;

use crate::base::{lock, recover, to_usize};

use super::cursor::Cursor;
use super::error::{VolumeError, VolumeOperation};
use super::target::{Target, WriteOrder};

/// Zeros that are written into gaps.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes an image from its first byte to its last. Writes zeros into gaps, and up to the end of
/// the image.
pub struct StreamTarget<W> {
    state: Mutex<State<W>>,
    name: String,
    size: u64,
}

struct State<W> {
    writer: W,
    cursor: Cursor,
}

impl<W: Write + Send> StreamTarget<W> {
    /// Returns a target that writes an image of `size` bytes to `writer`. Messages use `name` for
    /// the stream.
    pub fn new(writer: W, name: impl Into<String>, size: u64) -> Self {
        let state = State {
            writer,
            cursor: Cursor::new(size),
        };
        Self {
            state: Mutex::new(state),
            name: name.into(),
            size,
        }
    }

    /// Returns the writer.
    pub fn into_inner(self) -> W {
        recover(self.state.into_inner()).writer
    }

    /// Runs `write` on the state, if `len` bytes may be written at `offset`.
    fn run(
        &self,
        operation: VolumeOperation,
        offset: u64,
        len: u64,
        write: impl FnOnce(&mut State<W>) -> io::Result<()>,
    ) -> Result<(), VolumeError> {
        let mut state = lock(&self.state);
        state.cursor.admit(operation, &self.name, offset, len)?;
        write(&mut state).map_err(|error| {
            state.cursor.fail();
            VolumeError::io(operation, &self.name, error).at(state.cursor.position)
        })
    }
}

impl<W: Write> State<W> {
    fn zeros_up_to(&mut self, end: u64) -> io::Result<()> {
        while self.cursor.position < end {
            let len = to_usize(end - self.cursor.position);
            self.put(&ZEROS[..len.min(ZEROS.len())])?;
        }
        Ok(())
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.writer.write_all(data)?;
        self.cursor.position += data.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send> Target for StreamTarget<W> {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Ascending
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let len = data.len() as u64;
        self.run(VolumeOperation::Write, offset, len, |state| {
            state.zeros_up_to(offset)?;
            state.put(data)
        })
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.run(VolumeOperation::Zero, offset, len, |state| {
            state.zeros_up_to(offset + len)
        })
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.run(VolumeOperation::Finish, self.size, 0, |state| {
            state.zeros_up_to(self.size)?;
            state.writer.flush()
        })
    }
}
