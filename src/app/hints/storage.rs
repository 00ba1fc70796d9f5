//! Converts the errors of object stores into failures.

use crate::app::failure::{Code, Failure};
use crate::storage::{StorageError, StorageErrorKind};

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::from_error(Code::Failed, &error).hint_if(hint(&error))
    }
}

/// Returns the next step after an error of the store.
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
        StorageErrorKind::Denied => "run this as a user with permission",
        StorageErrorKind::Io | StorageErrorKind::Unreadable if error.is_remote => {
            "check the log of the server for disk errors"
        }
        StorageErrorKind::Io | StorageErrorKind::Unreadable => {
            "check the system log for disk errors"
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
        StorageErrorKind::NoProgram => {
            "install the OpenSSH client, or name another command with --ssh-command"
        }
        StorageErrorKind::Exists | StorageErrorKind::Truncated | StorageErrorKind::TooLarge => {
            return None;
        }
    })
}
