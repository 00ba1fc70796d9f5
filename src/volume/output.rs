//! Streams that are written from the beginning: files that describe an image, pipes, and standard
//! output.

use std::io::{self, Write};

use super::buffered::Buffered;
use super::error::VolumeError;

/// A byte stream with a name, which is complete after [`finish`](Self::finish).
pub trait OutputStream: Write + Send {
    /// Returns the name that messages use for the stream.
    fn name(&self) -> String;

    /// Writes the buffered bytes, and makes a file durable and visible. Must be called once, after
    /// the last byte. Fails if a write has failed. In this case, a new file never appears.
    fn finish(&mut self) -> Result<(), VolumeError>;
}

/// Any writer as a buffered [`OutputStream`] with a given name. If it is dropped unfinished, the
/// bytes in its buffer are not written.
#[derive(Debug)]
pub struct NamedOutput<W> {
    writer: Buffered<W>,
    name: String,
}

impl<W: Write + Send> NamedOutput<W> {
    /// Returns `writer` as a stream with this name.
    pub fn new(writer: W, name: impl Into<String>) -> Self {
        Self {
            writer: Buffered::new(writer),
            name: name.into(),
        }
    }
}

impl<W: Write> Write for NamedOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl<W: Write + Send> OutputStream for NamedOutput<W> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn finish(&mut self) -> Result<(), VolumeError> {
        self.writer.check_complete(&self.name)?;
        let flushed = self.writer.flush();
        flushed.map_err(|error| VolumeError::writing(&self.name, error))
    }
}
