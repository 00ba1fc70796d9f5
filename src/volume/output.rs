//! Streams that are written from the front: files that describe an image, pipes, standard output.

use std::io::{self, BufWriter, Write};

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};

/// Bytes that are buffered, so that small writes cost no system call.
pub(super) const BUFFER: usize = 256 << 10;

/// A byte stream with a name, which is complete once it is finished.
pub trait OutputStream: Write + Send {
    /// Returns the name that messages use for the stream.
    fn name(&self) -> String;

    /// Writes what is buffered, and makes a file durable and visible. To be called once, after the
    /// last byte. It fails after a failed write, and then a new file never appears.
    fn finish(&mut self) -> Result<(), VolumeError>;
}

/// Any writer, buffered, as an [`OutputStream`] of a given name.
#[derive(Debug)]
pub struct NamedOutput<W: Write> {
    writer: BufWriter<W>,
    name: String,
    failed: bool,
}

impl<W: Write + Send> NamedOutput<W> {
    /// Names `writer`.
    pub fn new(writer: W, name: impl Into<String>) -> Self {
        Self {
            writer: BufWriter::with_capacity(BUFFER, writer),
            name: name.into(),
            failed: false,
        }
    }
}

impl<W: Write> Write for NamedOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noting(&mut self.failed, self.writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noting(&mut self.failed, self.writer.flush())
    }
}

impl<W: Write + Send> OutputStream for NamedOutput<W> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn finish(&mut self) -> Result<(), VolumeError> {
        if self.failed {
            return Err(incomplete(&self.name));
        }
        let flushed = self.flush();
        flushed.map_err(|error| VolumeError::writing(&self.name, error))
    }
}

/// Notes in `failed` whether a write has failed for good.
pub(super) fn noting<T>(failed: &mut bool, result: io::Result<T>) -> io::Result<T> {
    *failed |= matches!(&result, Err(error) if error.kind() != io::ErrorKind::Interrupted);
    result
}

/// The error of a stream that is to be finished after a failed write.
pub(super) fn incomplete(name: &str) -> VolumeError {
    VolumeError::new(VolumeErrorKind::Incomplete, VolumeOperation::Finish, name)
}
