//! Opens directories below other directories, creates them, and makes them durable.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::base::sync_directory;

/// Opens the directory with this name in `at`. Fails if it is a symbolic link.
pub(super) fn open(at: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Opens a directory below `at` without following any symbolic link in its path. An empty path
/// means `at` itself.
pub(super) fn open_below(at: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let mut parts = path.split('/');
    let first = parts.next().filter(|part| !part.is_empty());
    let mut opened = open(at, first.unwrap_or("."))?;
    for part in parts {
        opened = open(&opened, part)?;
    }
    Ok(opened)
}

/// Creates a directory, and those above it, as needed, and makes the new ones durable. The path
/// must be absolute. Succeeds if a file or anything else already has this path.
pub(super) fn create_all(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_all(path.parent().ok_or(error)?)?;
            DirBuilder::new().mode(0o700).create(path)?;
        }
        Err(error) => return Err(error),
    }
    match path.parent() {
        Some(parent) => sync_directory(File::open(parent)?),
        None => Ok(()),
    }
}

/// Returns the time of the last write to a file, by the clock of the file system. A time that
/// cannot be represented becomes 1970-01-01 UTC.
pub(super) fn modified(stat: &Stat) -> SystemTime {
    let whole = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let part = Duration::from_nanos(stat.st_mtime_nsec);
    let second = if stat.st_mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    second
        .and_then(|second| second.checked_add(part))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
