//! Records that the log removes.

use crate::base::ObjectHash;
use crate::format::RemovedRecord;

/// A record that the log removes, with the details that the log repeats.
#[derive(Debug, Clone)]
pub struct ForgottenRecord {
    /// Its id.
    pub id: ObjectHash,
    /// The name of its volume.
    pub volume: String,
    /// The records that it followed.
    pub follows: Vec<ObjectHash>,
    /// The record that it replaced, if any.
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
