//! Finds gaps in the history: records that do not exist although other records or the log name
//! them. Records that an entry of the log removes or accepts as lost are no gaps. Also decides
//! which of the names in a removed record the log repeats. Section 12 (Log) of `docs/format.md`.

use super::records::Records;
use crate::base::ObjectHash;
use crate::format::{LogKind, RemovedRecord};
use crate::repo::backup::Backup;
use crate::repo::log::{Log, removed_record};

impl Records {
    /// Returns the missing records that the log or a record of a full key names, in ascending
    /// order. Leaves out records that an entry of the log removes or accepts as lost. `log` must
    /// have been read after the records.
    pub(super) fn find_vanished(&self, log: &Log) -> Vec<ObjectHash> {
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
        let mut missing = self.missing(named, log);
        missing.retain(|id| self.vanished().binary_search(id).is_err());
        missing
    }

    /// Returns the details of one of these backups that the log must keep if it removes the backup.
    ///
    /// From a record of a write key, keeps only the names of two kinds of records: those that exist
    /// undamaged or were replaced, and those that the log removes or accepts as lost. Any other
    /// name may be that of a file with garbage, which the holder of the write key stored under its
    /// hash. If the log named this file, the history would have a gap as soon as someone deletes
    /// the file.
    #[must_use]
    pub fn describe_removed(&self, backup: &Backup, log: &Log, reason: &str) -> RemovedRecord {
        let mut described = removed_record(backup.id, &backup.record, backup.is_full, reason);
        if !backup.is_full {
            described.keep_known(|id| self.is_genuine(id) || log.excuses(*id));
        }
        described
    }

    /// Returns the records in `named` that are missing and that no entry of the log removes or
    /// accepts as lost, in ascending order.
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
