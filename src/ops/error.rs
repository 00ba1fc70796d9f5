//! What can go wrong with an operation.

use crate::base::{Cancelled, ObjectHash};
use crate::format::{ContentKind, DiffError, ExtentsError};
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
    #[error("could not read {name}")]
    ReadStream {
        name: String,
        #[source]
        source: std::io::Error,
    },
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
    LostRace { volume: String },
    #[error("a prune deletes what this backup of volume “{volume}” relies on")]
    OutrunByPrune { volume: String },
    #[error("another prune is at work{}", on_host(host.as_deref()))]
    PruneRuns {
        host: Option<String>,
        /// Seconds since it was last heard of.
        age: u64,
    },
    #[error("this prune was held up for minutes, and things may be otherwise by now")]
    HeldUp,
    #[error("records of backups cannot be read, so nobody knows what they use: {}", records.join("; "))]
    Unreadable { records: Vec<String> },
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
    #[error(
        "volume “{volume}” has no backup of the snapshot “{snapshot}”, which the diff builds on"
    )]
    NoBase {
        volume: String,
        snapshot: String,
        /// The snapshots that there are backups of, oldest first.
        known: Vec<String>,
        /// The volume has no backup at all.
        empty: bool,
    },
    #[error("volume “{volume}” has backups of the snapshot “{snapshot}” with different content")]
    AmbiguousBase {
        volume: String,
        snapshot: String,
        backups: [String; 2],
    },
    #[error("the diff builds on nothing, and cannot be put onto backup “{base}”")]
    NeedsNoBase { base: String },
    #[error("backup “{base}” is of volume “{other}”, the diff is for “{volume}”")]
    BaseOfOtherVolume {
        base: String,
        volume: String,
        other: String,
    },
    #[error("the diff builds on snapshot “{snapshot}”, backup “{base}” is of {}", of_snapshot(other.as_deref()))]
    BaseOfOtherSnapshot {
        base: String,
        snapshot: String,
        other: Option<String>,
    },
    #[error("volume “{volume}” has another content for the snapshot “{snapshot}”: backup {backup}")]
    SnapshotTaken {
        volume: String,
        snapshot: String,
        backup: String,
    },
    #[error("{name} has two snapshots of the name “{snapshot}”")]
    SnapshotTwice { name: String, snapshot: String },
    #[error(
        "{name} has several snapshots, of which each builds on the one before: they cannot be tried without being stored"
    )]
    DryRunOfLine { name: String },
    #[error("{name} is of an image with other objects than that of volume “{volume}”")]
    OtherImage { name: String, volume: String },
    #[error("{name} is of an image of {size} bytes, which is more than a backup can hold")]
    TooLarge { name: String, size: u64 },
    #[error("could not read the list of extents {name}")]
    ReadList {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} cannot be used as a list of extents")]
    NotAList {
        name: String,
        #[source]
        source: ExtentsError,
    },
    #[error("{name} is too long for a list of extents: more than {limit} bytes")]
    LongList { name: String, limit: usize },
    #[error("the list names bytes up to {end}, but {path} ends at {size}")]
    ListBeyondEnd { path: String, end: u64, size: u64 },
    #[error("backup “{base}” is cut into other chunks, so a list of extents cannot build on it")]
    BaseCutOtherwise { base: String },
    #[error(
        "{path} is not what {} has in the {len} bytes from {offset} on, which the list of extents leaves out",
        of_backup(base.as_deref())
    )]
    ListIncomplete {
        path: String,
        /// The backup whose content was taken for what the list leaves out; without one, zeros.
        base: Option<String>,
        offset: u64,
        len: u64,
    },
    #[error("there is no diff from {from} to {to}: {why}")]
    NoDiff {
        from: String,
        to: String,
        why: &'static str,
    },
    #[error("{backup} names no snapshot at which a diff could begin")]
    NoSnapshot { backup: String },
    #[error("could not start threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<Cancelled> for OpsError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repo(cancelled.into())
    }
}

fn of_snapshot(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("“{name}”"),
        None => "no snapshot".to_owned(),
    }
}

fn on_host(host: Option<&str>) -> String {
    host.map(|host| format!(" on {host}")).unwrap_or_default()
}

fn of_backup(base: Option<&str>) -> String {
    match base {
        Some(base) => format!("backup {base}"),
        None => "an empty image".to_owned(),
    }
}

/// A kind of content, as messages call it.
pub(super) fn describe(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Image => "an image",
        ContentKind::Stream => "a stream",
    }
}
