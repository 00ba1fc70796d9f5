//! What identifies an image and its content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sys::ImageKind;

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
    pub(super) fn new(path: PathBuf, kind: ImageKind, size: u64, metadata: &Metadata) -> Self {
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
pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
