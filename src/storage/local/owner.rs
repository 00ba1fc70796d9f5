//! The owner of files and directories that root stores in the repository of another user.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;

/// The user and the group to which new files and directories are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// Returns the owner of the directory of a store, if this process is root and the directory is
    /// another user's. Otherwise that user could neither read the files that root stores, nor write
    /// to the directories that root creates.
    pub(super) fn of(root: &OwnedFd) -> io::Result<Option<Self>> {
        let stat = rustix::fs::fstat(root)?;
        let is_root = rustix::process::geteuid().is_root();
        Ok((is_root && stat.st_uid != 0).then_some(Self {
            user: stat.st_uid,
            group: stat.st_gid,
        }))
    }
}

/// Gives a file or directory to `owner`, if there is one.
pub(super) fn give(file: impl AsFd, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some(Owner { user, group }) => fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}
