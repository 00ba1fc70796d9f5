//! The ends of a project's history.

use std::collections::HashSet;

use super::records::Records;
use crate::base::ObjectHash;
use crate::repo::backup::Backup;

/// The ends of a project's history: records and log entries from which all others can be reached
/// through the names that they contain.
#[derive(Debug, Clone, Default)]
pub struct HistoryEnds {
    /// The backups that no record of a full key lists in its `heads`.
    pub backups: Vec<Backup>,
    /// The ids of all backups that were read.
    pub read: HashSet<ObjectHash>,
    /// The entries of the log that no other entry names.
    pub log: Vec<ObjectHash>,
    /// The hashes of all entries of the log that were read.
    pub log_read: HashSet<ObjectHash>,
}

impl HistoryEnds {
    /// Finds the ends of these records. A record that only records of write keys name is an end,
    /// too, since the holder of a write key can invent names.
    #[must_use]
    pub fn of(records: &Records) -> Self {
        let full = records.all().iter().filter(|backup| backup.is_full);
        let named: HashSet<_> = full.flat_map(|backup| &backup.record.heads).collect();
        let all = records.all().iter();
        let ends = all.filter(|backup| !named.contains(&backup.id));
        Self {
            backups: ends.cloned().collect(),
            read: records.all().iter().map(|backup| backup.id).collect(),
            log: records.log_tips().to_vec(),
            log_read: records.log_entries().clone(),
        }
    }
}
