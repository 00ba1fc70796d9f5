//! How to back up, and what a backup did.

use std::collections::BTreeMap;

use crate::base::ObjectHash;
use crate::format::{ByteString, Counts};
use crate::repo::{Compression, PackSizes};

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Name of the volume.
    pub volume: String,
    /// Whether the user chose that name; one that was only derived must not join two sources in one volume.
    pub volume_chosen: bool,
    /// A backup to compare with, instead of the volume's newest; or the one that a diff builds on.
    pub base: Option<String>,
    /// Take `base` for a diff even if nothing says that it is what the diff builds on.
    pub force_base: bool,
    /// Given by the user.
    pub labels: BTreeMap<String, String>,
    /// Do everything but store.
    pub dry_run: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// When packs are full.
    pub pack_sizes: PackSizes,
    /// Read all of the source, even if nobody wrote to the file since the base, and rely on nothing but the
    /// packs that are there: what was lost is stored again.
    pub reread: bool,
    /// If the source lists its changed extents: how many chunks outside of them are compared with the base
    /// before anything is stored, at most all. Each takes 16 bytes of memory.
    pub verify_sample: u64,
    /// The name of this host.
    pub host: Option<String>,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The new backup; none after a dry run.
    pub id: Option<ObjectHash>,
    /// Nothing was committed, since the volume had this backup already.
    pub existing: bool,
    /// The snapshot that it is of, where the source named one.
    pub snapshot: Option<ByteString>,
    /// The content's size in bytes.
    pub size: u64,
    /// What it took.
    pub counts: Counts,
    /// What it was compared with.
    pub base: Option<ObjectHash>,
    /// Chunks that a list of extents did not name, and that were compared with the base; none without a list.
    pub verified: Option<u64>,
}
