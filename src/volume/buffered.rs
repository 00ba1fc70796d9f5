//! A buffered writer that writes nothing after an error.

use std::io::{self, Write};

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};

/// The size of the buffer in bytes. Small writes only fill the buffer, and need no system call.
const CAPACITY: usize = 256 << 10;

/// Buffers small writes. After the first error, writes nothing more. When dropped, discards bytes
/// that were not flushed: unlike [`BufWriter`](io::BufWriter), it does not write a part of an
/// abandoned stream.
#[derive(Debug)]
pub(super) struct Buffered<W> {
    writer: W,
    buffer: Vec<u8>,
    failed: bool,
}

impl<W: Write> Buffered<W> {
    pub(super) fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::with_capacity(CAPACITY),
            failed: false,
        }
    }

    /// Fails if an earlier write has failed. The error names the stream as `name`.
    pub(super) fn check_complete(&self, name: &str) -> Result<(), VolumeError> {
        if self.failed {
            let (kind, operation) = (VolumeErrorKind::Incomplete, VolumeOperation::Finish);
            return Err(VolumeError::new(kind, operation, name));
        }
        Ok(())
    }

    /// Runs `write` on the writer, unless an earlier call has failed.
    pub(super) fn run<T>(&mut self, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let result = write(&mut self.writer);
        // An interrupted write has written nothing, and the caller repeats it.
        self.failed = matches!(&result, Err(error) if error.kind() != io::ErrorKind::Interrupted);
        result
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.run(|writer| writer.write_all(&buffer))?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }
}

impl<W: Write> Write for Buffered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > CAPACITY {
            self.write_buffer()?;
        }
        if bytes.len() >= CAPACITY {
            return self.run(|writer| writer.write(bytes));
        }
        self.run(|_| Ok(()))?;
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        self.run(W::flush)
    }
}
