//! Progress and notices of an operation. An operation never prints; it reports to an [`Observer`].

use std::path::PathBuf;
use std::sync::Arc;

use super::id::{ObjectHash, RepositoryId};
use super::image_event::ImageEvent;

/// A part of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Brings the local index up to date with the repository.
    Index,
    /// Reads and stores a source.
    Backup,
    /// Tests a list of changed extents: compares samples of the data outside the list with the
    /// earlier backup.
    VerifySample,
    /// Compares an existing target with a backup.
    CompareTarget,
    /// Writes a backup to a target.
    Restore,
    /// Compares trees, index and names. Counts backups instead of bytes.
    CheckStructure,
    /// Reads packs or other objects, and verifies them. A full key also decrypts each blob.
    CheckData,
    /// Walks trees to find the data in use. Counts trees or backups instead of bytes.
    Mark,
    /// Copies the used data of packs to new ones. Counts bytes of the old packs.
    Repack,
    /// Inspects a diff.
    InspectDiff,
    /// Merges diffs. Counts bytes of the image.
    MergeDiffs,
    /// Writes the changes of a backup as a diff. Counts bytes of the image.
    ExportDiff,
    /// Copies objects to another store. Counts bytes of the objects.
    Replicate,
    /// Stores parity of existing objects. Counts bytes of these objects.
    StoreParity,
}

/// The progress of a phase. Counts only grow within one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// How much is done: bytes of the source, the target or the packs, unless [`Phase`] names
    /// another unit.
    pub done: u64,
    /// The whole amount of the phase in the same unit, if known.
    pub total: Option<u64>,
}

/// An event that the user should know of, although it is not an error. The front end formats it.
///
/// A `problem` is the message of the error that caused the notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The local index is rebuilt from the repository.
    IndexRebuilt(RebuildReason),
    /// One of an object's two copies cannot be used. The other copy is used.
    CopyDamaged {
        /// The error, which names the object.
        problem: String,
    },
    /// An earlier run was interrupted. The packs that it stored are used.
    Resumed {
        /// The number of packs that were found and added to the index.
        packs: u64,
    },
    /// No index segment lists these packs. So the list of contents in each pack was read.
    PacksUnindexed {
        /// The number of packs.
        packs: u64,
    },
    /// A segment of the index cannot be used. Instead, the list of contents in each of its packs is
    /// read.
    SegmentDamaged {
        /// The error, which names the segment.
        problem: String,
    },
    /// No segment lists a pack, and the list of contents in the pack is damaged, foreign or of a
    /// later version. So the blobs of the pack cannot be used.
    ListingDamaged {
        /// The error, which names the pack.
        problem: String,
    },
    /// A prune could not copy a used blob of a pack to another pack. The pack stays as it is.
    PackStays {
        /// The error, which names the blob or the pack.
        problem: String,
    },
    /// A restore could not store its mark, the file in which later commands find that the restore
    /// has not finished. If the restore is interrupted, no later command will report this.
    NoRestoreMark {
        /// Why the file could not be stored.
        problem: String,
    },
    /// A key slot cannot be read and is ignored.
    KeySlotDamaged {
        /// The error, which names the key slot.
        problem: String,
    },
    /// A key slot is ignored, because the password cannot be tried on it.
    KeySlotSkipped {
        /// The hash that names the slot.
        key: ObjectHash,
        /// Why it cannot be tried.
        problem: String,
    },
    /// A directory of key slots has more slots than this program tries, or more unusable slots than
    /// this program reports one by one.
    KeySlotsIgnored {
        /// The directory.
        directory: String,
        /// The number of ignored slots. A slot and its second copy count once.
        slots: u64,
    },
    /// Settings of a project cannot be read and are ignored. The newest readable ones are used.
    SettingsDamaged {
        /// The error, which names the settings.
        problem: String,
    },
    /// The certificate of a key cannot be read and is ignored. So the objects that the key signed
    /// may count as foreign.
    CertificateDamaged {
        /// The error, which names the certificate.
        problem: String,
    },
    /// A record, or an entry of the log, cannot be read and is ignored.
    RecordDamaged {
        /// The error, which names the record or the entry.
        problem: String,
    },
    /// A damaged file is in the directory of records. Nothing needs this file: the log states that
    /// its record was removed or given up as lost.
    DamageAccepted {
        /// The error, which names the file.
        problem: String,
    },
    /// The device that is backed up is in use: the backup may mix data of different times.
    SourceInUse {
        /// The device.
        device: String,
        /// How it is used.
        user: String,
    },
    /// A record is missing, although other records name it and it was not forgotten.
    RecordMissing {
        /// The hash that names the missing record.
        record: ObjectHash,
    },
    /// The index names packs that are missing or damaged. No backup needs the lost data from these
    /// packs: it is unused, or other packs also hold it.
    PacksNotNeeded {
        /// The number of packs.
        packs: u64,
    },
    /// The index names packs that are missing or too short. A backup does not rely on these packs,
    /// and stores again all data that it needs from them.
    PacksMissing {
        /// The number of packs.
        packs: u64,
    },
    /// No backup was made by the host that the user named.
    NoBackupOfHost {
        /// The host.
        host: String,
        /// All hosts that made backups, in alphabetical order.
        known: Vec<String>,
    },
    /// This host saw a repository at the location where a new one is created.
    SeenBefore {
        /// The id of the repository.
        repository: RepositoryId,
        /// When this host saw it last, in RFC 3339.
        time: String,
    },
    /// A target of a restore has more bytes than the backup.
    TargetLarger {
        /// The target.
        target: String,
        /// The number of bytes after the end of the backup.
        bytes: u64,
        /// Whether the restore cuts these bytes off. Otherwise they stay as they are.
        cut: bool,
    },
    /// Parts of packs are known to be damaged. A backup does not rely on these parts, and stores
    /// again all data that it needs from them.
    PacksDamaged {
        /// The number of packs.
        packs: u64,
    },
    /// The source was not written to since the last backup, so the content of that backup is used.
    SourceUnchanged,
    /// There is no backup to build on. Data outside the list of extents is assumed to be zero.
    NoBaseForExtents,
    /// A diff and the backup that it builds on have only the name of a snapshot in common.
    BaseByName {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// The last diff of a stream is of the image itself, and not of a snapshot.
    HeadOfImage,
    /// The store cannot be written, so backups are read without a lease. While they are read, a
    /// prune may delete their data.
    ReadWithoutLease {
        /// Why the lease could not be stored.
        problem: String,
    },
    /// The ledger, which lists verified packs, could not be written. So later runs do not know
    /// which packs this run verified.
    LedgerNotStored {
        /// Why the ledger could not be written.
        problem: String,
    },
    /// A pack seemed damaged, and was good when it was read again.
    GoodWhenReadAgain {
        /// The first error.
        problem: String,
    },
    /// The key cannot decrypt packs. So it is unknown which data in a damaged pack is undamaged,
    /// and all of it counts as damaged.
    PartsUnknown,
    /// Another process uses the copy of the repository to which objects are copied.
    CopyInUse {
        /// The location of the copy.
        location: String,
    },
    /// A prune runs at the same time. The data that the prune marked and that this backup needs is
    /// stored again.
    ConcurrentPrune,
    /// The volume has this backup already. The labels of the backup stay as they are.
    LabelsKept {
        /// The backup.
        backup: ObjectHash,
    },
    /// The volume has this backup already. The new files are not attached to it.
    NotAttached {
        /// The backup.
        backup: ObjectHash,
    },
    /// A volume has several newest backups, none of which follows another. The first in `newest`
    /// counts as the newest.
    SeveralNewest {
        /// The volume.
        volume: String,
        /// These backups, the latest first.
        newest: Vec<ObjectHash>,
    },
    /// Some records do not exist, and only records signed by write keys name them. Either they
    /// vanished before a full key added them to the log, or someone invented their names.
    NamedByWriteKeysOnly {
        /// The number of named records that do not exist.
        records: u64,
        /// The first of them.
        first: ObjectHash,
    },
    /// An object that this host once saw at the location of the repository no longer exists there.
    HistoryLost {
        /// The error, which names the missing object.
        problem: String,
    },
    /// Another location has more backups of this project than this location.
    Behind {
        /// The other location.
        location: String,
        /// The minimum number of backups that this location lacks.
        backups: usize,
    },
    /// This host cannot store what it saw of the repository.
    MemoryUnusable {
        /// The file in which this host notes what it saw.
        path: PathBuf,
        /// Why the file cannot be used.
        problem: String,
    },
    /// The file in which this host noted what it saw of the repository cannot be read. A new file
    /// replaces it.
    MemoryDamaged {
        /// The file.
        path: PathBuf,
        /// The system's message.
        problem: String,
    },
    /// A later backup showed that Ceph had not listed all changes. The backup that is read may lack
    /// some of them.
    MayLackChanges {
        /// The backup that is read.
        backup: ObjectHash,
        /// The later backup, which read all data.
        found_by: ObjectHash,
    },
    /// The backup that is read was withdrawn by its writer.
    Withdrawn {
        /// The backup.
        backup: ObjectHash,
    },
    /// The backup that is read was forgotten, but still exists.
    Forgotten {
        /// The backup.
        backup: ObjectHash,
    },
    /// An event that concerns an image in a cluster.
    Image {
        /// The image.
        image: String,
        /// What happened.
        event: ImageEvent,
    },
    /// Other users of this host can read the file with the password.
    PasswordFileReadable {
        /// The name of the file, as messages show it.
        file: String,
    },
}

/// Why the local index is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RebuildReason {
    /// The directory of the cache cannot be used.
    Directory {
        /// The path of the directory.
        path: PathBuf,
        /// The system's message.
        problem: String,
    },
    /// The file of the index cannot be used.
    Unusable {
        /// The message of the database.
        problem: String,
    },
    /// The local index names segments or packs that no longer exist.
    Stale,
}

/// Receives the progress and notices of an operation. Many threads call it often, so it must return
/// quickly.
pub trait Observer: Send + Sync {
    /// Receives the latest progress.
    fn progress(&self, progress: Progress);
    /// Receives a notice.
    fn notice(&self, notice: Notice);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn progress(&self, progress: Progress) {
        (**self).progress(progress);
    }

    fn notice(&self, notice: Notice) {
        (**self).notice(notice);
    }
}

/// Ignores all progress and notices.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&self, _: Progress) {}
    fn notice(&self, _: Notice) {}
}
