//! The extents of a file or device that may contain data.

use std::fs::File;
use std::io;
use std::iter::FusedIterator;
use std::ops::Range;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};
use super::sys::ImageKind;

/// Finds the extents that may contain data, one by one, in ascending order. Between them, the
/// content is zero. If holes cannot be found, for example on a device, there is only one extent.
/// The iterator ends after an error.
#[derive(Debug)]
pub(super) struct DataExtents<'a> {
    file: &'a File,
    path: &'a Path,
    size: u64,
    position: u64,
    /// Whether the file system can report holes, as far as known.
    sparse: bool,
}

impl<'a> DataExtents<'a> {
    /// Examines the first `size` bytes of `file`, which was opened as `path`.
    pub(super) fn new(file: &'a File, path: &'a Path, kind: ImageKind, size: u64) -> Self {
        Self {
            file,
            path,
            size,
            position: 0,
            sparse: kind == ImageKind::File,
        }
    }

    /// Returns the first extent from the position on, and moves the position to its end. Returns
    /// `None` if no data follows.
    fn advance(&mut self) -> Result<Option<Range<u64>>, VolumeError> {
        let size = self.size;
        if self.position >= size {
            return Ok(None);
        }
        if !self.sparse {
            let rest = self.position..size;
            self.position = size;
            return Ok(Some(rest));
        }
        // A seek moves the position of the descriptor. Other threads do not use this position: each
        // of their seeks and reads states its own offset.
        let start = match rustix::fs::seek(self.file, SeekFrom::Data(self.position)) {
            Ok(start) => start.max(self.position),
            // There is no data after the position, or the file ends before the position now.
            Err(Errno::NXIO) => {
                self.still_whole()?;
                size
            }
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY) => {
                self.sparse = false;
                return self.advance();
            }
            Err(error) => return Err(self.failed(error)),
        };
        if start >= size {
            self.position = size;
            return Ok(None);
        }
        let end = match rustix::fs::seek(self.file, SeekFrom::Hole(start)) {
            // The two calls contradict each other, so treat the rest as data.
            Ok(end) if end <= start => size,
            Ok(end) => end.min(size),
            // The end of a file counts as a hole, so the file seems to end before `start`.
            Err(Errno::NXIO) => {
                self.still_whole()?;
                size
            }
            Err(error) => return Err(self.failed(error)),
        };
        self.position = end;
        Ok(Some(start..end))
    }

    /// Fails if the file is shorter than before, since a lost end must not be treated as a hole.
    fn still_whole(&self) -> Result<(), VolumeError> {
        let metadata = self.file.metadata();
        let now = metadata.map_err(|error| self.failed(error))?.len();
        if now < self.size {
            let kind = VolumeErrorKind::Shrunk { size: now };
            let path = self.path.display();
            return Err(VolumeError::new(kind, VolumeOperation::FindData, path).at(self.position));
        }
        Ok(())
    }

    fn failed(&self, error: impl Into<io::Error>) -> VolumeError {
        VolumeError::io(VolumeOperation::FindData, self.path.display(), error).at(self.position)
    }
}

impl Iterator for DataExtents<'_> {
    type Item = Result<Range<u64>, VolumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let extent = self.advance();
        if extent.is_err() {
            self.position = self.size;
        }
        extent.transpose()
    }
}

impl FusedIterator for DataExtents<'_> {}
