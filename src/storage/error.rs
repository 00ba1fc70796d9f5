//! Errors of a store.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The operation that was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StorageOperation {
    Open,
    Put,
    Get,
    Size,
    List,
    Delete,
    RemoveLeftovers,
}

impl fmt::Display for StorageOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Put => "store",
            Self::Get => "read",
            Self::Size => "examine",
            Self::List => "list",
            Self::Delete => "delete",
            Self::RemoveLeftovers => "remove leftovers from",
        })
    }
}

/// The reason why an operation failed. Callers decide by the kind, never by the text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// The object or directory does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// The object exists, but the store cannot read it, for example because of a bad sector.
    Unreadable,
    /// Something other than a file is in the place of the object.
    NotAFile,
    /// The object ends before the requested range does.
    Truncated,
    /// The object is larger than the caller accepts.
    TooLarge,
    /// The store has no space left, or a quota is used up.
    Full,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The user has no permission for the operation.
    Denied,
    /// The store cannot be reached, did not answer in time, or the connection was lost.
    Unavailable,
    /// The server accepted the login and then closed the connection before it answered SFTP
    /// requests.
    ClosedAfterLogin,
    /// The server refused the login or offers no SFTP, or its host key is not known.
    LoginRefused,
    /// The server's host key is not the one that was recorded for it.
    HostKeyChanged,
    /// The server sent other data before its first SFTP message.
    Greeting,
    /// The program that makes the connection cannot be run.
    NoProgram,
    /// The medium or the server reported another error.
    Io,
}

/// The class of an error, which decides how callers react to it. Several [kinds](StorageErrorKind)
/// have the same class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorClass {
    /// The object does not exist.
    Absent,
    /// This object cannot be used. Other objects may be undamaged.
    Damaged,
    /// The same operation may succeed later.
    Transient,
    /// Access is refused. Repeating does not help until someone grants it.
    Denied,
    /// The store needs more space.
    Full,
    /// Repeating does not help.
    Permanent,
}

impl StorageErrorKind {
    /// Returns the class of errors that this kind belongs to.
    #[must_use]
    pub const fn class(self) -> StorageErrorClass {
        match self {
            Self::NotFound => StorageErrorClass::Absent,
            Self::Unreadable | Self::NotAFile | Self::Truncated | Self::TooLarge => {
                StorageErrorClass::Damaged
            }
            Self::Unavailable | Self::ClosedAfterLogin => StorageErrorClass::Transient,
            Self::Denied | Self::ReadOnly | Self::LoginRefused | Self::HostKeyChanged => {
                StorageErrorClass::Denied
            }
            Self::Full => StorageErrorClass::Full,
            Self::Exists | Self::Greeting | Self::NoProgram | Self::Io => {
                StorageErrorClass::Permanent
            }
        }
    }

    /// Returns the kind of an error that the operating system reported during `operation`.
    pub(super) fn from_io(operation: StorageOperation, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            // In a put, this error has another cause: the file system or a limit of the process
            // allows no larger files.
            io::ErrorKind::FileTooLarge if operation != StorageOperation::Put => Self::TooLarge,
            // The server of a network file system does not answer.
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NotConnected => Self::Unavailable,
            _ if operation == StorageOperation::Get && is_bad_medium(error) => Self::Unreadable,
            _ => Self::Io,
        }
    }
}

/// Reports whether an error means that a file's own blocks or metadata are bad. `EIO` reports a bad
/// sector, `EBADMSG` a wrong checksum, and `EUCLEAN` a damaged file system.
fn is_bad_medium(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN)
    )
}

/// An operation on a store failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {object} in {location}")]
pub struct StorageError {
    /// The reason why it failed.
    pub kind: StorageErrorKind,
    /// The operation that failed.
    pub operation: StorageOperation,
    /// The object or directory that the operation was for.
    pub object: String,
    /// The store: [`Backend::location`](super::Backend::location), with details of its disk if the
    /// disk is full.
    pub location: String,
    /// Whether the store is on another host.
    pub is_remote: bool,
    /// The error of the operating system, or the server's message. `None` for a store in memory.
    #[source]
    pub source: Option<io::Error>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_medium_means_damage_of_the_object_that_was_read() {
        for errno in [Errno::IO, Errno::BADMSG, Errno::UCLEAN] {
            let error = io::Error::from(errno);
            let read = StorageErrorKind::from_io(StorageOperation::Get, &error);
            assert_eq!(read, StorageErrorKind::Unreadable);
            assert_eq!(read.class(), StorageErrorClass::Damaged);
            let put = StorageErrorKind::from_io(StorageOperation::Put, &error);
            assert_eq!(put, StorageErrorKind::Io);
        }
        // An object that is too large for the file system is not damaged.
        let put = StorageErrorKind::from_io(StorageOperation::Put, &Errno::FBIG.into());
        assert_eq!(put.class(), StorageErrorClass::Permanent);
        let busy = io::Error::from(Errno::MFILE);
        let kind = StorageErrorKind::from_io(StorageOperation::Get, &busy);
        assert_eq!(kind, StorageErrorKind::Io);
    }
}
