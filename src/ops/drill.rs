//! Restore drills: chooses random backups, and notes in the ledger whether they could be restored.
//! The command `drill` restores them.

use std::collections::HashMap;
use std::time::SystemTime;

use super::context::TOOL;
use super::error::OpsError;
use crate::base::ObjectHash;
use crate::format::DrillRun;
use crate::repo::{
    Backup, Ledger, NewLedgerEntry, ObjectRef, Project, Records, Worker, new_seed, order_by_seed,
    since_1970,
};

/// Chooses at most `sample` backups at random. `max_bytes` limits the total size of their contents.
/// A backup that would exceed this limit is left out, and a smaller one may be chosen instead.
/// Leaves out backups that their writers withdrew, or that other records replaced.
pub fn choose_drill(
    project: &Project,
    records: &Records,
    sample: usize,
    max_bytes: Option<u64>,
) -> Result<Vec<Backup>, OpsError> {
    let listed = records.listed().filter(|backup| !records.is_voided(backup));
    let by_id: HashMap<ObjectHash, &Backup> = listed.map(|backup| (backup.id, backup)).collect();
    let refs = by_id
        .keys()
        .map(|id| (ObjectRef::Backup(project.id, *id), *id));
    let mut order: Vec<_> = refs.collect();
    order_by_seed(&new_seed()?, &mut order);
    let mut left = max_bytes.unwrap_or(u64::MAX);
    let mut chosen = Vec::new();
    for backup in order.iter().filter_map(|(_, id)| by_id.get(id)) {
        if chosen.len() == sample {
            break;
        }
        if let Some(rest) = left.checked_sub(backup.record.content.size) {
            left = rest;
            chosen.push((*backup).clone());
        }
    }
    Ok(chosen)
}

/// Notes the outcome of drills in the ledger.
pub fn note_drills(
    project: &Project,
    drills: Vec<DrillRun>,
    host: Option<&str>,
) -> Result<(), OpsError> {
    let worker = Worker { host, tool: TOOL };
    let new = NewLedgerEntry {
        drills,
        ..NewLedgerEntry::default()
    };
    let ledger = Ledger::load(project, since_1970(SystemTime::now()), |_| true)?;
    Ok(ledger.append(project, new, worker)?)
}
