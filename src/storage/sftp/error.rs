//! Errors of SFTP operations. Each has one of the kinds of storage errors.

use std::io;

use russh_sftp::protocol::StatusCode;

use crate::storage::error::StorageErrorKind;

/// The reason why an operation failed.
#[derive(Debug, Clone)]
pub(super) enum SftpError {
    /// The server answered with this status and message.
    Refused(StatusCode, String),
    /// The connection is lost, for this reason. The server may have executed the request.
    Lost(String),
    /// An error whose kind this program has found, and its message.
    Known(StorageErrorKind, String),
}

impl SftpError {
    pub(super) fn known(kind: StorageErrorKind, text: impl Into<String>) -> Self {
        Self::Known(kind, text.into())
    }

    /// Reports whether the server answered with this status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(code, _) if *code == status)
    }

    pub(super) fn kind(&self) -> StorageErrorKind {
        match self {
            Self::Refused(StatusCode::NoSuchFile, _) => StorageErrorKind::NotFound,
            Self::Refused(StatusCode::PermissionDenied, _) => StorageErrorKind::Denied,
            Self::Refused(StatusCode::Eof, _) => StorageErrorKind::Truncated,
            Self::Refused(..) => StorageErrorKind::Io,
            Self::Lost(_) => StorageErrorKind::Unavailable,
            Self::Known(kind, _) => *kind,
        }
    }

    /// Converts the error of a read of an open regular file. The status “Failure” means that the
    /// server could not read the file from its disk, so the object is damaged.
    pub(super) fn while_reading(self) -> Self {
        if self.is(StatusCode::Failure) {
            Self::Known(StorageErrorKind::Unreadable, self.message())
        } else {
            self
        }
    }

    /// Returns the cause for a [`StorageError`](crate::storage::StorageError).
    pub(super) fn into_source(self) -> io::Error {
        io::Error::other(self.message())
    }

    fn message(self) -> String {
        match self {
            Self::Refused(StatusCode::Failure, text) if text.is_empty() || text == "Failure" => {
                "the server gives no reason".to_owned()
            }
            Self::Refused(code, text) if text.is_empty() => format!("the server reports: {code}"),
            Self::Refused(_, text) => {
                let plain = text.chars().filter(|c| !c.is_control());
                let plain: String = plain.take(200).collect();
                format!("the server reports: {plain}")
            }
            Self::Lost(text) | Self::Known(_, text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_is_damage_of_the_object_and_a_lost_connection_is_not() {
        let failed = SftpError::Refused(StatusCode::Failure, "Failure".to_owned());
        assert_eq!(failed.kind(), StorageErrorKind::Io);
        let read = failed.while_reading();
        assert_eq!(read.kind(), StorageErrorKind::Unreadable);
        assert_eq!(read.into_source().to_string(), "the server gives no reason");
        let lost = SftpError::Lost(String::new()).while_reading();
        assert_eq!(lost.kind(), StorageErrorKind::Unavailable);
    }
}
