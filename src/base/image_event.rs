//! Events of backups and restores of images in a Ceph cluster.

use super::id::ObjectHash;

/// An event that the user should know of, although it is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEvent {
    /// A backup reads all data of the image, and not only the changes.
    ReadCompletely(FullRead),
    /// Ceph's list of the objects that exist, or that changed, is not valid.
    InvalidFlags {
        /// The image or snapshot.
        of: String,
        /// The problems as `rbd info` names them.
        flags: Vec<String>,
        /// The command that makes the lists valid again.
        command: String,
    },
    /// A snapshot that is no longer needed could not be removed.
    SnapshotStays {
        /// The name of the snapshot.
        snapshot: String,
        /// Why the removal failed.
        problem: String,
    },
    /// Older snapshots were not removed, since it is unknown which of them other runs need.
    SnapshotsStay {
        /// Why this is unknown.
        problem: String,
    },
    /// The metadata of the image could not be read and is not in the backup.
    NoMetadata {
        /// Why the metadata could not be read.
        problem: String,
    },
    /// The backup's metadata of the image could not all be written to the restored image.
    MetadataNotRestored {
        /// Why the metadata could not be written.
        problem: String,
    },
    /// A restore of several backups to one image leaves out a backup, because a later backup is of
    /// the same snapshot.
    SnapshotTwice {
        /// The name of the snapshot.
        snapshot: String,
        /// The earlier backup, which is not restored.
        left_out: ObjectHash,
        /// The later backup, which is restored.
        restored: ObjectHash,
    },
    /// An earlier restore to the image was interrupted, or is still running.
    InterruptedRestore {
        /// The id of the backup that this restore writes.
        backup: String,
        /// The volume of the backup.
        volume: String,
        /// When the restore began to write, in RFC 3339.
        time: String,
    },
    /// A restore does not read the whole image: the cluster lists the changes since a snapshot that
    /// has a backup.
    RestoresSince {
        /// The name of the snapshot.
        snapshot: String,
    },
    /// A restore reads the whole image.
    ComparesAll(WholeCompare),
    /// All data was read, and some of it had changed although the cluster did not list the change.
    /// So earlier backups may lack changes.
    ChangesMissed {
        /// The backup whose content was compared.
        base: ObjectHash,
        /// The number of bytes in the chunks with unlisted changes.
        bytes: u64,
        /// The offset of the first of these chunks, in bytes.
        first: u64,
        /// A command that tests the object map, the cluster's list of the image's objects.
        command: String,
    },
    /// All data was read, and the cluster had listed all changes.
    ChangesComplete {
        /// The backup whose content was compared.
        base: ObjectHash,
        /// Whether an earlier backup had found the cluster's lists incomplete, and no backup had
        /// found them complete since.
        distrusted: bool,
    },
    /// All data was read, but could not be compared with the cluster's list of changes.
    ChangesNotCompared(NotCompared),
    /// The data that Ceph returns for the image is encrypted. The backup holds this data as it is.
    Encrypted,
    /// Earlier backups of the image are in a volume with another name than the image. The new
    /// backup is added to that volume.
    Continues {
        /// The name of the volume.
        volume: String,
    },
}

/// Why a restore to an existing image compares all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WholeCompare {
    /// No snapshot of the image has a backup.
    NoSnapshot,
    /// The backup of the image's snapshot cannot be read, for this reason.
    Damaged(String),
    /// The cluster did not list all changes of the image.
    Distrusted,
}

/// Why the changes of an image were not compared with the cluster's list of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCompared {
    /// There is no backup to compare with, for this reason.
    NoBase(FullRead),
    /// The list or the backup could not be read.
    Problem(String),
}

/// Why an image is read completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FullRead {
    /// There is no backup of the image.
    First,
    /// The user asked for a complete read in this backup.
    Asked,
    /// The user asked for a complete read after a number of backups that read only changes.
    Due {
        /// Of this number of backups in a row, at least one reads all data.
        every: u64,
    },
    /// The cluster did not list all changes of the image.
    Distrusted {
        /// The newest backup that found an incomplete list.
        backup: ObjectHash,
    },
    /// The user has a write key, which cannot read stored data. So the backup cannot merge changes
    /// with the data of an earlier one.
    WriteKey,
    /// The volume's earlier backups are of another image.
    OtherImage,
    /// The volume's earlier backups do not say of which image they are.
    UnknownImage,
    /// The snapshot of the newest backup no longer exists.
    SnapshotGone {
        /// The name of the snapshot.
        snapshot: String,
    },
    /// Another snapshot now has the name of the newest backup's snapshot.
    SnapshotReplaced {
        /// The name of both snapshots.
        snapshot: String,
    },
    /// There is no backup of an older snapshot that can be the base of the new backup.
    NoOlderSnapshot,
    /// The volume's earlier backups have chunks of another size than new backups.
    OtherChunkSize,
}
