//! Records that were deleted on purpose.

use crate::base::ObjectHash;
use crate::format::RemovedRecord;

/// A record that was deleted on purpose, with the details that the log keeps.
#[derive(Debug, Clone)]
pub struct ForgottenRecord {
    /// Its id.
    pub id: ObjectHash,
    /// The name of its volume.
    pub volume: String,
    /// The records that it followed.
    pub follows: Vec<ObjectHash>,
    /// The record that it had replaced.
    pub replaces: Option<ObjectHash>,
}

impl ForgottenRecord {
    pub(crate) fn of(removed: &RemovedRecord) -> Self {
        Self {
            id: removed.record,
            volume: removed.volume.name.clone(),
            follows: removed.follows.clone(),
            replaces: removed.replaces,
        }
    }
}
