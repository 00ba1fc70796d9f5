//! What uploads that died have left in a directory.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

use super::super::{Name, temporary};
use super::{Temporary, modified, open_directory, sync_directory};

/// Removes temporary files below a directory, at any depth, that were last written longer ago than `age`.
pub(super) fn remove(root: &OwnedFd, directory: &str, age: Duration) -> io::Result<u64> {
    let path = if directory.is_empty() { "." } else { directory };
    let mut sweep = Sweep {
        root,
        age,
        now: None,
        removed: 0,
    };
    sweep.directory(root, path, directory)?;
    Ok(sweep.removed)
}

struct Sweep<'a> {
    root: &'a OwnedFd,
    age: Duration,
    /// What the clock of the file system says, which need not be this host's. Asked once something is found.
    now: Option<SystemTime>,
    removed: u64,
}

impl Sweep<'_> {
    /// The depth is bounded by the parts that a [`Name`] can have.
    fn directory(&mut self, at: &OwnedFd, path: &str, prefix: &str) -> io::Result<()> {
        let directory = match open_directory(at, path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            opened => opened?,
        };
        let before = self.removed;
        for entry in Dir::read_from(&directory)? {
            let entry = match entry {
                Err(Errno::NOENT) => return Ok(()),
                entry => entry?,
            };
            let Ok(last) = entry.file_name().to_str() else {
                continue;
            };
            if temporary::is_name(last.as_bytes()) {
                self.file(&directory, last)?;
                continue;
            }
            // Not every file system tells the type in the listing.
            let (FileType::Directory | FileType::Unknown) = entry.file_type() else {
                continue;
            };
            let path = match prefix {
                "" => last.to_owned(),
                prefix => format!("{prefix}/{last}"),
            };
            if Name::new(path.as_str()).is_ok() {
                self.directory(&directory, last, &path)?;
            }
        }
        if self.removed > before {
            sync_directory(&directory)?;
        }
        Ok(())
    }

    fn file(&mut self, directory: &OwnedFd, name: &str) -> io::Result<()> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        if !FileType::from_raw_mode(stat.st_mode).is_file() || !self.is_old(&stat)? {
            return Ok(());
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            // Its upload lives, and has come to its end.
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
            let probe = Temporary::create(self.root)?;
            *self.now.insert(modified(&rustix::fs::fstat(&probe.file)?))
        };
        Ok(now
            .duration_since(modified(stat))
            .is_ok_and(|rested| rested >= self.age))
    }
}
