//! The identity of an image and its content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sys::ImageKind;

/// The coarsest resolution of times in common file systems (FAT), in nanoseconds. If a second
/// change follows the first one within this time, the times may stay the same.
const CLOCK_STEP_NS: i64 = 2_000_000_000;

/// Identifies an image, and the state of its content when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIdentity {
    /// The path, without symbolic links.
    pub path: PathBuf,
    /// Whether it is a file or a device.
    pub kind: ImageKind,
    /// The number of the device that holds the file's file system, or of the device itself.
    pub device: u64,
    /// The file's inode; 0 for a device, since the node of a device is not permanent.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, in nanoseconds since 1970. Programs cannot set this
    /// time.
    pub ctime_ns: i64,
    /// Whether the last change was long enough ago that any later one changes the times.
    pub settled: bool,
    /// Whether the file is on a file system that is known to change these times with every write.
    pub updates_times: bool,
}

impl ImageIdentity {
    pub(super) fn new(
        path: PathBuf,
        kind: ImageKind,
        size: u64,
        metadata: &Metadata,
        updates_times: bool,
    ) -> Self {
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
            updates_times,
        }
    }

    /// Returns whether path, device, inode, size and times are the same as in `earlier`.
    /// This proves equal content only if both identities are from a file system that
    /// [updates these times](Self::updates_times). Always false if `earlier` is not
    /// [settled](Self::settled), and for a device, since the time of its last write is unknown.
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

/// Joins the two parts of a time. Times before 1678 or after 2262 are replaced by the first or the
/// last valid value.
pub(super) fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
