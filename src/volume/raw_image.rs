//! A raw image to be read: a file or a block device.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags};

use super::data_extents::DataExtents;
use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
use super::identity::{ImageIdentity, nanoseconds};
use super::source::{ExtentIter, Gaps, ImageSource, Source, SourceData};
use super::sys::{ImageKind, image_size, open_image, read_image};
use super::updates_times::updates_times;
use super::users::writer_of;

/// A raw image: a file or block device, opened for reading only.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    path: PathBuf,
    identity: ImageIdentity,
}

impl RawImage {
    /// Opens the image at `path`, which must be a file or a block device.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VolumeError> {
        let path = path.as_ref();
        let failed = VolumeError::on(VolumeOperation::Open, path);
        let (file, metadata, kind) = open_image(path, OFlags::RDONLY, false)?;
        let size = image_size(&file, kind).map_err(&failed)?;
        let canonical = path.canonicalize().map_err(&failed)?;
        if size == 0 && kind == ImageKind::File {
            let failed = VolumeError::on(VolumeOperation::Read, path);
            // Files in /proc have content although their size is 0. Refuse them, since they would
            // seem empty.
            if file.read_at(&mut [0], 0).map_err(&failed)? > 0 {
                let kind = VolumeErrorKind::Unsuitable(Unsuitable::Unsized);
                return Err(VolumeError::new(
                    kind,
                    VolumeOperation::Read,
                    path.display(),
                ));
            }
        }
        let updates_times = updates_times(&file);
        // Only a hint: without it, reads may be slower.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Ok(Self {
            file,
            path: path.to_owned(),
            identity: ImageIdentity::new(canonical, kind, size, &metadata, updates_times),
        })
    }

    /// Returns whether it is a file or a device.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.identity.kind
    }

    /// Describes a use of the image that may change it while it is read, such as a mount. The
    /// result is a sentence without a full stop. Returns `None` if no such use is known: the system
    /// does not report all of them.
    #[must_use]
    pub fn writer(&self) -> Option<String> {
        writer_of(&self.file.metadata().ok()?)
    }

    /// Returns the path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
        let size = self.identity.size;
        Box::new(DataExtents::new(&self.file, &self.path, self.kind(), size))
    }

    fn gaps(&self) -> Gaps {
        Gaps::Zeros
    }

    fn identity(&self) -> Option<&ImageIdentity> {
        Some(&self.identity)
    }

    fn changed_since_opened(&self) -> Result<bool, VolumeError> {
        let failed = VolumeError::on(VolumeOperation::Read, &self.path);
        let then = &self.identity;
        if image_size(&self.file, then.kind).map_err(&failed)? != then.size {
            return Ok(true);
        }
        let now = self.file.metadata().map_err(&failed)?;
        let mtime_ns = nanoseconds(now.mtime(), now.mtime_nsec());
        let ctime_ns = nanoseconds(now.ctime(), now.ctime_nsec());
        Ok(then.kind == ImageKind::File
            && if then.updates_times {
                // Compare both times: a program can set the first one, but not the second one.
                (mtime_ns, ctime_ns) != (then.mtime_ns, then.ctime_ns)
            } else {
                // Some file systems return the current time instead of a stored one. So compare the
                // time only if it was not near the current time when the image was opened.
                then.settled && mtime_ns != then.mtime_ns
            })
    }
}

impl Source for RawImage {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        Ok(SourceData::Image(self))
    }
}
