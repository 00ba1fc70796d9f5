//! The plan of a `forget`, as a value. Nothing is deleted here.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::policy::{Candidate, Policy, Reason};
use crate::base::ObjectHash;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Records, Tombstones};

/// The backups to forget.
#[derive(Debug, Clone)]
pub enum Forget {
    /// All backups that a policy does not keep.
    ByPolicy {
        /// The rules for each volume.
        policy: Policy,
        /// The volumes, or all if none is named.
        volumes: Vec<String>,
        /// The time zone in which days, weeks, months and years begin.
        zone: TimeZone,
    },
    /// These backups.
    Named {
        /// Selectors as [`Records::select`] takes them.
        backups: Vec<String>,
        /// Whether to remove protected ones, too.
        force: bool,
    },
}

/// The backups that are kept and removed.
#[derive(Debug)]
pub struct ForgetPlan<'a> {
    /// The volumes of the plan, by name.
    pub volumes: Vec<VolumePlan<'a>>,
    /// The tombstones that it was made from.
    pub(super) tombstones: &'a Tombstones,
}

/// The backups of a volume that are kept and removed, oldest first.
#[derive(Debug)]
pub struct VolumePlan<'a> {
    /// Its name.
    pub volume: &'a str,
    /// The backups that stay, and why. If backups were named, other ones of the volume are not
    /// listed.
    pub keep: Vec<(&'a Backup, Vec<Reason>)>,
    /// The backups to remove.
    pub remove: Vec<Removal<'a>>,
}

/// A backup to remove.
#[derive(Debug, Clone, Copy)]
pub struct Removal<'a> {
    /// The backup.
    pub backup: &'a Backup,
    /// Whether an earlier run decided that, and was interrupted.
    pub unfinished: bool,
}

impl ForgetPlan<'_> {
    /// Returns all backups to remove.
    pub fn removals(&self) -> impl Iterator<Item = &Removal<'_>> {
        self.volumes.iter().flat_map(|volume| &volume.remove)
    }

    /// Returns the number of backups to remove.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.volumes.iter().map(|volume| volume.remove.len()).sum()
    }
}

/// Makes the plan for these records. Backups that tombstones name do not count for a policy, and
/// are removed in any case, as long as another backup of the volume stays.
pub fn plan_forget<'a>(
    records: &'a Records,
    tombstones: &'a Tombstones,
    what: &Forget,
    now: Timestamp,
) -> Result<ForgetPlan<'a>, OpsError> {
    let mut by_name: BTreeMap<&str, Vec<&Backup>> = BTreeMap::new();
    for backup in records.all() {
        let name = backup.record.volume.name.as_str();
        by_name.entry(name).or_default().push(backup);
    }
    let named = match what {
        Forget::ByPolicy { volumes, .. } => {
            let unknown = volumes.iter().find(|v| !by_name.contains_key(v.as_str()));
            if let Some(volume) = unknown.cloned() {
                return Err(OpsError::NoVolume { volume });
            }
            HashMap::new()
        }
        Forget::Named { backups, force } => named(records, backups, *force)?,
    };
    let mut plan = ForgetPlan {
        volumes: Vec::new(),
        tombstones,
    };
    for (volume, backups) in by_name {
        let (left_over, live): (Vec<_>, Vec<_>) =
            backups.iter().partition(|b| tombstones.names(b.id));
        let is_named = |b: &&Backup| named.contains_key(&b.id);
        let (keep, remove, others) = match what {
            Forget::ByPolicy {
                policy,
                volumes,
                zone,
            } if volumes.is_empty() || volumes.iter().any(|v| v == volume) => {
                let (keep, remove) = divide(policy, live, now, zone);
                (keep, remove, 0)
            }
            Forget::ByPolicy { .. } => (Vec::new(), Vec::new(), live.len()),
            Forget::Named { .. } => {
                let (remove, stay): (Vec<_>, Vec<_>) = live.into_iter().partition(is_named);
                (Vec::new(), remove, stay.len())
            }
        };
        let mut volume = VolumePlan {
            volume,
            keep,
            remove: removals(remove, false).collect(),
        };
        let stay = volume.keep.len() + others;
        volume.finish(left_over, stay, is_named);
        if stay + volume.keep.len() == 0 {
            volume.all_by_id(&named)?;
        }
        if !volume.keep.is_empty() || !volume.remove.is_empty() {
            plan.volumes.push(volume);
        }
    }
    Ok(plan)
}

/// Returns the named backups, and whether each was named by its id.
fn named(
    records: &Records,
    selectors: &[String],
    force: bool,
) -> Result<HashMap<ObjectHash, bool>, OpsError> {
    let mut named = HashMap::new();
    for selector in selectors {
        let backup = records.select(selector)?;
        if candidate(backup).is_protected() && !force {
            return Err(OpsError::Protected {
                volume: backup.record.volume.name.clone(),
                backup: backup.id,
            });
        }
        *named.entry(backup.id).or_default() |= backup.id.to_string().starts_with(selector);
    }
    Ok(named)
}

fn candidate(backup: &Backup) -> Candidate<'_> {
    Candidate {
        time: backup.time,
        labels: &backup.record.labels,
    }
}

/// Backups that stay, and why.
type Kept<'a> = Vec<(&'a Backup, Vec<Reason>)>;

/// Returns the backups of a volume that a policy keeps, and those that it does not keep.
fn divide<'a>(
    policy: &Policy,
    backups: Vec<&'a Backup>,
    now: Timestamp,
    zone: &TimeZone,
) -> (Kept<'a>, Vec<&'a Backup>) {
    let candidates: Vec<_> = backups.iter().map(|b| candidate(b)).collect();
    let reasons = policy.decide(&candidates, now, zone);
    let (keep, remove): (Vec<_>, Vec<_>) = backups
        .into_iter()
        .zip(reasons)
        .partition(|(_, reasons)| !reasons.is_empty());
    (keep, remove.into_iter().map(|(b, _)| b).collect())
}

fn removals(backups: Vec<&Backup>, unfinished: bool) -> impl Iterator<Item = Removal<'_>> {
    backups
        .into_iter()
        .map(move |backup| Removal { backup, unfinished })
}

impl<'a> VolumePlan<'a> {
    /// Adds the backups that earlier runs left over. Two concurrent runs that crashed can have
    /// removed all backups of a volume between them; so if no other one stays, the newest does,
    /// unless it was named.
    fn finish(
        &mut self,
        mut left_over: Vec<&'a Backup>,
        stay: usize,
        is_named: impl Fn(&&'a Backup) -> bool,
    ) {
        if stay == 0
            && let Some(newest) = left_over.iter().rposition(|b| !is_named(b))
        {
            let backup = left_over.remove(newest);
            self.keep.push((backup, vec![Reason::LastOfVolume]));
        }
        self.remove.extend(removals(left_over, true));
        self.remove.sort_by_key(|r| (r.backup.time, r.backup.id));
    }

    /// A typo must not remove a whole volume: `forget web1` means its newest backup.
    fn all_by_id(&self, named: &HashMap<ObjectHash, bool>) -> Result<(), OpsError> {
        let not_by_id = |r: &&Removal<'_>| named.get(&r.backup.id) == Some(&false);
        match self.remove.iter().find(not_by_id) {
            None => Ok(()),
            Some(removal) => Err(OpsError::LastOfVolume {
                volume: self.volume.to_owned(),
                backup: removal.backup.id,
            }),
        }
    }
}
