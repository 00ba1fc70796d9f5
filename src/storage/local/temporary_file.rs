//! A file that gets its final name only when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::owner::{Owner, give};
use crate::base::lacks_links;
use crate::storage::temporary;

/// What to do if an object already has the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfTaken {
    Replace,
    Fail,
}

/// A new file under a temporary name. If this value is dropped before the file is published, the
/// file is removed.
pub(super) struct TemporaryFile<'a> {
    directory: &'a OwnedFd,
    name: String,
    file: File,
    published: bool,
}

impl<'a> TemporaryFile<'a> {
    /// Creates a file of this mode, which belongs to `owner` if there is one.
    pub(super) fn create(
        directory: &'a OwnedFd,
        mode: Mode,
        owner: Option<Owner>,
    ) -> io::Result<Self> {
        let name = temporary::new_name()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The process that creates a file may write to it even if its mode is read-only. So the
        // file gets its final mode now. Some file systems refuse a later change of the mode.
        let file = rustix::fs::openat(directory, name.as_str(), flags, mode)?;
        let created = Self {
            directory,
            name,
            file: File::from(file),
            published: false,
        };
        give(&created.file, owner)?;
        Ok(created)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name. If another file has this name, `if_taken` decides: the call
    /// replaces that file in one step, or fails with `EEXIST`.
    pub(super) fn publish(mut self, name: &str, if_taken: IfTaken) -> io::Result<()> {
        let (at, from) = (self.directory, self.name.as_str());
        match if_taken {
            IfTaken::Replace => rustix::fs::renameat(at, from, at, name)?,
            IfTaken::Fail => {
                match rustix::fs::renameat_with(at, from, at, name, RenameFlags::NOREPLACE) {
                    // Some file systems, such as NFS, cannot rename this way, but have hard links.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                        return self.publish_by_link(name);
                    }
                    renamed => renamed?,
                }
            }
        }
        self.published = true;
        Ok(())
    }

    /// Adds a hard link, which never replaces another file. The temporary name is removed when this
    /// value is dropped.
    fn publish_by_link(self, name: &str) -> io::Result<()> {
        let (at, from) = (self.directory, self.name.as_str());
        match rustix::fs::linkat(at, from, at, name, AtFlags::empty()) {
            Err(error) if lacks_links(error) => self.publish_after_check(name),
            linked => Ok(linked?),
        }
    }

    /// Renames the file if the name is free. If another process takes the name at the same moment,
    /// its file may be replaced: a file system without hard links offers no safer way.
    fn publish_after_check(mut self, name: &str) -> io::Result<()> {
        let (at, from) = (self.directory, self.name.as_str());
        match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(at, from, at, name)?,
            found => return Err(found.err().unwrap_or(Errno::EXIST).into()),
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for TemporaryFile<'_> {
    fn drop(&mut self) {
        if !self.published {
            // If this fails, the file stays until `remove_leftovers` deletes it.
            let _ = rustix::fs::unlinkat(self.directory, &self.name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Publish = fn(TemporaryFile<'_>) -> io::Result<()>;

    #[test]
    fn a_new_name_never_replaces_a_file_and_leaves_no_temporary_name() {
        let place = tempfile::tempdir().unwrap();
        let directory = OwnedFd::from(File::open(place.path()).unwrap());
        let by_link: Publish = |file| file.publish_by_link("a");
        let after_check: Publish = |file| file.publish_after_check("a");
        let create = || TemporaryFile::create(&directory, Mode::RUSR, None).unwrap();
        for publish in [by_link, after_check] {
            publish(create()).unwrap();
            for again in [by_link, after_check] {
                let refused = again(create()).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            }
            std::fs::remove_file(place.path().join("a")).unwrap();
        }
        by_link(create()).unwrap();
        let names: Vec<_> = std::fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a"]);
    }
}
