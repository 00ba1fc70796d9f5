//! Removes temporary files of interrupted uploads.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat};
use rustix::io::Errno;

use super::directory;
use super::temporary_file::TemporaryFile;
use crate::base::sync_directory;
use crate::storage::name::Name;
use crate::storage::temporary;

/// Removes temporary files below a directory, at any depth, that were not written to for `age` or
/// longer. Returns the number of removed files.
pub(super) fn remove(root: &OwnedFd, directory: &str, age: Duration) -> io::Result<u64> {
    let path = if directory.is_empty() { "." } else { directory };
    let mut sweep = Sweep {
        root,
        age,
        now: None,
        removed: 0,
    };
    sweep.visit(root, path, directory)?;
    Ok(sweep.removed)
}

struct Sweep<'a> {
    root: &'a OwnedFd,
    age: Duration,
    /// The time by the clock of the file system, which may differ from this host's. `None` until
    /// the first file is found.
    now: Option<SystemTime>,
    removed: u64,
}

impl Sweep<'_> {
    /// Visits a directory and those below it. The number of parts that a [`Name`] can have limits
    /// the depth.
    fn visit(&mut self, at: &OwnedFd, path: &str, prefix: &str) -> io::Result<()> {
        let opened = match directory::open_below(at, path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        let before = self.removed;
        for entry in Dir::read_from(&opened)? {
            let entry = match entry {
                Err(Errno::NOENT) => return Ok(()),
                entry => entry?,
            };
            let Ok(last) = entry.file_name().to_str() else {
                continue;
            };
            if temporary::is_name(last.as_bytes()) {
                self.remove_if_old(&opened, last)?;
                continue;
            }
            // Some file systems do not include types in a listing.
            let (FileType::Directory | FileType::Unknown) = entry.file_type() else {
                continue;
            };
            let path = match prefix {
                "" => last.to_owned(),
                prefix => format!("{prefix}/{last}"),
            };
            if Name::new(path.as_str()).is_ok() {
                self.visit(&opened, last, &path)?;
            }
        }
        if self.removed > before {
            sync_directory(&opened)?;
        }
        Ok(())
    }

    fn remove_if_old(&mut self, directory: &OwnedFd, name: &str) -> io::Result<()> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        if !FileType::from_raw_mode(stat.st_mode).is_file() || !self.is_old(&stat)? {
            return Ok(());
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            // The upload was still running, and has finished just now.
            Err(Errno::NOENT) => return Ok(()),
            removed => removed?,
        }
        self.removed += 1;
        Ok(())
    }

    fn is_old(&mut self, stat: &Stat) -> io::Result<bool> {
        let now = if let Some(now) = self.now {
            now
        } else {
            let probe = TemporaryFile::create(self.root, Mode::RUSR, None)?;
            let stat = rustix::fs::fstat(probe.file())?;
            *self.now.insert(directory::modified(&stat))
        };
        Ok(now
            .duration_since(directory::modified(stat))
            .is_ok_and(|age| age >= self.age))
    }
}
