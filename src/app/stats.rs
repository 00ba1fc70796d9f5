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
    /// The part of `bytes_stored` that backups use.
    pub(crate) bytes_used: u64,
    pub(crate) packs: u64,
    /// The number of records, nodes and packs that could not be read. The other fields leave out
    /// these records and nodes. `chunks` and `bytes_unique` include chunks of packs that are lost.
    pub(crate) unreadable: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct VolumeStats {
    pub(crate) volume: String,
    pub(crate) backups: u64,
    /// The sum of the sizes of the volume's backups.
    pub(crate) bytes_backed_up: u64,
    /// The space in the store that only the volume's backups use.
    pub(crate) bytes_exclusive: u64,
    /// The space in the store that the volume's backups share with those of other volumes.
    pub(crate) bytes_shared: u64,
    /// The number of records and nodes that could not be read. The other fields leave them out.
    pub(crate) unreadable: u64,
}
