//! What can go wrong with an operation.

use crate::base::{Cancelled, ObjectHash};
use crate::format::{ContentKind, DiffError};
use crate::repo::RepoError;
use crate::volume::VolumeError;

/// An operation failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OpsError {
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("could not read standard input")]
    Stdin(#[source] std::io::Error),
    #[error("{path} was written to while it was read: the backup would be of no moment in time")]
    SourceChanged { path: String },
    #[error("backup “{base}” is {found}, the source is {needed}")]
    BaseKind {
        base: String,
        found: &'static str,
        needed: &'static str,
    },
    #[error("volume “{volume}” was last backed up from {before}, not from {now}")]
    OtherSource {
        volume: String,
        before: String,
        now: String,
    },
    #[error("there is no backup of a volume “{volume}”")]
    NoVolume { volume: String },
    #[error("backup {backup} of volume “{volume}” is protected by its label")]
    Protected { volume: String, backup: ObjectHash },
    #[error("backup {backup} is the last one of volume “{volume}”")]
    LastOfVolume { volume: String, backup: ObjectHash },
    #[error("another “forget” is removing what this one would keep of volume “{volume}”")]
    Outrun { volume: String },
    #[error("could not read {name}")]
    ReadDiff {
        name: String,
        #[source]
        source: DiffError,
    },
    #[error("{name} cannot be used as an RBD diff")]
    NotADiff {
        name: String,
        #[source]
        source: DiffError,
    },
    #[error("the RBD diff {name} is damaged")]
    DamagedDiff {
        name: String,
        #[source]
        source: DiffError,
    },
    #[error("{second} begins at {begins}, but {first} ends at {ends}")]
    NotFollowing {
        first: String,
        ends: String,
        second: String,
        begins: String,
    },
    #[error("{name} holds several diffs, and can only be merged from a regular file")]
    NotSeekable { name: String },
    #[error("{0}")]
    Worker(&'static str),
}

impl From<Cancelled> for OpsError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repo(cancelled.into())
    }
}

/// A kind of content, as messages call it.
pub(super) fn describe(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Image => "an image",
        ContentKind::Stream => "a stream",
    }
}
