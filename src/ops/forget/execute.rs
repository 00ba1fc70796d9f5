//! Deletes the records that a plan removes.

use std::collections::HashSet;

use super::plan::{ForgetPlan, Removal};
use crate::base::ObjectHash;
use crate::format::{LogDetails, LogItem, LogKind};
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::ops::history::unnamed;
use crate::repo::{Lease, Leases, Log, NewEntry, Project, Records, Work, Worker};

/// Executes a plan: announces it in a lease, and reads the leases and log entries of other
/// processes. Then writes a log entry, and deletes the records. If a run is interrupted, another
/// run of the same `forget` deletes the remaining records. `host` is the name of this host.
pub fn forget(
    project: &Project,
    plan: &ForgetPlan<'_>,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    context.cancel.check()?;
    let removals: Vec<&Removal<'_>> = plan.removals().collect();
    let keeps: Vec<ObjectHash> = plan.relies_on().collect();
    let by = Worker { host, tool: TOOL };
    for removals in removals.chunks(Lease::RECORDS_MAX) {
        let removes: Vec<ObjectHash> = removals.iter().map(|r| r.backup.id).collect();
        let lease = Lease::take(project, Work::Forget, by)?;
        let mut log = claim(project, plan, &lease, &removes, &keeps)?;
        let describe = |removal: &&Removal<'_>| {
            (plan.records).describe_removed(removal.backup, &log, "forgotten")
        };
        let records = removals.iter().map(describe).collect();
        let entry = NewEntry {
            // The entry also adds the records that stay, so that processes notice if one of them
            // vanishes.
            added: unnamed(&log, keeps.iter().map(|id| item(*id))),
            removed: removes.iter().map(|id| item(*id)).collect(),
            details: LogDetails {
                removed_records: records,
                ..LogDetails::default()
            },
            ..NewEntry::default()
        };
        // If this process was paused, the lease may have expired, and other processes may have
        // ignored it.
        lease.confirm()?;
        if lease.may_have_expired() {
            return Err(OpsError::PausedTooLong);
        }
        log.append(project, entry, by)?;
        for removed in removes
            .iter()
            .filter_map(|id| log.removal(LogKind::Record, *id))
        {
            context.cancel.check()?;
            // After the lease has expired, other runs may make plans that keep the remaining
            // records.
            if lease.may_have_expired() {
                return Err(OpsError::PausedTooLong);
            }
            removed.delete(project)?;
        }
    }
    Ok(())
}

fn item(record: ObjectHash) -> LogItem {
    LogItem {
        kind: LogKind::Record,
        hash: record,
    }
}

/// Announces the records to remove, and the records that must stay if those are removed. Then fails
/// if the plan of another run contradicts this plan. Returns the log. Each run announces its plan
/// before it looks for other plans. So if two runs contradict each other, at least one of them
/// notices.
fn claim(
    project: &Project,
    plan: &ForgetPlan<'_>,
    lease: &Lease,
    removes: &[ObjectHash],
    keeps: &[ObjectHash],
) -> Result<Log, OpsError> {
    let sets: [HashSet<ObjectHash>; 2] =
        [removes, keeps].map(|records| records.iter().copied().collect());
    lease.intend_to_remove(removes, keeps)?;
    // Load the leases before the records: a run deletes its records before it deletes its lease.
    let leases = Leases::load(project, Some(lease))?;
    let there = Records::present(project)?;
    let log = Log::load(project)?;
    // After this plan was made, another run may have written entries that remove records, and
    // crashed before it deleted these records.
    let is_removed = |id: &ObjectHash| {
        log.removed(LogKind::Record, *id) && !plan.log.removed(LogKind::Record, *id)
    };
    let is_lost = |id: &ObjectHash| !there.contains(id) || is_removed(id);
    let lost = keeps.iter().copied().find(is_lost);
    match lost.or_else(|| leases.contradict(&sets[0], &sets[1])) {
        Some(record) => Err(OpsError::LostRace {
            volume: plan.volume_of(record),
        }),
        None => Ok(log),
    }
}
