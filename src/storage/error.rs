//! What can go wrong with a store.

use std::fmt;
use std::io;

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Open,
    Put,
    Get,
    Size,
    List,
    Delete,
    Tidy,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Put => "store",
            Self::Get => "read",
            Self::Size => "look at",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Tidy => "remove leftovers from",
        })
    }
}

/// Why it failed: what a caller decides by. Never match on text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object, or no such place.
    NotFound,
    /// The name is taken.
    Exists,
    /// No space, or over a quota.
    Full,
    /// The file system cannot be written.
    ReadOnly,
    /// Not permitted.
    Denied,
    /// The object ends before what was asked for.
    Truncated,
    /// The object is larger than anything of its kind may be.
    TooLarge,
    /// The other side is gone: a connection that was lost, a store that no longer answers.
    Gone,
    /// The other side does not let us in, or is not known to be who it should be.
    Login,
    /// What connects cannot be run.
    NoProgram,
    /// The medium reported an error.
    Io,
}

impl ErrorKind {
    /// What the system's answer means for a store.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            _ => Self::Io,
        }
    }
}

/// An operation on a store failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {object} in {location}")]
pub struct StorageError {
    /// Why.
    pub kind: ErrorKind,
    /// What was attempted.
    pub operation: Operation,
    /// On which object or directory.
    pub object: String,
    /// In which store: [`Backend::location`](super::Backend::location), or the disk that is full.
    pub location: String,
    /// What the system said.
    #[source]
    pub source: Option<io::Error>,
}
