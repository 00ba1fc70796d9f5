//! The result of a prune.

use super::plan::Amount;

/// The results of a prune.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneReport {
    /// Packs that were deleted.
    pub deleted: Amount,
    /// Packs that were marked, and that still exist.
    pub marked: Amount,
    /// Packs whose used blobs were repacked.
    pub repacked: Amount,
    /// Small packs whose used blobs were merged into larger ones.
    pub merged: Amount,
    /// The number of bytes of packs that were read to repack and merge them.
    pub bytes_read: u64,
    /// The number of bytes of packs and index segments that were stored.
    pub bytes_written: u64,
    /// The number of packs that had been marked and are used again.
    pub rescued: u64,
    /// The number of packs that stay because a used blob in them is damaged, and no other pack has
    /// an undamaged copy of this blob. Packs whose signers are not trusted, and those that the log
    /// removes, do not count.
    pub damaged: u64,
    /// The number of interrupted uploads that were removed.
    pub uploads: u64,
    /// The number of records and voids of revoked keys that were removed.
    pub refused: u64,
}
