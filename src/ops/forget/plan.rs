//! The plan of a `forget`, as a value. Nothing is deleted here.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::policy::{Candidate, Link, Policy};
use super::rule::{LabelMatch, Reason};
use crate::base::ObjectHash;
use crate::format::LogKind;
use crate::ops::error::OpsError;
use crate::repo::{Backup, History, Log, Records};

/// The backups to forget.
#[derive(Debug, Clone)]
pub enum Forget {
    /// All backups that a policy does not keep.
    ByPolicy {
        /// The rules for each volume.
        policy: Policy,
        /// The volumes. If none is named, the policy applies to all volumes.
        volumes: Vec<String>,
        /// Labels. The policy counts and removes only backups that have all of these labels.
        labels: Vec<LabelMatch>,
        /// The time zone in which days, weeks, months and years begin.
        zone: TimeZone,
    },
    /// The backups that the user names.
    Named {
        /// Selectors as [`Records::select_surely`] takes them.
        backups: Vec<String>,
        /// Whether to remove protected backups, too.
        force: bool,
    },
}

/// The backups that are kept and removed.
#[derive(Debug)]
pub struct ForgetPlan<'a> {
    /// The volumes of the plan, by name.
    pub volumes: Vec<VolumePlan<'a>>,
    /// The records from which the plan was made.
    pub(super) records: &'a Records,
    /// The log from which the plan was made.
    pub(super) log: &'a Log,
}

/// The backups of a volume that are kept and removed, oldest first.
#[derive(Debug)]
pub struct VolumePlan<'a> {
    /// Its name.
    pub volume: &'a str,
    /// The backups that stay, and why. If the user named the backups to remove, other backups of
    /// the volume are not listed.
    pub keep: Vec<(&'a Backup, Vec<Reason>)>,
    /// The backups to remove.
    pub remove: Vec<Removal<'a>>,
    /// The ids of all backups of the volume that stay.
    stays: Vec<ObjectHash>,
    /// The newest backup of each line of the volume's history, newest first. There are several if
    /// hosts backed up at the same time, or if copies of the repository were merged.
    pub newest: Vec<&'a Backup>,
}

/// A backup to remove.
#[derive(Debug, Clone, Copy)]
pub struct Removal<'a> {
    /// The backup.
    pub backup: &'a Backup,
    /// Whether the log says that an earlier run removed it. In that case, the run was interrupted,
    /// or the backup came back from a copy of the repository.
    pub unfinished: bool,
}

impl ForgetPlan<'_> {
    /// Returns all backups to remove.
    pub fn removals(&self) -> impl Iterator<Item = &Removal<'_>> {
        self.volumes.iter().flat_map(|volume| &volume.remove)
    }

    /// Returns the ids of the backups that must stay if the plan is executed: all other backups of
    /// each volume that loses a backup.
    pub(super) fn relies_on(&self) -> impl Iterator<Item = ObjectHash> {
        let changed = self
            .volumes
            .iter()
            .filter(|volume| !volume.remove.is_empty());
        changed.flat_map(|volume| volume.stays.iter().copied())
    }

    /// Returns the name of the volume of this backup, for messages. Returns an empty name if the
    /// plan does not contain the backup.
    pub(super) fn volume_of(&self, backup: ObjectHash) -> String {
        let has = |volume: &&VolumePlan<'_>| {
            let removed = volume
                .remove
                .iter()
                .any(|removal| removal.backup.id == backup);
            removed || volume.stays.contains(&backup)
        };
        let volume = self.volumes.iter().find(has).map(|volume| volume.volume);
        volume.unwrap_or_default().to_owned()
    }

    /// Returns the number of backups to remove.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.volumes.iter().map(|volume| volume.remove.len()).sum()
    }
}

/// Makes the plan for these records. Fails if a volume or backup that the user named does not
/// exist. Without `force`, also fails if a named backup is protected. Fails if a selector other
/// than an id would remove the last backup of a volume.
///
/// A backup counts even if the log says that it was removed. A log entry only explains why a record
/// is missing. It does not ask anyone to delete the record.
pub fn plan_forget<'a>(
    records: &'a Records,
    log: &'a Log,
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
        records,
        log,
    };
    for (volume, backups) in by_name {
        let is_named = |b: &&Backup| named.contains_key(&b.id);
        let ids = |backups: &[&Backup]| backups.iter().map(|b| b.id).collect();
        let (keep, remove, stays) = match what {
            Forget::ByPolicy {
                policy,
                volumes,
                labels,
                zone,
            } if volumes.is_empty() || volumes.iter().any(|v| v == volume) => {
                let (keep, remove) = divide(records, volume, (policy, labels), (now, zone));
                let removed: HashSet<_> = remove.iter().map(|b| b.id).collect();
                let goes = |b: &&Backup| removed.contains(&b.id);
                let (_, stay): (Vec<_>, Vec<_>) = backups.into_iter().partition(goes);
                (keep, remove, ids(&stay))
            }
            Forget::ByPolicy { .. } => (Vec::new(), Vec::new(), ids(&backups)),
            Forget::Named { .. } => {
                let (remove, stay): (Vec<_>, Vec<_>) = backups.into_iter().partition(is_named);
                (Vec::new(), remove, ids(&stay))
            }
        };
        let remove = remove.into_iter().map(|backup| Removal {
            backup,
            unfinished: log.removed(LogKind::Record, backup.id),
        });
        let volume = VolumePlan {
            volume,
            keep,
            remove: remove.collect(),
            stays,
            newest: records.tips(volume),
        };
        if volume.stays.is_empty() {
            volume.all_by_id(&named)?;
        }
        if !volume.keep.is_empty() || !volume.remove.is_empty() {
            plan.volumes.push(volume);
        }
    }
    Ok(plan)
}

/// Returns the named backups, and for each of them whether the user named it by its id or the
/// beginning of its id.
fn named(
    records: &Records,
    selectors: &[String],
    force: bool,
) -> Result<HashMap<ObjectHash, bool>, OpsError> {
    let mut named = HashMap::new();
    for selector in selectors {
        let backup = records.select_surely(selector)?;
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
        key: (!backup.is_full).then_some(backup.signer),
    }
}

/// Backups that stay, and why.
type Kept<'a> = Vec<(&'a Backup, Vec<Reason>)>;

/// Returns the backups of a volume that a policy keeps, and those that it does not keep, both
/// oldest first. Leaves out backups that lack one of the labels.
fn divide<'a>(
    records: &'a Records,
    volume: &str,
    (policy, labels): (&Policy, &[LabelMatch]),
    (now, zone): (Timestamp, &TimeZone),
) -> (Kept<'a>, Vec<&'a Backup>) {
    let is_selected = |backup: &&Backup| {
        let mut labels = labels.iter();
        labels.all(|label| label.fits(&backup.record.labels))
    };
    let entries = records.history(volume).map(History::entries);
    let entries = entries.unwrap_or_default();
    let present: Vec<Option<&Backup>> = entries.iter().map(|e| records.get(e.id)).collect();
    let links: Vec<Link<'_>> = entries
        .iter()
        .zip(&present)
        .map(|(entry, backup)| {
            let counts = |backup: &&Backup| {
                !entry.passed_over && !records.is_replaced(backup) && is_selected(backup)
            };
            Link {
                backup: backup.filter(counts).map(candidate),
                follows: &entry.follows,
            }
        })
        .collect();
    let decided = policy.decide(&links, now, zone);
    let (mut keep, mut remove) = (Vec::new(), Vec::new());
    for ((entry, backup), mut reasons) in entries.iter().zip(present).zip(decided).rev() {
        // The history passes over records that were voided, or forgotten and deleted. So if an
        // entry that is passed over still has a backup, the backup was voided.
        reasons.extend(entry.passed_over.then_some(Reason::Voided));
        match backup.filter(is_selected) {
            Some(backup) if reasons.is_empty() => remove.push(backup),
            Some(backup) => keep.push((backup, reasons)),
            None => {}
        }
    }
    (keep, remove)
}

impl VolumePlan<'_> {
    /// Must be called if no backup of the volume would stay. Fails if the user named one of the
    /// backups to remove in another way than by its id. `forget web1` means the newest backup of
    /// the volume `web1`. If that is the only backup, a typo must not remove the whole volume.
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
