//! Converts the errors of object stores into failures.

use std::io;

use rustix::io::Errno;

use crate::app::failure::{Code, Failure};
use crate::storage::{StorageError, StorageErrorKind};

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::from_error(Code::Failed, &error).hint_if(hint(&error))
    }
}

/// Returns the next step after an error of the store. `None` if there is no advice to give.
pub(super) fn hint(error: &StorageError) -> Option<&'static str> {
    Some(match error.kind {
        StorageErrorKind::NotFound => "check the path",
        StorageErrorKind::Full => {
            "free some space and run this again; it uses the data stored so far"
        }
        StorageErrorKind::ReadOnly => "mount the file system read-write, then run this again",
        StorageErrorKind::Denied if error.is_remote => {
            "check the permissions of the login user on the server, and that the server allows \
             writing"
        }
        StorageErrorKind::Denied => denied(),
        StorageErrorKind::Io | StorageErrorKind::Unreadable if error.is_remote => {
            "check the log of the server for disk errors"
        }
        StorageErrorKind::NotAFile => {
            "move it out of the repository, and find out who put it there"
        }
        StorageErrorKind::Io | StorageErrorKind::Unreadable => {
            return error.source.as_ref().and_then(disk_errors);
        }
        StorageErrorKind::ClosedAfterLogin => {
            "run this again; if it fails each time, see the log of the server (the directory of a \
             chroot must belong to root)"
        }
        StorageErrorKind::Unavailable => "check that the store can be reached, then run this again",
        StorageErrorKind::HostKeyChanged => {
            "find out why the host key of the server changed: an attacker may intercept the \
             connection"
        }
        StorageErrorKind::LoginRefused => {
            "log in once by hand with the program “sftp”: it shows why the login fails, and asks \
             whether to trust a new server"
        }
        StorageErrorKind::Greeting => {
            "the shell of the login user must print nothing without a terminal: see its ~/.bashrc \
             and /etc/profile, or let the server force “internal-sftp”"
        }
        StorageErrorKind::NoProgram => {
            "install the OpenSSH client, or name another command with --ssh-command"
        }
        StorageErrorKind::Exists | StorageErrorKind::Truncated | StorageErrorKind::TooLarge => {
            return None;
        }
    })
}

/// Returns the next step after an error that a damaged disk or file system may have caused. `None`
/// for other errors.
pub(super) fn disk_errors(error: &io::Error) -> Option<&'static str> {
    let errno = Errno::from_io_error(error)?;
    let is_of_disk = matches!(errno, Errno::IO | Errno::BADMSG | Errno::UCLEAN);
    is_of_disk.then_some("check the system log for disk errors")
}

/// Returns the next step if this user lacks a permission.
pub(super) fn denied() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "even root may not do this: check for a read-only device, a network file system that maps \
         root to another user, “lsattr”, and SELinux or AppArmor"
    } else {
        "run this as a user with permission"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_a_disk_lead_to_the_log_of_the_system() {
        for (errno, expected) in [
            (Errno::IO, true),
            (Errno::BADMSG, true),
            (Errno::UCLEAN, true),
            (Errno::MFILE, false),
            (Errno::NAMETOOLONG, false),
            (Errno::INVAL, false),
        ] {
            let found = disk_errors(&io::Error::from(errno)).is_some();
            assert_eq!(found, expected, "{errno:?}");
        }
        assert!(disk_errors(&io::Error::other("x")).is_none());
    }
}
