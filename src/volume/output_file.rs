//! A new file that is written from its beginning.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::buffered::Buffered;
use super::error::{VolumeError, VolumeOperation};
use super::output::OutputStream;
use super::pending::{Collision, Pending};

/// A file that appears at its path when it is finished. Until then, its name is
/// `.NAME.cuttlebone-HEX`, in the same directory. Dropping this value unfinished removes the file.
#[derive(Debug)]
pub struct OutputFile {
    file: Buffered<File>,
    pending: Pending,
}

impl OutputFile {
    /// Creates a new file at `path`. If `path` exists, this function fails with
    /// [`VolumeErrorKind::Exists`](super::VolumeErrorKind::Exists). If `path` exists when the file
    /// is finished, finishing it fails with the same error.
    pub fn create_new(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), Collision::Refuse)
    }

    /// Creates a file that replaces the one at `path`, if there is one, and gets the owner and mode
    /// of the old file. The old file is untouched until the new file is finished.
    pub fn replace(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), Collision::Replace)
    }

    fn create(path: &Path, collision: Collision) -> Result<Self, VolumeError> {
        let (pending, file) = Pending::create(path, collision)?;
        Ok(Self {
            file: Buffered::new(file),
            pending,
        })
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

impl OutputStream for OutputFile {
    fn name(&self) -> String {
        self.pending.path().display().to_string()
    }

    fn finish(&mut self) -> Result<(), VolumeError> {
        self.file.check_complete(&self.name())?;
        let flushed = self.file.flush();
        flushed.map_err(|error| VolumeError::writing(self.pending.path().display(), error))?;
        let synced = self.file.run(|file| file.sync_all());
        synced.map_err(VolumeError::on(VolumeOperation::Sync, self.pending.path()))?;
        self.pending.commit()
    }
}
