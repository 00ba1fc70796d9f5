//! Whether a full diff is of the image that the volume holds.

use std::sync::atomic::Ordering;

use super::task::BackupTask;
use crate::ops::error::OpsError;
use crate::repo::{RepoErrorKind, Top, count_chunks};

/// A content is another one if less than one chunk in this many is the same.
const SHARED_MIN: u64 = 32;

/// Whether the content that was just stored shares more than almost nothing with `newest`, which it
/// was compared with. Zeros do not count. Two images of the same system share a part of their data,
/// in the same places; unrelated ones share nothing.
pub(super) fn shares_data(task: &BackupTask<'_>, newest: Top) -> Result<bool, OpsError> {
    let same = task.tally.same.load(Ordering::Relaxed);
    let data = task.tally.data.load(Ordering::Relaxed);
    if data > 0 && same.saturating_mul(SHARED_MIN) >= data {
        return Ok(true);
    }
    let before = match count_chunks(task.blobs, newest, &(0..u64::MAX)) {
        Ok(before) => before,
        // It cannot be told from what is damaged.
        Err(error) if error.kind() == RepoErrorKind::Damaged => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    // A part of a small image may be all that was left of it.
    Ok(before == 0 || data > 0 && same.saturating_mul(SHARED_MIN) >= before.min(data))
}
