//! Makes the names in a directory durable, and detects file systems without hard links.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Waits until the names in a directory are on the disk. Also succeeds if the file system cannot
/// sync a directory. Some network file systems and file systems in user space cannot: their servers
/// keep the order of changes themselves.
pub(crate) fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a hard link may have failed with `error` because the file system supports none.
pub(crate) fn lacks_links(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::MLINK
    )
}
