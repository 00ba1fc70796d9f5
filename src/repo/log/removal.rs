//! Deletes objects that the log removes.

use crate::base::ObjectHash;
use crate::format::{BackupRecord, LogItem, RemovedRecord};
use crate::repo::error::RepoError;
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;

/// Proof that a durable entry of the log removes an object. This proof permits the deletion of the
/// object.
#[derive(Debug, Clone, Copy)]
pub struct Removed(LogItem);

impl Removed {
    pub(super) fn new(item: LogItem) -> Self {
        Self(item)
    }

    /// Returns the object.
    #[must_use]
    pub fn item(&self) -> LogItem {
        self.0
    }

    /// Deletes the object, if it still exists. Does nothing for parity: its name has two hashes,
    /// and the log states only one of them.
    pub fn delete(self, project: &Project) -> Result<(), RepoError> {
        let Some(object) = ObjectRef::of_log(project.id, self.0) else {
            return Ok(());
        };
        if object.kind().info().kept_twice {
            project.objects.delete_twice(object)
        } else {
            project.objects.delete(object)
        }
    }
}

/// Returns the details that the log must keep of a removed record. `is_full` states whether a full
/// key signed the record. Only then can the record have replaced another one.
#[must_use]
pub fn removed_record(
    id: ObjectHash,
    record: &BackupRecord,
    is_full: bool,
    reason: &str,
) -> RemovedRecord {
    RemovedRecord {
        record: id,
        volume: record.volume.clone(),
        follows: record.follows.clone(),
        heads: record.heads.clone(),
        replaces: record.replaces.filter(|_| is_full),
        time: record.time.clone(),
        reason: reason.to_owned(),
    }
}
