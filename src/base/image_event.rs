//! Events of the backup of an image in a cluster.

/// An event that the user should know of, although it is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEvent {
    /// All data of the image is read and compared with the newest backup of the volume.
    ReadCompletely(FullRead),
    /// Ceph's list of the objects that exist, or that changed, is not valid.
    InvalidFlags {
        /// The image or snapshot.
        of: String,
        /// The problems as `rbd info` names them.
        flags: Vec<String>,
        /// The command that repairs them.
        command: String,
    },
    /// A snapshot that is no longer needed could not be removed.
    SnapshotStays {
        /// Its name.
        snapshot: String,
        /// Why.
        problem: String,
    },
    /// The new snapshot vanished after the backup, so no other snapshot was removed.
    SnapshotVanished {
        /// Its name.
        snapshot: String,
    },
    /// The metadata of the image could not be read and is not in the backup.
    NoMetadata {
        /// Why.
        problem: String,
    },
    /// The metadata of the backup could not be given to the restored image.
    MetadataNotRestored {
        /// Why.
        problem: String,
    },
    /// An earlier restore to the image was interrupted, or is still running.
    InterruptedRestore {
        /// The id of the backup.
        backup: String,
        /// Its volume.
        volume: String,
        /// When it began to write, as in RFC 3339.
        time: String,
    },
    /// A restore writes only what differs from a snapshot that the repository knows.
    RestoresSince {
        /// Its name.
        snapshot: String,
    },
    /// A restore reads the whole image.
    ComparesAll {
        /// Why the backup of one of its snapshots cannot be read; none if there is no such backup.
        problem: Option<String>,
    },
    /// The users of the image encrypt it.
    Encrypted,
    /// Earlier backups of the image are in a volume of another name. The new backup joins them.
    Continues {
        /// The volume.
        volume: String,
    },
}

/// Why an image is read completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FullRead {
    /// There is no backup of the image.
    First,
    /// The user asked for it.
    Asked,
    /// The key cannot read stored data, so it cannot merge changes.
    WriteKey,
    /// The volume's earlier backups are of another image.
    OtherImage,
    /// The volume's earlier backups do not say of which image they are.
    UnknownImage,
    /// The snapshot of the newest backup no longer exists.
    SnapshotGone {
        /// Its name.
        snapshot: String,
    },
    /// Another snapshot now has the name of the newest backup's snapshot.
    SnapshotReplaced {
        /// The name.
        snapshot: String,
    },
    /// There is no backup of an older snapshot that can be the base of the new backup.
    NoOlderSnapshot,
    /// The backups have chunks of another size.
    OtherChunkSize,
}
