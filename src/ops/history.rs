//! Finds missing parts of a project's history. If any part is missing, a process that deletes data
//! stops, until the holder of a full key accepts the loss in the log.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::context::TOOL;
use super::error::OpsError;
use super::missing::{DamagedHistory, MissingCertificate, MissingHistory, MissingRecord};
use crate::base::{Notice, ObjectHash, Observer};
use crate::format::{LogDetails, LogItem};
use crate::repo::{KeySummary, Log, NewEntry, Project, Records, RepoError, Worker};

/// The losses that the user accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// Missing or damaged records, certificates and entries of the log.
    pub objects: Vec<LostName>,
    /// Whether the user accepts all losses, except of objects that the store does not deliver to
    /// this process. If this is set and the project has no record, a prune may delete all data.
    pub all: bool,
}

/// The name of a lost object, or the beginning of it: at least 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostName(String);

impl LostName {
    /// The minimum number of digits.
    const DIGITS_MIN: usize = 8;

    /// Returns whether this is the name of the object, or the beginning of it.
    #[must_use]
    pub fn fits(&self, id: &ObjectHash) -> bool {
        id.to_string().starts_with(&self.0)
    }
}

impl fmt::Display for LostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ObjectHash> for LostName {
    fn from(id: ObjectHash) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for LostName {
    type Err = ParseLostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = Self::DIGITS_MIN..=2 * ObjectHash::LEN;
        if digits.contains(&text.len()) && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseLostNameError)
        }
    }
}

/// A text is not the name of a lost object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give all 64 digits of a name, or at least the first 8, or “all”")]
pub struct ParseLostNameError;

impl AcceptedLoss {
    /// Returns whether the user accepts no losses.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.objects.is_empty() && !self.all
    }

    /// Returns whether the user accepts the loss of the object that this error names. If the store
    /// does not deliver an object to this process, another user may be able to read it. Then the
    /// user must name the object to accept its loss.
    pub(super) fn includes(&self, error: &RepoError) -> bool {
        let is_named = error
            .object_hash()
            .is_some_and(|id| self.objects.iter().any(|name| name.fits(&id)));
        is_named || self.all && !error.is_unreadable()
    }
}

impl MissingHistory {
    /// Finds missing and damaged objects. The caller has read `log` after `records`. `certificates`
    /// are the errors that [`Project::verify_certificates`] returned before that.
    pub fn find(
        project: &Project,
        records: &Records,
        log: &Log,
        certificates: &[RepoError],
    ) -> Result<Self, OpsError> {
        let damaged = records.damaged().iter().filter_map(RepoError::object_hash);
        let damaged: HashSet<ObjectHash> = damaged.collect();
        let unreadable = records.damaged().iter().chain(log.damaged());
        let unreadable = unreadable.filter(|error| error.is_unreadable());
        let mut missing = records.vanished().to_vec();
        missing.retain(|id| !damaged.contains(id));
        let certificates: Vec<_> = certificates.iter().filter_map(certificate).collect();
        let keys = if certificates.is_empty() {
            Vec::new()
        } else {
            let keys = project.uncertified_keys()?;
            keys.iter().map(described).collect()
        };
        Ok(Self {
            records: missing
                .into_iter()
                .map(|id| describe(id, records, log))
                .collect(),
            entries: log.missing(),
            damaged_entries: log.damaged().iter().filter_map(damaged_entry).collect(),
            certificates,
            keys,
            damaged_records: damaged.into_iter().collect(),
            unreadable: unreadable.filter_map(RepoError::object_hash).collect(),
        })
    }

    /// Fails with [`OpsError::HistoryCut`] if the user does not accept the loss of a missing
    /// object, or of a damaged log entry or certificate. Fails with [`OpsError::NotMissing`] if the
    /// user names an object that is neither missing nor damaged, and whose loss no entry of the log
    /// accepts. Fails with [`OpsError::SeveralMissing`] if a name is not unique. Otherwise, adds an
    /// entry to the log for the losses that no entry accepts yet. Adds none in a dry run.
    pub fn accept(
        mut self,
        project: &Project,
        accepted: &AcceptedLoss,
        log: &mut Log,
        host: Option<&str>,
        dry_run: bool,
    ) -> Result<(), OpsError> {
        let missing: HashSet<ObjectHash> = self.ids().collect();
        for lost_name in &accepted.objects {
            let mut found = missing.iter().filter(|id| lost_name.fits(id));
            let name = lost_name.to_string();
            match (found.next(), found.next()) {
                (Some(_), None) => {}
                (Some(a), Some(b)) => {
                    let objects = [*a, *b];
                    return Err(OpsError::SeveralMissing { name, objects });
                }
                // The loss of this object was accepted before.
                (None, _) if log.accepted_losses().any(|id| lost_name.fits(id)) => {}
                (None, _) if name.parse().is_ok_and(|id| log.excuses(id)) => {}
                (None, _) => return Err(OpsError::NotMissing { name }),
            }
        }
        let is_named = |id: &ObjectHash| accepted.objects.iter().any(|name| name.fits(id));
        let is_lost =
            |id: &ObjectHash| is_named(id) || accepted.all && !self.unreadable.contains(id);
        let mut lost: Vec<ObjectHash> = missing.into_iter().filter(is_lost).collect();
        let removed = self.items(&lost);
        self.without(&lost);
        if !self.is_empty() {
            let missing = Box::new(self);
            return Err(OpsError::HistoryCut { missing });
        }
        if lost.is_empty() || dry_run {
            return Ok(());
        }
        lost.sort_unstable();
        let entry = NewEntry {
            removed,
            details: LogDetails {
                lost,
                ..LogDetails::default()
            },
            ..NewEntry::default()
        };
        Ok(log.append(project, entry, Worker { host, tool: TOOL })?)
    }
}

/// Reads the records and the log for a command that deletes. Fails as [`MissingHistory::accept`]
/// does if history is missing.
pub fn require_history(
    project: &Project,
    accepted: &AcceptedLoss,
    host: Option<&str>,
    dry_run: bool,
) -> Result<(Records, Log), OpsError> {
    let (mut missing, mut records, mut log) = read_history(project)?;
    if !missing.is_empty() {
        // An object may seem to be missing if it was stored after the list was made. So read again.
        (missing, records, log) = read_history(project)?;
    }
    missing.accept(project, accepted, &mut log, host, dry_run)?;
    Ok((records, log))
}

/// Finds the certificates that the log names, and that are missing or damaged. Backups by their
/// keys do not count.
pub fn lost_certificates(project: &Project) -> Result<Vec<MissingCertificate>, OpsError> {
    let errors = project.verify_certificates(&Log::load(project)?)?;
    Ok(errors.iter().filter_map(certificate).collect())
}

fn read_history(project: &Project) -> Result<(MissingHistory, Records, Log), OpsError> {
    let certificates = project.verify_certificates(&Log::load(project)?)?;
    let (records, log) = Records::load_with_log(project)?;
    let missing = MissingHistory::find(project, &records, &log, &certificates)?;
    Ok((missing, records, log))
}

/// Sends a notice if records are missing that only records of write keys name.
pub(super) fn notice_unconfirmed(records: &Records, log: &Log, observer: &dyn Observer) {
    let missing = records.unconfirmed(log);
    if let Some(first) = missing.first() {
        observer.notice(Notice::NamedByWriteKeysOnly {
            records: missing.len() as u64,
            first: *first,
        });
    }
}

/// Returns those of these objects that the log does not name yet, as added or as removed. After the
/// log names an object, processes notice if it vanishes.
pub(super) fn unnamed(log: &Log, items: impl Iterator<Item = LogItem>) -> Vec<LogItem> {
    let named: HashSet<LogItem> = log.set().into_iter().collect();
    let is_new = |item: &LogItem| !named.contains(item) && !log.removed(item.kind, item.hash);
    items.filter(is_new).collect()
}

fn described(key: &KeySummary) -> String {
    let (id, role) = (key.id.to_string(), key.role);
    match &key.info.label[..] {
        "" => format!("{} ({role})", &id[..8]),
        label => format!("{} ({role}, “{label}”)", &id[..8]),
    }
}

fn damaged_entry(error: &RepoError) -> Option<DamagedHistory> {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    Some(DamagedHistory {
        id: error.object_hash()?,
        damage: cause.unwrap_or_else(|| error.to_string()),
    })
}

fn certificate(error: &RepoError) -> Option<MissingCertificate> {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    Some(MissingCertificate {
        id: error.object_hash()?,
        damage: if error.is_missing() { None } else { cause },
    })
}

fn describe(id: ObjectHash, records: &Records, log: &Log) -> MissingRecord {
    let mut missing = MissingRecord {
        id,
        volume: None,
        before: None,
    };
    for backup in records.all().iter().filter(|backup| backup.is_full) {
        let record = &backup.record;
        let same_volume = record.follows.contains(&id);
        if same_volume {
            missing.volume = Some(record.volume.name.clone());
        }
        if same_volume || record.base == Some(id) || record.heads.contains(&id) {
            let before = missing.before.map_or(backup.time, |b| b.min(backup.time));
            missing.before = Some(before);
        }
    }
    for removed in log.removed_records() {
        if removed.follows.contains(&id) {
            missing.volume = Some(removed.volume.name.clone());
        }
    }
    missing
}
