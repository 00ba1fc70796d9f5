//! Streams that are read from the beginning: pipes, standard input, and files that contain a stream
//! which describes an image, such as an RBD diff.

use std::io::{self, Read};
use std::path::Path;

use super::input_range::InputRange;

/// A byte stream with a name.
///
/// If no bytes arrive for a while, a read may fail with [`WouldBlock`](io::ErrorKind::WouldBlock),
/// and the caller may try again. In between, the caller can test whether it was cancelled. Any
/// other error is final.
pub trait InputStream: Read + Send {
    /// Returns the name that messages use for the stream.
    fn name(&self) -> String;

    /// Returns the kind of the stream that backup records state.
    fn kind(&self) -> &'static str {
        "stdin"
    }

    /// Returns the path by which it was opened, if it has one.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// Returns the length of the whole stream in bytes, if it is known in advance.
    fn size(&self) -> Option<u64> {
        None
    }

    /// Returns a second reader of the same bytes, which starts at the first byte and has its own
    /// position. Returns `None` if the stream can be read only once.
    fn reread(&self) -> Option<InputRange> {
        None
    }
}

impl<S: InputStream + ?Sized> InputStream for Box<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn path(&self) -> Option<&Path> {
        (**self).path()
    }

    fn size(&self) -> Option<u64> {
        (**self).size()
    }

    fn reread(&self) -> Option<InputRange> {
        (**self).reread()
    }
}

/// Any reader as an [`InputStream`] with a given name.
#[derive(Debug)]
pub struct NamedInput<R> {
    reader: R,
    name: String,
}

impl<R: Read + Send> NamedInput<R> {
    /// Returns `reader` as a stream with this name.
    pub fn new(reader: R, name: impl Into<String>) -> Self {
        Self {
            reader,
            name: name.into(),
        }
    }
}

impl<R: Read> Read for NamedInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl<R: Read + Send> InputStream for NamedInput<R> {
    fn name(&self) -> String {
        self.name.clone()
    }
}
