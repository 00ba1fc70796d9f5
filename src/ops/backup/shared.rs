//! Tests whether a full RBD diff, which describes a whole image, is of the same image as the
//! volume.

use std::sync::atomic::Ordering;

use super::task::BackupTask;
use crate::ops::error::OpsError;
use crate::repo::{RepoErrorKind, Top, count_chunks};

/// If fewer than one chunk in this many is the same, the content counts as that of another image.
const SHARED_MIN: u64 = 32;

/// Returns whether the content that was just stored has enough chunks in common with `newest`, the
/// backup with which it was compared. Chunks of zeros do not count. Two states of one image have a
/// part of their data in common, at the same places. Unrelated images have almost nothing in
/// common. Returns true if `newest` is damaged or contains only zeros.
pub(super) fn shares_data(task: &BackupTask<'_>, newest: Top) -> Result<bool, OpsError> {
    let same = task.tally.same.load(Ordering::Relaxed);
    let data = task.tally.data.load(Ordering::Relaxed);
    if data > 0 && same.saturating_mul(SHARED_MIN) >= data {
        return Ok(true);
    }
    let before = match count_chunks(task.blobs, newest, &(0..u64::MAX)) {
        Ok(before) => before,
        // If a tree is damaged, assume that data is shared.
        Err(error) if error.kind() == RepoErrorKind::Damaged => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    // Compare with the smaller of the two amounts: since `newest`, most data may have been
    // discarded, or most data may have been added.
    Ok(before == 0 || data > 0 && same.saturating_mul(SHARED_MIN) >= before.min(data))
}
