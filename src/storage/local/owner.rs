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
    /// Returns the owner of the directory of a store, if this process is root and the owner is
    /// another user. Returns `None` in all other cases. Root gives new files and directories to
    /// this owner, who could otherwise neither read the files nor write to the directories.
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
