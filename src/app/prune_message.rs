//! The plan and the result of `prune` as data.

use serde::Serialize;

/// A number of packs, and their bytes in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PackAmount {
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

/// The plan of a prune.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PrunePlan {
    /// Packs that stay as they are.
    pub(crate) keep: PackAmount,
    /// Unused bytes in these packs.
    pub(crate) bytes_unused: u64,
    /// Unused packs to mark.
    pub(crate) mark: PackAmount,
    /// Partly unused packs to repack and then mark.
    pub(crate) repack: PackAmount,
    pub(crate) repack_bytes_used: u64,
    /// Small packs to merge into larger ones and then mark.
    pub(crate) merge: PackAmount,
    pub(crate) merge_bytes_used: u64,
    /// Marked packs whose grace period has ended.
    pub(crate) delete: PackAmount,
    /// Marked packs in their grace period.
    pub(crate) waiting: PackAmount,
    /// Unused packs that are younger than the grace period, or may belong to a running backup.
    pub(crate) young: PackAmount,
    /// The number of backup records and of voids (which withdraw backups) to remove, because their
    /// keys were revoked.
    pub(crate) revoked: u64,
    pub(crate) grace_seconds: u64,
}

/// The result of a prune.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PruneSummary {
    pub(crate) dry_run: bool,
    pub(crate) plan: PrunePlan,
    pub(crate) deleted: PackAmount,
    /// Packs marked by this prune.
    pub(crate) marked: PackAmount,
    pub(crate) repacked: PackAmount,
    /// Small packs that were merged into larger ones.
    pub(crate) merged: PackAmount,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// Marked packs that are in use again.
    pub(crate) packs_rescued: u64,
    /// Packs with damaged data that backups need and that no other pack holds undamaged. They stay.
    pub(crate) packs_damaged: u64,
    /// The ids of backups that need chunks which no pack has.
    pub(crate) backups_affected: Vec<String>,
    /// Incomplete uploads that were removed.
    pub(crate) uploads_removed: u64,
    /// The number of backup records and voids that were removed, because their keys were revoked.
    pub(crate) revoked_removed: u64,
    /// In seconds.
    pub(crate) duration: f64,
}
