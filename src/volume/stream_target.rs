//! An image written to where nobody can seek: standard output.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard};

use crate::base::{lock, recover};

use super::error::{ErrorKind, Operation, VolumeError};
use super::sys::fits;
use super::target::{Target, WriteOrder};

/// Zeros written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes an image from its first byte to its last. Each write must begin where the one before
/// ended or later; what is left out is zero, and is written as such, up to the image's end.
pub struct StreamTarget<W> {
    state: Mutex<State<W>>,
    name: String,
    size: u64,
}

struct State<W> {
    writer: W,
    position: u64,
    failed: bool,
}

impl<W: Write + Send> StreamTarget<W> {
    /// Writes an image of `size` bytes to `writer`, which messages call `name`.
    pub fn new(writer: W, name: impl Into<String>, size: u64) -> Self {
        let state = State {
            writer,
            position: 0,
            failed: false,
        };
        Self {
            state: Mutex::new(state),
            name: name.into(),
            size,
        }
    }

    /// Gives the writer back.
    pub fn into_inner(self) -> W {
        recover(self.state.into_inner()).writer
    }

    /// The state, from which `len` bytes may be written at `offset`.
    fn enter(
        &self,
        operation: Operation,
        offset: u64,
        len: u64,
    ) -> Result<MutexGuard<'_, State<W>>, VolumeError> {
        let mut state = lock(&self.state);
        let kind = if state.failed {
            ErrorKind::Incomplete
        } else if !fits(self.size, offset, len) {
            ErrorKind::OutOfRange
        } else if offset < state.position {
            ErrorKind::OutOfOrder {
                position: state.position,
            }
        } else {
            return Ok(state);
        };
        state.failed = true;
        Err(VolumeError::new(kind, operation, &self.name).at(offset))
    }

    /// Runs `write`, after which the stream is as it was told or has failed for good.
    fn run(
        &self,
        operation: Operation,
        mut state: MutexGuard<'_, State<W>>,
        write: impl FnOnce(&mut State<W>) -> io::Result<()>,
    ) -> Result<(), VolumeError> {
        write(&mut state).map_err(|error| {
            state.failed = true;
            VolumeError::io(operation, &self.name, error).at(state.position)
        })
    }
}

impl<W: Write> State<W> {
    fn zeros_up_to(&mut self, end: u64) -> io::Result<()> {
        while self.position < end {
            let len = usize::try_from(end - self.position).unwrap_or(usize::MAX);
            self.put(&ZEROS[..len.min(ZEROS.len())])?;
        }
        Ok(())
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.writer.write_all(data)?;
        self.position += data.len() as u64;
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
        let state = self.enter(Operation::Write, offset, data.len() as u64)?;
        self.run(Operation::Write, state, |state| {
            state.zeros_up_to(offset)?;
            state.put(data)
        })
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        let state = self.enter(Operation::Zero, offset, len)?;
        self.run(Operation::Zero, state, |state| {
            state.zeros_up_to(offset + len)
        })
    }

    fn finish(&self) -> Result<(), VolumeError> {
        let state = self.enter(Operation::Finish, self.size, 0)?;
        self.run(Operation::Finish, state, |state| {
            state.zeros_up_to(self.size)?;
            state.writer.flush()
        })
    }
}
