//! Errors of operations.

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;

use super::missing::MissingHistory;
use crate::base::{ByteSize, Cancelled, ObjectHash};
use crate::format::{ContentKind, DiffError, ExtentsError, FormatError};
use crate::repo::{Backup, ObjectRef, RepoError, RepoErrorKind};
use crate::volume::{FreezeError, RbdError, RbdErrorKind, VolumeError};

/// An operation failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum OpsError {
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Rbd(RbdError),
    #[error("{name} is the copy of an image of another cluster, and cannot have a new snapshot")]
    MirroredImage { name: String },
    #[error(
        "cannot reliably recognize running backups: no lease could be stored in the repository"
    )]
    NoLease,
    #[error("a backup runs that may need one of the snapshots")]
    BackupRuns,
    #[error("{name} exists already, and an image keeps the parameters that it was made with")]
    ExistingParameters { name: String },
    #[error("{name} is the copy of an image of another cluster, and cannot be written to")]
    MirrorTarget { name: String },
    #[error("{name} has {found} bytes, but the backup has {expected}")]
    OtherImageSize {
        name: String,
        found: u64,
        expected: u64,
    },
    #[error("another program opened {name} while it was restored")]
    ImageOpened { name: String },
    #[error(
        "{name} holds an interrupted restore of backup {backup} of volume “{volume}”, begun at \
         {time}"
    )]
    MixedImage {
        name: String,
        backup: String,
        volume: String,
        time: String,
    },
    #[error("cannot restore the backups from {from} to {to} one after another: {why}")]
    NoSeries {
        from: String,
        to: String,
        why: &'static str,
    },
    #[error(
        "two backups of the series are of snapshots named {snapshot}, and no image can have both"
    )]
    SeriesNameTwice { snapshot: String },
    #[error("cannot attach “{name}”: {why}")]
    AttachmentName { name: String, why: &'static str },
    #[error("the attachments have {size} together, and at most {limit} are allowed")]
    AttachmentsTooLarge { size: ByteSize, limit: ByteSize },
    #[error("backup {backup} is a stream, not an image")]
    NotAnImage { backup: String },
    #[error("the export of {name} is not what was asked for: {why}")]
    WrongExport { name: String, why: String },
    #[error("could not read {name}")]
    ReadStream {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} is empty: it has no bytes")]
    EmptySource { name: String },
    #[error("{name} is an RBD diff: a restore would give the diff, and not the image")]
    DiffAsContent { name: String },
    #[error("{path} changed while it was read: the backup would not be a consistent point in time")]
    SourceChanged { path: String },
    #[error("backup “{base}” is {found}, but the source is {needed}")]
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
    #[error(
        "the diff changes a part of the chunk at byte {offset}, and this key cannot read the rest"
    )]
    PartOfChunk { offset: u64 },
    #[error("cannot change the labels of backup {backup}: a write key signed it")]
    LabelOfWriteKey { backup: ObjectHash },
    #[error("volume “{volume}” has no backup")]
    NoVolume { volume: String },
    #[error("backup {backup} of volume “{volume}” is protected by its label")]
    Protected { volume: String, backup: ObjectHash },
    #[error("backup {backup} is the last one of volume “{volume}”")]
    LastOfVolume { volume: String, backup: ObjectHash },
    #[error(
        "a concurrent “forget” is removing backups of volume “{volume}” that this “forget” keeps"
    )]
    LostRace { volume: String },
    #[error("a concurrent prune is deleting data that this backup of volume “{volume}” needs")]
    LostToPrune { volume: String },
    #[error(
        "another prune has been running{} since {since:.0}: its lease is {}",
        on_host(host.as_deref()),
        lease.name()
    )]
    PruneRuns {
        host: Option<String>,
        /// The lease of the other prune.
        lease: Box<ObjectRef>,
        /// When the other prune began, by the store's clock.
        since: Timestamp,
    },
    #[error("this run was paused too long; the repository may have changed")]
    PausedTooLong,
    #[error(
        "cannot tell which data is in use, since records of backups cannot be read: {}",
        records.join("; ")
    )]
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
        "volume “{volume}” has no backup of the snapshot “{snapshot}”, from which the changes start"
    )]
    NoBase {
        volume: String,
        snapshot: String,
        /// The snapshots of which the volume has backups, oldest first.
        known: Vec<String>,
        /// Whether the volume has no backup at all.
        empty: bool,
        /// Whether the changes are a list of extents, and not a diff.
        listed: bool,
    },
    #[error(
        "the backup of snapshot “{snapshot}” is not the newest of volume “{volume}”: {base} is \
         older than {newest}"
    )]
    BaseNotNewest {
        volume: String,
        snapshot: String,
        base: Box<Described>,
        newest: Box<Described>,
    },
    #[error("a list of extents does not say from which backup or snapshot its changes start")]
    ListWithoutStart,
    #[error("volume “{volume}” has backups of the snapshot “{snapshot}” with different content")]
    AmbiguousBase {
        volume: String,
        snapshot: String,
        backups: [String; 2],
    },
    #[error(
        "volume “{volume}” has two newest backups with different content: {} and {}",
        backups[0], backups[1]
    )]
    SeveralNewest {
        volume: String,
        backups: Box<[Described; 2]>,
    },
    #[error(
        "the changes to volume “{volume}” would build on a backup by another write key: {backup}"
    )]
    BaseOfOtherKey { volume: String, backup: ObjectHash },
    #[error("a backup of volume “{volume}” follows backup {missing}, which has vanished")]
    HistoryGap { volume: String, missing: ObjectHash },
    #[error("{location} holds another repository, or parts of one")]
    OtherRepository { location: String },
    #[error("could not copy a consistent state of {location}: other processes kept changing it")]
    AlwaysChanging { location: String },
    #[error("{location} has no project {project}")]
    NoProjectId { location: String, project: String },
    #[error("parts of the history are missing or damaged: {missing}")]
    HistoryCut { missing: Box<MissingHistory> },
    #[error(
        "there are {packs} packs of data, but no backup, and according to the log, no backup was \
         removed"
    )]
    NoBackups { packs: usize },
    #[error("{name} is not a missing or damaged backup, certificate or log entry")]
    NotMissing { name: String },
    #[error(
        "several lost objects have names that begin with {name}: {}, {}",
        objects[0],
        objects[1]
    )]
    SeveralMissing {
        name: String,
        objects: [ObjectHash; 2],
    },
    #[error("the diff is a full one, and cannot be applied to backup “{base}”")]
    NeedsNoBase { base: String },
    #[error(
        "backup “{base}” was withdrawn by its writer, or forgotten, so nothing can build on it"
    )]
    BaseWithdrawn { base: String },
    #[error("backup “{base}” is of volume “{other}”, but the changes are for volume “{volume}”")]
    BaseOfOtherVolume {
        base: String,
        volume: String,
        other: String,
    },
    #[error(
        "the changes start from snapshot “{snapshot}”, but backup “{base}” is of {}",
        of_snapshot(other.as_deref())
    )]
    BaseOfOtherSnapshot {
        base: String,
        snapshot: String,
        other: Option<String>,
    },
    #[error(
        "volume “{volume}” already has a backup of snapshot “{snapshot}” with different content: \
         {backup}"
    )]
    SnapshotTaken {
        volume: String,
        snapshot: String,
        backup: String,
    },
    #[error("{name} has two snapshots named “{snapshot}”")]
    SnapshotTwice { name: String, snapshot: String },
    #[error(
        "{name} contains several diffs, each of which builds on the one before: --dry-run cannot \
         try them"
    )]
    DryRunOfChain { name: String },
    #[error(
        "{name} describes an image whose object size or striping differs from that of volume \
         “{volume}”"
    )]
    OtherImage { name: String, volume: String },
    #[error("volume “{volume}” was last backed up from {what} “{before}”, not “{now}”")]
    OtherStated {
        volume: String,
        what: &'static str,
        before: String,
        now: String,
    },
    #[error(
        "the full diff shares almost no data with {backup}, the newest backup of volume “{volume}”"
    )]
    NothingShared { volume: String, backup: ObjectHash },
    #[error("{name} describes an image of {size} bytes, more than a backup can hold")]
    TooLarge { name: String, size: u64 },
    #[error("the attachment {name} has {size}, more than {limit}")]
    AttachmentTooLarge {
        name: String,
        size: ByteSize,
        limit: ByteSize,
    },
    #[error("the attachment {name} of backup {backup} is damaged")]
    AttachmentDamaged {
        name: String,
        backup: ObjectHash,
        #[source]
        source: FormatError,
    },
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
    #[error("the list of extents reaches up to byte {end}, but {path} ends at {size}")]
    ListBeyondEnd { path: String, end: u64, size: u64 },
    #[error("backup “{base}” has chunks of another size, so a list of extents cannot build on it")]
    BaseCutOtherwise { base: String },
    #[error(
        "{path} differs from {} in the {len} bytes from {offset} on, which are not in the list of \
        extents",
        of_backup(base.as_deref())
    )]
    ListIncomplete {
        path: String,
        /// The backup with which the image was compared. `None` means that it was compared with an
        /// image of zeros.
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
    #[error("{backup} is not a backup of a snapshot, so no diff can start from it")]
    NoSnapshot { backup: String },
    #[error(
        "backup {backup} of volume “{volume}” cannot be restored completely: {} bytes in {} are \
        lost, the first at byte {}",
        total(ranges),
        places(ranges.len()),
        ranges.first().map_or(0, |range| range.start)
    )]
    Holes {
        backup: String,
        volume: String,
        /// The parts that are lost, in bytes, ascending.
        ranges: Vec<Range<u64>>,
        /// Why one of them is lost.
        source: Box<RepoError>,
    },
    #[error(
        "bytes {} to {} of volume “{volume}” cannot be read; {written} bytes were written before",
        range.start, range.end - 1
    )]
    Hole {
        volume: String,
        range: Range<u64>,
        /// The number of bytes that were written to the target before the failure.
        written: u64,
        source: Box<RepoError>,
    },
    #[error("backup {backup} of volume “{volume}” was not copied: {part} cannot be read")]
    NotCopied {
        backup: ObjectHash,
        volume: String,
        /// The part of the backup.
        part: String,
        source: Box<RepoError>,
    },
    #[error("backup {backup} was withdrawn by its writer, or forgotten, so it is not copied")]
    CopyWithdrawn { backup: ObjectHash },
    #[error("backup {backup} of volume “{volume}” was not copied, since a write key signed it")]
    CopyOfWriteKey { backup: ObjectHash, volume: String },
    #[error("backup {backup} of volume “{volume}” was not copied, since it is too large")]
    CopyTooLarge {
        backup: ObjectHash,
        volume: String,
        source: Box<Self>,
    },
    #[error(
        "the target has lost data of backup {copy}, its copy of backup {backup} of volume \
         “{volume}”"
    )]
    CopyLost {
        /// The backup in the source.
        backup: ObjectHash,
        volume: String,
        /// Its copy in the target.
        copy: ObjectHash,
    },
    #[error("a part of the target is damaged")]
    DamagedTarget { source: Box<RepoError> },
    #[error("both locations hold the same project, with the same keys")]
    SameProject,
    #[error("the target has another volume with the name “{volume}”")]
    OtherVolume { volume: String },
    #[error("another program changed the target at byte {offset} while it was restored")]
    TargetChanged { offset: u64 },
    #[error(transparent)]
    Freeze(FreezeError),
    #[error("could not start a thread")]
    Thread(#[source] std::io::Error),
    #[error("could not start threads")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    /// A fault of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl OpsError {
    /// Returns the error for a part of a backup that cannot be read, and so cannot be copied. If
    /// the part is damaged, the error concerns only this backup.
    pub(super) fn unread(backup: &Backup, part: &str, error: RepoError) -> Self {
        match error.kind() {
            RepoErrorKind::Damaged => Self::not_copied(backup, part.to_owned(), error),
            _ => error.into(),
        }
    }

    /// Returns the error for a backup that is not copied, because a part of it is damaged.
    pub(super) fn not_copied(backup: &Backup, part: String, source: RepoError) -> Self {
        Self::NotCopied {
            backup: backup.id,
            volume: backup.record.volume.name.clone(),
            part,
            source: Box::new(source),
        }
    }
}

impl From<RbdError> for OpsError {
    fn from(error: RbdError) -> Self {
        match error.kind {
            RbdErrorKind::Cancelled => Cancelled.into(),
            _ => Self::Rbd(error),
        }
    }
}

impl From<FreezeError> for OpsError {
    fn from(error: FreezeError) -> Self {
        match error {
            FreezeError::Interrupted => Cancelled.into(),
            error => Self::Freeze(error),
        }
    }
}

impl From<Cancelled> for OpsError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repo(cancelled.into())
    }
}

/// The description of a backup in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The id of the backup.
    pub id: String,
    /// When the backup began.
    pub time: Timestamp,
    /// The host that made it.
    pub host: Option<String>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.id, self.time)?;
        self.host
            .iter()
            .try_for_each(|host| write!(f, " by {host}"))
    }
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn places(count: usize) -> String {
    match count {
        1 => "1 place".to_owned(),
        count => format!("{count} places"),
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

/// Returns the name that messages use for a kind of content.
pub(super) fn describe(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Image => "an image",
        ContentKind::Stream => "a stream",
    }
}
