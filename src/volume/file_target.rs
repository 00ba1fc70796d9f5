//! An image written to a file.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::base::{data_runs, lock, to_usize};

use super::data_extents::DataExtents;
use super::device_directory::refuse_file_among_devices;
use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
use super::image_writer::ImageWriter;
use super::pending::{Collision, Pending};
use super::source::ExtentIter;
use super::sys::{ImageKind, fits, read_image};
use super::target::{ReadTarget, Target, WriteOrder};
use super::users::open_for_update;
use super::witness::Witness;

/// In a new file, whole blocks of zeros of this many bytes become holes. Common file systems have
/// blocks of this size.
const BLOCK: usize = 4 << 10;

/// A file as a target: a new one, or one that is updated in place.
#[derive(Debug)]
pub struct FileTarget {
    writer: ImageWriter,
    /// Whether it is a new file, in which zeros need not be written.
    fresh: bool,
    /// The name that a new file gets when it is finished.
    pending: Mutex<Option<Pending>>,
    /// Watches a file that is updated in place.
    witness: Option<Witness>,
    /// The length of a file that is shorter than the image, until it is extended.
    shorter: Mutex<Option<u64>>,
}

impl FileTarget {
    /// Creates a sparse file of `size` bytes. It appears at `path` when it is finished. Until then,
    /// its name is `.NAME.cuttlebone-HEX`, in the same directory. If the target is dropped
    /// unfinished, the file is removed. If `path` exists, this function fails with
    /// [`VolumeErrorKind::Exists`]. If `path` exists when the file is finished, finishing it fails
    /// with the same error.
    pub fn create_new(path: impl AsRef<Path>, size: u64) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), size, Collision::Refuse)
    }

    /// Creates a file that replaces the one at `path`, if there is one, and gets the owner and mode
    /// of the old file. The old file is untouched until the new file is finished.
    pub fn replace(path: impl AsRef<Path>, size: u64) -> Result<Self, VolumeError> {
        Self::create(path.as_ref(), size, Collision::Replace)
    }

    fn create(path: &Path, size: u64, collision: Collision) -> Result<Self, VolumeError> {
        let (pending, file) = Pending::create(path, collision)?;
        let path = pending.path().to_owned();
        file.set_len(size)
            .map_err(VolumeError::on(VolumeOperation::Resize, &path))?;
        Ok(Self {
            fresh: true,
            pending: Mutex::new(Some(pending)),
            ..Self::new(file, path, size)
        })
    }

    /// Opens the file at `path` itself, with its content. A shorter file is extended to `size`
    /// bytes by the first write, or when the target is finished. A longer file is truncated when
    /// the target is finished. Fails with [`VolumeErrorKind::Busy`] if the file is in use, as far
    /// as that can be found.
    pub fn in_place(path: impl AsRef<Path>, size: u64) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        refuse_file_among_devices(path, VolumeOperation::Open)?;
        let (file, metadata) = open_for_update(path)?;
        if !metadata.is_file() {
            let kind = VolumeErrorKind::Unsuitable(Unsuitable::BlockDevice);
            let operation = VolumeOperation::Open;
            return Err(VolumeError::new(kind, operation, path.display()));
        }
        let shorter = Some(metadata.len()).filter(|len| *len < size);
        Ok(Self {
            shorter: Mutex::new(shorter),
            witness: Some(Witness::new(&file)),
            ..Self::new(file, path.to_owned(), size)
        })
    }

    fn new(file: File, path: PathBuf, size: u64) -> Self {
        Self {
            writer: ImageWriter::new(file, path, size),
            fresh: false,
            pending: Mutex::new(None),
            shorter: Mutex::new(None),
            witness: None,
        }
    }

    /// Returns the path that the image has after it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// Returns the number of bytes of the image that are within the file. The content is zero after
    /// them.
    fn held(&self) -> u64 {
        lock(&self.shorter).unwrap_or(self.size())
    }

    /// Extends a file that is shorter than the image.
    fn extend(&self) -> Result<(), VolumeError> {
        let mut shorter = lock(&self.shorter);
        if shorter.is_some() {
            let extended = self.writer.file().set_len(self.size());
            self.writer
                .settle(VolumeOperation::Resize, None, extended)?;
            *shorter = None;
        }
        Ok(())
    }

    /// Truncates a file that is longer than the image.
    fn cut(&self) -> Result<(), VolumeError> {
        let (file, size) = (self.writer.file(), self.size());
        let cut = file.metadata().and_then(|metadata| {
            if metadata.len() > size {
                file.set_len(size)?;
            }
            Ok(())
        });
        self.writer.settle(VolumeOperation::Resize, None, cut)
    }

    /// If an error reports that the file system is full, adds how much space is left on it.
    fn with_free_space(&self, mut error: VolumeError) -> VolumeError {
        if error.kind == (VolumeErrorKind::Full { free: None }) {
            let free = rustix::fs::fstatvfs(self.writer.file())
                .ok()
                .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            error.kind = VolumeErrorKind::Full { free };
        }
        error
    }
}

/// Returns the ranges of `data` that are not zero. `data` begins at `offset` in the file. The
/// ranges consist of blocks that are aligned within the file.
fn aligned_runs(offset: u64, data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let into_block = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
    let head = ((BLOCK - into_block) % BLOCK).min(data.len());
    let (first, rest) = data.split_at(head);
    let rest = data_runs(rest, BLOCK).map(move |run| head + run.start..head + run.end);
    data_runs(first, BLOCK).chain(rest)
}

impl ReadTarget for FileTarget {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        let (file, path) = (self.writer.file(), self.writer.path());
        let (size, held) = (self.size(), self.held());
        if held == size || !fits(size, offset, buffer.len() as u64) {
            return read_image(file, path, size, offset, buffer);
        }
        let there = to_usize(held.saturating_sub(offset)).min(buffer.len());
        let (there, beyond) = buffer.split_at_mut(there);
        beyond.fill(0);
        read_image(file, path, held, offset.min(held), there)
    }

    fn data_extents(&self) -> ExtentIter<'_> {
        let (file, path) = (self.writer.file(), self.writer.path());
        Box::new(DataExtents::new(file, path, ImageKind::File, self.held()))
    }
}

impl Target for FileTarget {
    fn size(&self) -> u64 {
        self.writer.size()
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    fn as_read_target(&self) -> Option<&dyn ReadTarget> {
        (!self.fresh).then_some(self)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        let len = data.len() as u64;
        self.writer
            .check_range(VolumeOperation::Write, offset, len)?;
        let written = if self.fresh {
            aligned_runs(offset, data)
                .try_for_each(|run| self.writer.write_at(offset + run.start as u64, &data[run]))
        } else {
            self.extend()
                .and_then(|()| self.writer.write_at(offset, data))
        };
        written.map_err(|error| self.with_free_space(error))
    }

    fn zero_range(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.writer
            .check_range(VolumeOperation::Zero, offset, len)?;
        if self.fresh {
            return Ok(());
        }
        self.extend()
            .and_then(|()| self.writer.zero_range(offset, len))
            .map_err(|error| self.with_free_space(error))
    }

    fn finish(&self) -> Result<(), VolumeError> {
        self.writer.check_complete()?;
        let resized = self.extend().and_then(|()| self.cut());
        resized
            .and_then(|()| self.writer.sync())
            .map_err(|error| self.with_free_space(error))?;
        if let Some(witness) = &self.witness {
            self.writer.check_alone(witness)?;
        }
        let mut pending = lock(&self.pending);
        pending.as_mut().map_or(Ok(()), Pending::commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_aligned_to_the_file() {
        let mut data = vec![0; 4 * BLOCK];
        data[10] = 1;
        data[2 * BLOCK + 5] = 1;
        let runs = |offset| aligned_runs(offset, &data).collect::<Vec<_>>();
        assert_eq!(runs(0), [0..BLOCK, 2 * BLOCK..3 * BLOCK]);
        assert_eq!(runs(BLOCK as u64 * 7), runs(0));
        assert_eq!(runs(4095), [1..BLOCK + 1, 2 * BLOCK + 1..3 * BLOCK + 1]);
        assert_eq!(
            runs(100),
            [0..BLOCK - 100, 2 * BLOCK - 100..3 * BLOCK - 100]
        );
        assert_eq!(aligned_runs(5, &[0, 0, 1]).collect::<Vec<_>>(), vec![0..3]);
        assert_eq!(aligned_runs(5, &[]).count(), 0);
    }
}
