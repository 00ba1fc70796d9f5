//! A raw image to be read: a file or a block device.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags};

use super::data_extents::DataExtents;
use super::error::{ErrorKind, Operation, Unsuitable, VolumeError};
use super::identity::{ImageIdentity, nanoseconds};
use super::source::{ExtentIter, Gaps, ImageSource, Source, SourceData};
use super::sys::{ImageKind, image_size, open_image, read_image};

/// A raw file or block device, opened for reading only. Any number of threads may read.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    path: PathBuf,
    identity: ImageIdentity,
}

impl RawImage {
    /// Opens the image at `path`; anything but a file or block device is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        let failed = VolumeError::on(Operation::Open, path);
        let (file, metadata, kind) = open_image(path, OFlags::RDONLY, false)?;
        let size = image_size(&file, kind).map_err(&failed)?;
        let canonical = path.canonicalize().map_err(&failed)?;
        if size == 0 && kind == ImageKind::File {
            let failed = VolumeError::on(Operation::Read, path);
            // Files that the system makes up tell no size; their content must not pass for nothing.
            if file.read_at(&mut [0], 0).map_err(&failed)? > 0 {
                let kind = ErrorKind::Unsuitable(Unsuitable::Unsized);
                return Err(VolumeError::new(kind, Operation::Read, path.display()));
            }
        }
        // Only a hint: where it is refused, reading is slower and no worse.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self {
            file,
            path: path.to_owned(),
            identity: ImageIdentity::new(canonical, kind, size, &metadata),
        })
    }

    /// In bytes, when it was opened.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// What holds the image.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.identity.kind
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn identity(&self) -> &ImageIdentity {
        &self.identity
    }

    /// Fills `buffer` with the bytes from `offset` on, all of them or it fails: also where the
    /// image has shrunk since it was opened.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        read_image(&self.file, &self.path, self.size(), offset, buffer)
    }

    /// Where data may lie, in ascending order; between the extents the image is zero. They are
    /// found one by one, so a sparse file costs what it holds, whatever its size. Where holes
    /// cannot be told, as on a device, all is one extent.
    #[must_use]
    pub fn data_extents(&self) -> DataExtents<'_> {
        DataExtents::new(&self.file, &self.path, self.kind(), self.size())
    }

    /// Whether size or time of last change are no longer what they were when it was opened: what
    /// was read may then be of no single moment. Of a device only the size can be told.
    pub fn changed_meanwhile(&self) -> Result<bool, VolumeError> {
        let failed = VolumeError::on(Operation::Read, &self.path);
        let then = &self.identity;
        if image_size(&self.file, then.kind).map_err(&failed)? != then.size {
            return Ok(true);
        }
        let now = self.file.metadata().map_err(&failed)?;
        let mtime_ns = nanoseconds(now.mtime(), now.mtime_nsec());
        Ok(then.kind == ImageKind::File && mtime_ns != then.mtime_ns)
    }
}

impl ImageSource for RawImage {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn size(&self) -> u64 {
        self.identity.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        read_image(&self.file, &self.path, self.identity.size, offset, buffer)
    }

    fn extents(&self) -> ExtentIter<'_> {
        Box::new(self.data_extents())
    }

    fn gaps(&self) -> Gaps {
        Gaps::Zeros
    }

    fn identity(&self) -> Option<&ImageIdentity> {
        Some(&self.identity)
    }

    fn changed_since_opened(&self) -> Result<bool, VolumeError> {
        self.changed_meanwhile()
    }
}

impl Source for RawImage {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        Ok(SourceData::Image(self))
    }
}
