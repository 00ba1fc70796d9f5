//! Decides which records of revoked keys still count. Section 7 (Sealed object) of
//! `docs/format.md`.

use std::collections::{HashMap, HashSet};

use crate::base::{ObjectHash, SignerId};
use crate::repo::backup::Backup;
use crate::repo::log::Log;

/// Divides backups into those that count and those that do not. A backup of a revoked key counts
/// only if a revocation of this key accepts its record or a descendant of this record. Descendants
/// follow a record or list it in `heads`, directly or through others. Backups of full keys always
/// count.
pub(crate) fn divide(backups: Vec<Backup>, log: &Log) -> (Vec<Backup>, Vec<Backup>) {
    let mut accepted: HashMap<SignerId, HashSet<ObjectHash>> = HashMap::new();
    for revoked in log.revocations() {
        let records = with_ancestors(&revoked.accepted, &backups, log);
        accepted.entry(revoked.signer).or_default().extend(records);
    }
    backups.into_iter().partition(|backup| {
        let accepted = accepted.get(&backup.signer);
        backup.is_full || accepted.is_none_or(|records| records.contains(&backup.id))
    })
}

/// Returns these records, and all records that they follow or list in `heads`, directly or through
/// others.
fn with_ancestors(records: &[ObjectHash], backups: &[Backup], log: &Log) -> HashSet<ObjectHash> {
    let by_id: HashMap<_, _> = backups.iter().map(|b| (b.id, &b.record)).collect();
    let mut found = HashSet::new();
    let mut waiting = records.to_vec();
    while let Some(id) = waiting.pop() {
        if !found.insert(id) {
            continue;
        }
        if let Some(record) = by_id.get(&id) {
            waiting.extend(record.follows.iter().chain(&record.heads));
        } else if let Some(record) = log.removed_record(id) {
            waiting.extend(record.follows.iter().chain(&record.heads));
        }
    }
    found
}
