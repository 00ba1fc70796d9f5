//! A raw image to be read: a file or a block device.

use std::fs::{File, Metadata};
use std::io;
use std::iter::FusedIterator;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, OFlags, SeekFrom};
use rustix::io::Errno;

use super::error::{ErrorKind, Operation, Unsuitable, VolumeError};
use super::sys::{ImageKind, image_size, open_image, read_image};

/// The coarsest step in which file systems in use keep times (FAT). Within it of a change, a
/// further change may leave the times as they are.
const CLOCK_STEP_NS: i64 = 2_000_000_000;

/// What an image was when it was opened. Two that agree are, for a file, the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdentity {
    /// Where it lies, without symbolic links.
    pub path: PathBuf,
    /// What holds it.
    pub kind: ImageKind,
    /// The file system that a file lies in, or the device itself.
    pub device: u64,
    /// The file's number in its file system; zero for a device, whose node comes and goes.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, in nanoseconds since 1970; nobody can set it back.
    pub ctime_ns: i64,
    /// Whether the last change lay far enough back that any later one shows in the times.
    pub settled: bool,
}

impl ImageIdentity {
    fn new(path: PathBuf, kind: ImageKind, size: u64, metadata: &Metadata) -> Self {
        let mtime_ns = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
        let ctime_ns = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
        let now_ns = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|now| i64::try_from(now.as_nanos()).ok())
            .unwrap_or(i64::MIN);
        let last = mtime_ns.max(ctime_ns);
        let (device, inode) = match kind {
            ImageKind::File => (metadata.dev(), metadata.ino()),
            ImageKind::Device => (metadata.rdev(), 0),
        };
        Self {
            path,
            kind,
            device,
            inode,
            size,
            mtime_ns,
            ctime_ns,
            settled: last.saturating_add(CLOCK_STEP_NS) < now_ns,
        }
    }

    /// Whether the content is certainly what it was when `earlier` was taken. Never of a device:
    /// nothing tells when that was last written.
    #[must_use]
    pub fn unchanged_since(&self, earlier: &Self) -> bool {
        let stamp = |of: &Self| (of.device, of.inode, of.size, of.mtime_ns, of.ctime_ns);
        earlier.settled
            && self.kind == ImageKind::File
            && earlier.kind == ImageKind::File
            && self.path == earlier.path
            && stamp(self) == stamp(earlier)
    }
}

/// Times before 1678 and after 2262 are the first and last there are.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// A raw file or block device, opened for reading only. Any number of threads may read.
#[derive(Debug)]
pub struct ImageSource {
    file: File,
    path: PathBuf,
    identity: ImageIdentity,
}

impl ImageSource {
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
        DataExtents {
            source: self,
            position: 0,
            sparse: self.kind() == ImageKind::File,
        }
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

/// The extents of an image that may hold data: see [`ImageSource::data_extents`]. It ends behind
/// the first error.
#[derive(Debug)]
pub struct DataExtents<'a> {
    source: &'a ImageSource,
    position: u64,
    /// Whether holes can be asked for.
    sparse: bool,
}

impl DataExtents<'_> {
    /// The first extent from the position on, moving behind it.
    fn advance(&mut self) -> Result<Option<Range<u64>>, VolumeError> {
        let size = self.source.size();
        if self.position >= size {
            return Ok(None);
        }
        if !self.sparse {
            let rest = self.position..size;
            self.position = size;
            return Ok(Some(rest));
        }
        // Each question carries its own offset and the answer is not kept in the descriptor's
        // position, so threads that read, or another walk, are not disturbed.
        let start = match rustix::fs::seek(&self.source.file, SeekFrom::Data(self.position)) {
            Ok(start) => start.max(self.position),
            // No data behind the position, or no longer a position within the file.
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
        let end = match rustix::fs::seek(&self.source.file, SeekFrom::Hole(start)) {
            // A hole at once contradicts the answer before; whoever does that is not believed.
            Ok(end) if end <= start => size,
            Ok(end) => end.min(size),
            // The end of a file counts as a hole, so this file has lost its end.
            Err(Errno::NXIO) => {
                self.still_whole()?;
                size
            }
            Err(error) => return Err(self.failed(error)),
        };
        self.position = end;
        Ok(Some(start..end))
    }

    /// Fails if the file is shorter than it was: what is gone must not pass for a hole.
    fn still_whole(&self) -> Result<(), VolumeError> {
        let now = self
            .source
            .file
            .metadata()
            .map_err(|error| self.failed(error))?
            .len();
        if now < self.source.size() {
            let kind = ErrorKind::Shrunk { size: now };
            let path = self.source.path.display();
            return Err(VolumeError::new(kind, Operation::FindData, path).at(self.position));
        }
        Ok(())
    }

    fn failed(&self, error: impl Into<io::Error>) -> VolumeError {
        VolumeError::io(Operation::FindData, self.source.path.display(), error).at(self.position)
    }
}

impl Iterator for DataExtents<'_> {
    type Item = Result<Range<u64>, VolumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let extent = self.advance();
        if extent.is_err() {
            self.position = self.source.size();
        }
        extent.transpose()
    }
}

impl FusedIterator for DataExtents<'_> {}
