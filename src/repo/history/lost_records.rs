//! Lost records: records that cannot be read, or that are missing although others name them. The
//! backup of a lost record may be newer than all backups whose records can be read.

use std::collections::HashMap;

use crate::base::ObjectHash;
use crate::repo::log::Log;
use crate::repo::no_backup::LostRecord;

/// The lost records of a project.
#[derive(Debug, Default)]
pub(crate) struct LostRecords {
    /// The lost records. Those that exist but cannot be read come first.
    pub(crate) lost: Vec<LostRecord>,
    /// For each removed record, the names in its `follows` and `heads` that the log repeats. Empty
    /// if no record is lost.
    pub(crate) removed: HashMap<ObjectHash, Vec<ObjectHash>>,
}

impl LostRecords {
    /// Combines the records that cannot be read with those that are missing. Reads from the log
    /// which records the removed ones named.
    pub(crate) fn new(damaged: Vec<ObjectHash>, mut missing: Vec<ObjectHash>, log: &Log) -> Self {
        missing.retain(|id| !damaged.contains(id));
        let lost = |ids: Vec<ObjectHash>, missing| {
            ids.into_iter().map(move |id| LostRecord { id, missing })
        };
        let lost: Vec<_> = lost(damaged, false).chain(lost(missing, true)).collect();
        let removed = if lost.is_empty() {
            HashMap::new()
        } else {
            let named = log.removed_records().map(|removed| {
                let named = removed.follows.iter().chain(&removed.heads);
                (removed.record, named.copied().collect())
            });
            named.collect()
        };
        Self { lost, removed }
    }
}
