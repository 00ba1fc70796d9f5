//! A file that is read from its front: no image, but a stream that describes one.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::error::{ErrorKind, Operation, Unsuitable, VolumeError};
use super::stdin::read_patiently;

/// A file, a device or a pipe. Clones read from the same position.
///
/// Only a regular file is waited for: from anything else, if nothing comes for 0.2 s, a read fails with
/// [`WouldBlock`](io::ErrorKind::WouldBlock) and may be tried again.
#[derive(Debug, Clone)]
pub struct InputFile {
    file: Arc<File>,
    path: PathBuf,
    size: Option<u64>,
}

impl InputFile {
    /// Opens what is at `path`, also a pipe that nobody has opened to write to it yet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        let failed = VolumeError::on(Operation::Open, path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| failed(error.into()))?);
        let metadata = file.metadata().map_err(&failed)?;
        if metadata.is_dir() {
            let kind = ErrorKind::Unsuitable(Unsuitable::Directory);
            return Err(VolumeError::new(kind, Operation::Open, path.display()));
        }
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            size: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// Standard input, if it is a regular file of which nothing was read yet.
    #[must_use]
    pub fn stdin() -> Option<Self> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        let unread = (&file).stream_position().ok()? == 0;
        unread.then(|| Self {
            file: Arc::new(file),
            path: "/dev/stdin".into(),
            size: Some(metadata.len()),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes. None if it is no regular file.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Its bytes from `offset` on, read with a position of their own. None if it is no regular file.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<InputRange> {
        self.size.map(|_| InputRange {
            file: Arc::clone(&self.file),
            position: offset,
        })
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.size {
            Some(_) => (&*self.file).read(buffer),
            None => read_patiently(&self.file, buffer),
        }
    }
}

/// The bytes of an [`InputFile`] from some byte on. Any number of them share one open file.
#[derive(Debug)]
pub struct InputRange {
    file: Arc<File>,
    position: u64,
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
