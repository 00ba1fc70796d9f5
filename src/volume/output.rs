//! A new file that is written from its front.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::error::{Operation, VolumeError};
use super::pending::{Collision, Pending};

const BUFFER: usize = 256 << 10;

/// A file that appears at its path when it is finished; until then it is `.NAME.cuttlebone-HEX` beside
/// it, and it is removed if it never is.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    pending: Pending,
}

impl OutputFile {
    /// A new file at `path`. If that exists, or does by the end, it is an error of kind
    /// [`ErrorKind::Exists`](super::ErrorKind::Exists).
    pub fn create_new(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), Collision::Refuse)
    }

    /// The same, but takes the place of the file at `path`, which is untouched until then, with its
    /// owner and mode.
    pub fn replace(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), Collision::Replace)
    }

    fn create(path: &Path, collision: Collision) -> Result<Self, VolumeError> {
        let (pending, file) = Pending::create(path, collision)?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file),
            pending,
        })
    }

    /// Makes the file durable and visible.
    pub fn finish(self) -> Result<(), VolumeError> {
        let Self { file, mut pending } = self;
        let path = pending.path().to_owned();
        let file = file
            .into_inner()
            .map_err(|error| VolumeError::writing(path.display(), error.into_error()))?;
        file.sync_all()
            .map_err(VolumeError::on(Operation::Sync, &path))?;
        pending.commit()
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
