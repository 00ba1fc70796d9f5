//! A regular file, read by several readers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A reader of a regular file with its own position. Other readers may read the same file.
#[derive(Debug, Clone)]
pub struct InputRange {
    file: Arc<File>,
    position: u64,
}

impl InputRange {
    pub(super) fn new(file: Arc<File>, position: u64) -> Self {
        Self { file, position }
    }

    /// Returns another reader of the same file. Its position is byte `offset` of the file.
    #[must_use]
    pub fn at(&self, offset: u64) -> Self {
        Self::new(Arc::clone(&self.file), offset)
    }
}

impl Seek for InputRange {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Read for InputRange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
