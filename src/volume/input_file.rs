//! A file that contains a stream, such as an RBD diff, and is read from its beginning.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
use super::input::InputStream;
use super::input_range::InputRange;
use super::stdin::read_or_would_block;

/// A file, a device or a pipe that is read from its beginning.
///
/// A read of a regular file waits for its bytes. A read of anything else fails with
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if no bytes arrive within 0.2 s, and may be repeated.
#[derive(Debug)]
pub struct InputFile {
    file: Arc<File>,
    path: PathBuf,
    size: Option<u64>,
}

impl InputFile {
    /// Opens the file at `path`. A named pipe is opened even if no process writes to it yet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        let failed = VolumeError::on(VolumeOperation::Open, path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| failed(error.into()))?);
        let metadata = file.metadata().map_err(&failed)?;
        if metadata.is_dir() {
            let kind = VolumeErrorKind::Unsuitable(Unsuitable::Directory);
            return Err(VolumeError::new(
                kind,
                VolumeOperation::Open,
                path.display(),
            ));
        }
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            size: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// Returns standard input, if it is a regular file and no byte of it was read yet.
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
}

impl InputStream for InputFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn size(&self) -> Option<u64> {
        self.size
    }

    fn reread(&self) -> Option<InputRange> {
        self.size
            .map(|_| InputRange::new(Arc::clone(&self.file), 0))
    }
}

impl Read for InputFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.size {
            Some(_) => (&*self.file).read(buffer),
            None => read_or_would_block(&self.file, buffer),
        }
    }
}
