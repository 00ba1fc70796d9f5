//! The messages of `stats`.

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stats {
    pub(crate) volumes: u64,
    pub(crate) backups: u64,
    /// The sum of the sizes of all backups.
    pub(crate) bytes_backed_up: u64,
    pub(crate) chunks: u64,
    /// The uncompressed size of all stored chunks.
    pub(crate) bytes_unique: u64,
    /// The size of all packs in the store.
    pub(crate) bytes_stored: u64,
    /// The part of this size that backups use.
    pub(crate) bytes_used: u64,
    pub(crate) packs: u64,
    /// Records, nodes and packs that could not be read, and do not count.
    pub(crate) unreadable: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct VolumeStats {
    pub(crate) volume: String,
    pub(crate) backups: u64,
    /// The sum of the sizes of its backups.
    pub(crate) bytes_backed_up: u64,
    /// The space that only its backups use.
    pub(crate) bytes_exclusive: u64,
    /// The space that they use together with backups of other volumes.
    pub(crate) bytes_shared: u64,
    /// Records and nodes that could not be read, and do not count.
    pub(crate) unreadable: u64,
}
