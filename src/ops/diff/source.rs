//! Where a diff stream comes from.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use crate::format::ByteString;
use crate::volume::{InputFile, InputStream};

/// A diff stream to read. A read that fails with `WouldBlock` is tried again, unless the operation is to stop.
pub enum DiffSource<'a> {
    /// A file, a device or a named pipe.
    File(InputFile),
    /// A byte stream of this name.
    Stream(Box<dyn Read + Send + 'a>, &'a str),
}

impl DiffSource<'_> {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(file) => file.name(),
            Self::Stream(_, name) => (*name).to_owned(),
        }
    }

    /// Where it is in the file system, if that can be told.
    pub(crate) fn path(&self) -> Option<ByteString> {
        match self {
            Self::File(file) => {
                let path = file.path()?.canonicalize().ok()?;
                Some(ByteString::from(path.as_os_str().as_bytes()))
            }
            Self::Stream(..) => None,
        }
    }

    /// In bytes, where that can be told.
    pub(crate) fn size(&self) -> Option<u64> {
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
