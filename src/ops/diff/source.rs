//! Where a diff stream comes from.

use std::io::{self, Read};

use crate::volume::InputFile;

/// A diff stream to read.
pub enum DiffSource<'a> {
    /// A file, a device or a named pipe.
    File(InputFile),
    /// A byte stream of this name.
    Stream(Box<dyn Read + 'a>, &'a str),
}

impl DiffSource<'_> {
    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Stream(_, name) => (*name).to_owned(),
        }
    }

    /// In bytes, where that can be told.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Stream(..) => None,
        }
    }
}

impl Read for DiffSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stream(stream, _) => stream.read(buffer),
        }
    }
}
