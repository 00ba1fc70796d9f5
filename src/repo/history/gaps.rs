//! Missing records that others name and that no entry of the log removes or accepts as lost, and
//! the names that the log repeats of removed records. Section 12 (Log) of `docs/format.md`.

use std::collections::HashSet;

use super::records::Records;
use crate::base::ObjectHash;
use crate::format::{LogKind, RemovedRecord};
use crate::repo::backup::Backup;
use crate::repo::log::{Log, removed_record};

impl Records {
    /// Returns the missing records that the log or a record of a full key names, and that no entry
    /// of the log removes or accepts as lost: a part of the history was lost. In ascending order.
    /// `log` must be read after the records.
    #[must_use]
    pub fn vanished(&self, log: &Log) -> Vec<ObjectHash> {
        let of_full = self.all().iter().filter(|backup| backup.is_full);
        let named = of_full.flat_map(|backup| backup.record.names());
        let of_removed = log.removed_records().flat_map(RemovedRecord::names);
        let accepted = log.revocations().flat_map(|revoked| &revoked.accepted);
        let set = log.set().into_iter();
        let set = set.filter(|item| item.kind == LogKind::Record);
        let set: Vec<ObjectHash> = set.map(|item| item.hash).collect();
        self.missing(named.chain(of_removed).chain(accepted).chain(&set), log)
    }

    /// Returns the missing records that only records of write keys name. They vanished before a
    /// full key added them to the log, or the holder of a write key invented their names. In
    /// ascending order.
    #[must_use]
    pub fn unconfirmed(&self, log: &Log) -> Vec<ObjectHash> {
        let of_write_keys = self.all().iter().filter(|backup| !backup.is_full);
        let named = of_write_keys.flat_map(|backup| backup.record.names());
        let vanished: HashSet<ObjectHash> = self.vanished(log).into_iter().collect();
        let mut missing = self.missing(named, log);
        missing.retain(|id| !vanished.contains(id));
        missing
    }

    /// Returns the details of one of these backups that the log must keep if it removes the backup.
    ///
    /// Of the names in a record of a write key, repeats only those of records that count, that only
    /// a revocation excludes, or that the log excuses. Its maker may have stored any other file
    /// under its hash, for example garbage. If the log named that file, it would be a gap as soon
    /// as someone deletes it.
    #[must_use]
    pub fn describe_removed(&self, backup: &Backup, log: &Log, reason: &str) -> RemovedRecord {
        let mut described = removed_record(backup.id, &backup.record, backup.is_full, reason);
        if !backup.is_full {
            described.keep_names(|id| self.is_genuine(id) || log.excuses(*id));
        }
        described
    }

    /// Returns those of these records that are missing and that no entry of the log removes or
    /// accepts as lost.
    fn missing<'a>(
        &self,
        named: impl Iterator<Item = &'a ObjectHash>,
        log: &Log,
    ) -> Vec<ObjectHash> {
        let is_missing = |id: &&ObjectHash| !self.exists(id) && !log.excuses(**id);
        let mut missing: Vec<ObjectHash> = named.filter(is_missing).copied().collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}
