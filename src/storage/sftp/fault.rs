//! What can go wrong on the way to a server, and what it means for a store.

use std::io;

use russh_sftp::protocol::StatusCode;

use super::super::ErrorKind;

/// Why something did not come about.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The server has answered: no. With its words.
    Refused(StatusCode, String),
    /// The connection is gone, whether the server has done it or not.
    Lost(String),
    /// Decided here, or found out.
    Known(ErrorKind, String),
}

impl Fault {
    pub(super) fn known(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self::Known(kind, text.into())
    }

    /// The server has answered so.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(code, _) if *code == status)
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(StatusCode::NoSuchFile, _) => ErrorKind::NotFound,
            Self::Refused(StatusCode::PermissionDenied, _) => ErrorKind::Denied,
            Self::Refused(StatusCode::Eof, _) => ErrorKind::Truncated,
            Self::Refused(..) => ErrorKind::Io,
            Self::Lost(_) => ErrorKind::Gone,
            Self::Known(kind, _) => *kind,
        }
    }

    /// As the cause of a [`StorageError`](super::super::StorageError).
    pub(super) fn into_source(self) -> io::Error {
        io::Error::other(match self {
            Self::Refused(StatusCode::Failure, words) if words.is_empty() || words == "Failure" => {
                "the server does not say why".to_owned()
            }
            Self::Refused(code, words) if words.is_empty() => format!("the server says: {code}"),
            Self::Refused(_, words) => {
                let plain = words.chars().filter(|c| !c.is_control());
                format!("the server says: {}", plain.take(200).collect::<String>())
            }
            Self::Lost(text) | Self::Known(_, text) => text,
        })
    }
}
