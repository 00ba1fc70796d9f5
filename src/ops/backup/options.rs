//! Options and report of a backup.

use std::collections::BTreeMap;

use crate::base::ObjectHash;
use crate::format::{ByteString, Counts};
use crate::repo::{Compression, PackSizes};

/// Options of a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the volume.
    pub volume: String,
    /// Whether the user chose that name. A name that was derived from the file must not join two
    /// sources in one volume.
    pub volume_chosen: bool,
    /// The backup to compare with, instead of the volume's newest, or the one that a diff builds
    /// on.
    pub base: Option<String>,
    /// Accept `base` for a diff even if no snapshot shows that the diff builds on it.
    pub force_base: bool,
    /// Labels that the user gave.
    pub labels: BTreeMap<String, String>,
    /// Read and compare, but store nothing.
    pub dry_run: bool,
    /// The compression of chunks.
    pub compression: Compression,
    /// The sizes at which packs are full.
    pub pack_sizes: PackSizes,
    /// Read the whole source even if it was not written to since the base, and rely only on packs
    /// that are present: lost ones are stored again.
    pub reread: bool,
    /// If the source lists its changed extents: how many other chunks to compare with the base
    /// before anything is stored, at most all. Each takes 16 bytes of memory.
    pub verify_sample: u64,
    /// The name of this host.
    pub host: Option<String>,
}

/// The result of a backup.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new backup, or the existing one; none after a dry run.
    pub id: Option<ObjectHash>,
    /// Whether nothing was committed because the volume had this backup already.
    pub existing: bool,
    /// The snapshot that it is of, if the source names one.
    pub snapshot: Option<ByteString>,
    /// The content's size in bytes.
    pub size: u64,
    /// Bytes and chunks that were read, changed and stored.
    pub counts: Counts,
    /// The backup that it was compared with.
    pub base: Option<ObjectHash>,
    /// Number of chunks outside of the list of extents that were compared with the base; none
    /// without a list.
    pub verified: Option<u64>,
}
