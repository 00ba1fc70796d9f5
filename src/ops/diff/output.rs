//! Where a diff stream goes.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::ops::error::OpsError;
use crate::volume::{OutputFile, OutputStream};

/// Bytes of a byte stream that are written at once.
const BUFFER: usize = 256 << 10;

/// Where a diff that is made goes.
pub enum DiffOutput<'a> {
    /// A new file.
    New(&'a Path),
    /// A file that may exist and is replaced once the new one is whole.
    Replace(&'a Path),
    /// A byte stream of this name.
    Stream(&'a mut (dyn Write + Send), &'a str),
}

impl DiffOutput<'_> {
    /// Opens it for `write`, which is told what messages call it, and writes and flushes the diff. If that
    /// fails, no file is left.
    pub(super) fn fill<T>(
        self,
        write: impl FnOnce(&mut (dyn Write + Send), &str) -> Result<T, OpsError>,
    ) -> Result<T, OpsError> {
        let (mut file, path) = match self {
            Self::New(path) => (OutputFile::create_new(path)?, path),
            Self::Replace(path) => (OutputFile::replace(path)?, path),
            Self::Stream(stream, name) => {
                return write(&mut BufWriter::with_capacity(BUFFER, stream), name);
            }
        };
        let result = write(&mut file, &path.display().to_string())?;
        file.finish()?;
        Ok(result)
    }
}
