//! Removes the records and voids (objects that withdraw a record) that revoked keys signed. Records
//! that a revocation accepts stay.

use crate::base::ObjectHash;
use crate::format::{LogItem, LogKind};
use crate::ops::error::OpsError;
use crate::repo::{Log, NewEntry, Project, Records, Voids, Worker};

/// Returns the records and voids to remove.
pub(super) fn find(project: &Project, records: &Records) -> Result<Vec<LogItem>, OpsError> {
    let voids = Voids::load(project)?;
    let item = |kind| move |hash: ObjectHash| LogItem { kind, hash };
    let items = records.revoked().map(item(LogKind::Record));
    let voids = voids.revoked().iter().copied().map(item(LogKind::Void));
    Ok(items.chain(voids).collect())
}

/// Names these records and voids in an entry of the log, and deletes them. Returns their number.
/// `seen` is the log that was read with `records`. If a key was revoked since then, removes nothing
/// and returns 0.
pub(super) fn remove(
    project: &Project,
    records: &Records,
    seen: &Log,
    by: Worker<'_>,
) -> Result<u64, OpsError> {
    let items = find(project, records)?;
    let mut log = Log::load(project)?;
    if items.is_empty() || log.revocations().count() != seen.revocations().count() {
        return Ok(0);
    }
    let entry = NewEntry {
        removed: items.clone(),
        ..NewEntry::default()
    };
    log.append(project, entry, by)?;
    let removed = items.iter().filter_map(|i| log.removal(i.kind, i.hash));
    for removed in removed {
        removed.delete(project)?;
    }
    Ok(items.len() as u64)
}
