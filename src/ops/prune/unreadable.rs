//! Removes damaged files in the directory of records, if the log removes these records or accepts
//! their loss.

use crate::base::ObjectHash;
use crate::format::{LogItem, LogKind};
use crate::ops::error::OpsError;
use crate::repo::{Log, NewEntry, Project, Records, RepoError, Worker};

/// Names the damaged files among `records` in an entry of the log, and deletes them. `records` were
/// read by a prune that does not stop because of these files. Leaves files that this process cannot
/// read, since other users may be able to read them. Also leaves directories.
pub(super) fn remove(project: &Project, records: &Records, by: Worker<'_>) -> Result<(), OpsError> {
    let ignored = records.ignored().map(|(_, error)| &**error);
    let errors = records.damaged().iter().chain(ignored);
    let hashes: Vec<ObjectHash> = errors
        .filter(|error| !error.is_unreadable())
        .filter_map(RepoError::object_hash)
        .collect();
    if hashes.is_empty() {
        return Ok(());
    }
    let mut log = Log::load(project)?;
    let items = hashes.iter().map(|hash| LogItem {
        kind: LogKind::Record,
        hash: *hash,
    });
    let entry = NewEntry {
        removed: items.collect(),
        ..NewEntry::default()
    };
    log.append(project, entry, by)?;
    let removed = hashes.iter();
    for removed in removed.filter_map(|hash| log.removal(LogKind::Record, *hash)) {
        removed.delete(project)?;
    }
    Ok(())
}
