//! Options and report of a copy.

use std::ops::ControlFlow;

use crate::base::ObjectHash;
use crate::format::Counts;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Compression, PackSizes, VerifyWrites};

/// How to copy backups.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// The volume in the target that gets the copies. `None` means that each volume keeps its name.
    /// Then the copy fails if the target has a volume with that name and another id. It does not
    /// fail if that volume has a copy of one of the backups.
    pub volume: Option<String>,
    /// Also copy backups that write keys signed. The holder of a write key can make a backup
    /// with any content, even with data of other volumes, and of any size.
    pub accept_write_keys: bool,
    /// Only find out which backups the target lacks.
    pub dry_run: bool,
    /// The compression of chunks.
    pub compression: Compression,
    /// The sizes at which packs are full.
    pub pack_sizes: PackSizes,
    /// Which runs are opened again before they are stored, to verify them.
    pub verify_writes: VerifyWrites,
    /// The name of this host.
    pub host: Option<String>,
}

/// Receives the result for each backup of the source, and decides whether to go on.
pub type EachCopy<'a> = dyn FnMut(&Backup, Result<CopyReport, OpsError>) -> ControlFlow<()> + 'a;

/// The result of copying one backup.
#[derive(Debug, Clone)]
pub struct CopyReport {
    /// The id of the copy. `None` if the target lacks a copy, which only a dry run reports.
    pub id: Option<ObjectHash>,
    /// Whether the target had the copy already, so that nothing was stored.
    pub existing: bool,
    /// The volume in the target.
    pub volume: String,
    /// The copy in the target with which the backup was compared. Parts of the backup that are
    /// equal to this copy were not read. `None` if the backup was not compared.
    pub base: Option<ObjectHash>,
    /// How much of the content was read, and how much was stored in the target.
    pub counts: Counts,
}

impl CopyReport {
    /// Returns the report for a copy that the target has already.
    pub(super) fn existing(copy: &Backup) -> Self {
        Self {
            id: Some(copy.id),
            existing: true,
            volume: copy.record.volume.name.clone(),
            base: None,
            counts: Counts::default(),
        }
    }

    /// Returns the report for a copy that this volume of the target lacks.
    pub(super) fn lacking(volume: &str) -> Self {
        Self {
            id: None,
            existing: false,
            volume: volume.to_owned(),
            base: None,
            counts: Counts::default(),
        }
    }
}
