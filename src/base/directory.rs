//! Names in a directory: makes them durable, also on file systems that can do little.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Waits until the names in a directory are on the disk. Succeeds also where the file system cannot
/// do that, as some network file systems and those in user space: their servers keep the order
/// themselves.
pub(crate) fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reports whether a file system without hard links answers a request for one with this error.
pub(crate) fn lacks_links(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::MLINK
    )
}
