//! The backups of a project: reads their records, puts them in order, selects backups, and commits
//! new ones.

use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::forgotten_record::ForgottenRecord;
use super::lost_records::LostRecords;
use super::order::{History, OrderedRecord};
use super::revocation::divide;
use crate::base::{ByteSize, ObjectHash, SignerId};
use crate::format::{BackupRecord, LogKind};
use crate::repo::backup::Backup;
use crate::repo::error::{ForeignReason, RepoError};
use crate::repo::log::Log;
use crate::repo::no_backup::{NoBackupReason, similar};
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::packs::IndexStored;
use crate::repo::project::Project;
use crate::repo::prune_guard::CommitPermit;
use crate::repo::voids::Voids;

/// All backups of a project whose records can be read and are not foreign, oldest first. The
/// backups of one volume are in the reverse order of its [`History`]. Backups of different volumes
/// are ordered by time, as far as the order within each volume permits.
#[derive(Debug)]
pub struct Records {
    backups: Vec<Backup>,
    /// The position of each backup in `backups`, by its id.
    places: HashMap<ObjectHash, usize>,
    /// The histories, by the name of the volume.
    histories: BTreeMap<String, History>,
    /// Backups that another backup has replaced. A voided backup does not replace others.
    replaced: HashSet<ObjectHash>,
    /// Backups that their writers withdrew, and those that count as withdrawn (see
    /// [`load_to_build_on`](Self::load_to_build_on)).
    voided: HashSet<ObjectHash>,
    /// Backups that the log removed, but that still exist, or exist again.
    removed: HashSet<ObjectHash>,
    damaged: Vec<RepoError>,
    /// Damaged files whose records the log removes or accepts as lost.
    ignored: Vec<(ObjectRef, Arc<RepoError>)>,
    foreign: Vec<RepoError>,
    /// The names of the foreign files in the directory of records.
    foreign_names: HashSet<ObjectHash>,
    /// Records that exist but no longer count, since the key that signed them was revoked.
    revoked: HashSet<ObjectHash>,
    lost: LostRecords,
    /// See [`vanished`](Self::vanished).
    vanished: Vec<ObjectHash>,
    /// The hashes of all entries of the log.
    log_entries: HashSet<ObjectHash>,
    /// The hashes of the entries that no other entry names.
    log_tips: Vec<ObjectHash>,
}

/// Minimum number of digits of an id that select a backup.
const PREFIX_MIN: usize = 4;

impl Records {
    /// Maximum number of records that a new one follows, so that a record stays below its maximum
    /// length. A backup has more records to follow only if some of them are forged.
    pub const FOLLOWS_MAX: usize = 10_000;

    /// Reads all records. The errors of damaged and foreign ones are kept separately. Fails if a
    /// record needs a newer version of this program.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        Ok(Self::load_with_log(project)?.0)
    }

    /// Reads all records as [`load`](Self::load) does, for a command that makes a new record from
    /// one of them. Records that the log removes count as withdrawn, since their data may be
    /// deleted.
    pub fn load_to_build_on(project: &Project) -> Result<Self, RepoError> {
        Ok(Self::read(project, true)?.0)
    }

    /// Reads all records as [`load`](Self::load) does. Returns the log, too, which is read after
    /// the records.
    pub fn load_with_log(project: &Project) -> Result<(Self, Log), RepoError> {
        Self::read(project, false)
    }

    fn read(project: &Project, withdraws_removed: bool) -> Result<(Self, Log), RepoError> {
        let read = Self::read_once(project, withdraws_removed)?;
        let vanished = read.0.vanished();
        // If a vanished record exists now, it was stored after the records were listed. Read again.
        if Self::missing_of(project, vanished.to_vec())?.len() < vanished.len() {
            return Self::read_once(project, withdraws_removed);
        }
        Ok(read)
    }

    /// Returns those of these records that do not exist now.
    pub fn missing_of(
        project: &Project,
        mut records: Vec<ObjectHash>,
    ) -> Result<Vec<ObjectHash>, RepoError> {
        if !records.is_empty() {
            let listed = project.list(ObjectKind::Backup)?;
            let exist: HashSet<_> = listed.iter().filter_map(|(o, _)| o.hash()).collect();
            records.retain(|record| !exist.contains(record));
        }
        Ok(records)
    }

    /// Returns the missing records that the log or a record of a full key names, in ascending
    /// order. Leaves out records that an entry of the log removes or accepts as lost. If there are
    /// any, a part of the history was lost.
    #[must_use]
    pub fn vanished(&self) -> &[ObjectHash] {
        &self.vanished
    }

    fn read_once(project: &Project, withdraws_removed: bool) -> Result<(Self, Log), RepoError> {
        let (mut backups, mut damaged, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        let listed = project.list(ObjectKind::Backup)?;
        for loaded in project.load_with::<BackupRecord>(listed, |e| foreign.push(e))? {
            let backup = loaded
                .body
                .and_then(|record| Backup::from_record(project, loaded.object, record));
            match backup {
                Ok(backup) => backups.push(backup),
                Err(e @ RepoError::Damaged { .. }) => damaged.push(e),
                Err(e @ RepoError::Foreign { .. }) => foreign.push(e),
                Err(e) => return Err(e),
            }
        }
        // Load the log after the records, so that it names any record that was deleted in between.
        let log = Log::load(project)?;
        let (backups, revoked) = divide(backups, &log);
        foreign.extend(revoked.iter().map(|backup| RepoError::Foreign {
            object: ObjectRef::Backup(project.id, backup.id),
            reason: ForeignReason::Revoked(Box::new(backup.signer)),
        }));
        let revoked = foreign.iter().filter(|error| error.is_of_revoked_key());
        let revoked = revoked.filter_map(RepoError::object_hash).collect();
        // A damaged file may be a record that uses any data, unless the log removes this record or
        // accepts its loss.
        let (removed, damaged): (Vec<_>, Vec<_>) = damaged
            .into_iter()
            .partition(|error| error.object_hash().is_some_and(|hash| log.excuses(hash)));
        let ignored = removed
            .into_iter()
            .filter_map(|error| {
                let object = ObjectRef::Backup(project.id, error.object_hash()?);
                Some((object, Arc::new(error)))
            })
            .collect();
        let forgotten: Vec<_> = log.removed_records().map(ForgottenRecord::of).collect();
        let errors = foreign.iter().chain(&damaged);
        let unusable: HashSet<_> = errors.filter_map(RepoError::object_hash).collect();
        let excused = |id: &ObjectHash| log.excuses(*id) || unusable.contains(id);
        let voids = Voids::load(project)?;
        let is_voided = |b: &&Backup| voids.names(b.id, &b.signer);
        let mut voided: HashSet<_> = backups.iter().filter(is_voided).map(|b| b.id).collect();
        let is_removed = |b: &&Backup| log.removed(LogKind::Record, b.id);
        let removed: HashSet<_> = backups.iter().filter(is_removed).map(|b| b.id).collect();
        if withdraws_removed {
            voided.extend(&removed);
        }
        let own = project.keys.signing().public();
        let mut records = Self {
            removed,
            ignored,
            foreign_names: foreign.iter().filter_map(RepoError::object_hash).collect(),
            foreign,
            revoked,
            log_entries: log.entries().collect(),
            log_tips: log.tips(),
            ..Self::in_order(backups, &forgotten, excused, voided, damaged, &own)
        };
        records.vanished = records.find_vanished(&log);
        let damaged = records.damaged.iter().filter_map(RepoError::object_hash);
        records.lost = LostRecords::new(damaged.collect(), records.vanished.clone(), &log);
        Ok((records, log))
    }

    /// Puts backups in order. A forgotten record may still be among `backups`, because it is not
    /// deleted yet or was stored again. `excused` returns whether a record may be missing, or is
    /// known to be foreign or damaged. `own` is the signer of the key in use.
    fn in_order(
        backups: Vec<Backup>,
        forgotten: &[ForgottenRecord],
        excused: impl Fn(&ObjectHash) -> bool,
        voided: HashSet<ObjectHash>,
        damaged: Vec<RepoError>,
        own: &SignerId,
    ) -> Self {
        let mut known: HashSet<ObjectHash> = backups.iter().map(|b| b.id).collect();
        let mut volumes: BTreeMap<&str, Vec<OrderedRecord<'_>>> = BTreeMap::new();
        let mut replaced = HashSet::new();
        for backup in &backups {
            let record = &backup.record;
            // Only full keys may replace records. Otherwise the holder of a write key could replace
            // any record.
            let successor_of = record.replaces.filter(|_| backup.is_full);
            let is_voided = voided.contains(&backup.id);
            replaced.extend(successor_of.filter(|_| !is_voided));
            let of_volume = volumes.entry(&record.volume.name).or_default();
            of_volume.push(OrderedRecord {
                id: backup.id,
                follows: &record.follows,
                replaces: successor_of,
                time: Some(backup.time).filter(|_| !is_voided),
                // A record of another write key may name records that never existed.
                shows_gaps: backup.is_full || backup.signer == *own,
            });
        }
        for record in forgotten {
            if known.insert(record.id) {
                let of_volume = volumes.entry(&record.volume).or_default();
                of_volume.push(OrderedRecord {
                    id: record.id,
                    follows: &record.follows,
                    replaces: record.replaces,
                    time: None,
                    shows_gaps: true,
                });
            }
        }
        let is_known = |id: &ObjectHash| known.contains(id) || replaced.contains(id) || excused(id);
        let histories: BTreeMap<String, History> = volumes
            .into_iter()
            .map(|(name, records)| (name.to_owned(), History::new(&records, is_known)))
            .collect();
        let backups = merge(backups, &histories);
        let places = (0..).zip(&backups).map(|(place, b)| (b.id, place));
        Self {
            places: places.collect(),
            histories,
            replaced,
            voided,
            removed: HashSet::new(),
            damaged,
            ignored: Vec::new(),
            foreign: Vec::new(),
            foreign_names: HashSet::new(),
            revoked: HashSet::new(),
            lost: LostRecords::default(),
            vanished: Vec::new(),
            log_entries: HashSet::new(),
            log_tips: Vec::new(),
            backups,
        }
    }

    /// Lists the records that are in the store now, without reading them.
    pub fn present(project: &Project) -> Result<HashSet<ObjectHash>, RepoError> {
        let listed = project.list(ObjectKind::Backup)?;
        let ids = listed.iter().filter_map(|(object, _)| object.hash());
        Ok(ids.collect())
    }

    /// Returns all backups, oldest first, including voided and replaced ones.
    #[must_use]
    pub fn all(&self) -> &[Backup] {
        &self.backups
    }

    /// Returns the backups to list, oldest first: all that no other backup has replaced.
    #[must_use]
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Backup> {
        let listed = |b: &&Backup| !self.replaced.contains(&b.id);
        self.backups.iter().filter(listed)
    }

    /// Returns the backup with this id.
    #[must_use]
    pub fn get(&self, id: ObjectHash) -> Option<&Backup> {
        self.places.get(&id).map(|&place| &self.backups[place])
    }

    /// Returns the position of this backup in [`all`](Self::all).
    #[must_use]
    pub fn place(&self, id: ObjectHash) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// Returns whether another backup has replaced this one. A replaced backup is not listed.
    #[must_use]
    pub fn is_replaced(&self, backup: &Backup) -> bool {
        self.replaced.contains(&backup.id)
    }

    /// Returns whether the writer of this backup withdrew it, or it counts as withdrawn (see
    /// [`load_to_build_on`](Self::load_to_build_on)). Such a backup never counts as the newest one
    /// of its volume, and no new backup uses it as its base.
    #[must_use]
    pub fn is_voided(&self, backup: &Backup) -> bool {
        self.voided.contains(&backup.id)
    }

    /// Returns whether the log removes this backup: its record was not deleted yet, or someone
    /// stored it again. Such a backup counts like any other as long as its tree is complete.
    #[must_use]
    pub fn is_removed(&self, backup: &Backup) -> bool {
        self.removed.contains(&backup.id)
    }

    /// Returns the damaged files in the directory of records that count as using no data, because
    /// the log removes their records or accepts their loss.
    pub fn ignored(&self) -> impl Iterator<Item = (ObjectRef, &Arc<RepoError>)> {
        self.ignored.iter().map(|(object, error)| (*object, error))
    }

    pub(crate) fn lost_records(&self) -> &LostRecords {
        &self.lost
    }

    /// Returns the errors of records that cannot be read.
    #[must_use]
    pub fn damaged(&self) -> &[RepoError] {
        &self.damaged
    }

    /// Takes the errors of records that cannot be read.
    pub fn take_damaged(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.damaged)
    }

    /// Takes the errors of foreign records, which are ignored.
    pub fn take_foreign(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.foreign)
    }

    /// Returns the names of the volumes that have backups, or had some.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.histories.keys().map(String::as_str)
    }

    /// Returns the history of a volume. `None` if the volume has no records and had none.
    #[must_use]
    pub fn history(&self, volume: &str) -> Option<&History> {
        self.histories.get(volume)
    }

    /// Returns the backups of the volume with this name that are neither voided nor replaced,
    /// oldest first.
    #[must_use]
    pub fn of_volume(&self, name: &str) -> impl DoubleEndedIterator<Item = &Backup> {
        let history = self.histories.get(name).into_iter();
        let counted = history.flat_map(|history| history.counted().rev());
        let backups = counted.filter_map(|id| self.get(id));
        backups.filter(|b| !self.is_replaced(b))
    }

    /// Returns the records that a new backup of this volume follows. These are the records that no
    /// other record follows, newest first, and at most [`FOLLOWS_MAX`](Self::FOLLOWS_MAX).
    #[must_use]
    pub fn unfollowed(&self, volume: &str) -> Vec<ObjectHash> {
        let history = self.histories.get(volume).into_iter();
        let unfollowed = history.flat_map(History::unfollowed);
        unfollowed.take(Self::FOLLOWS_MAX).collect()
    }

    /// Returns the backups of a volume that end a line of history, newest first. No other backup
    /// follows them, directly or through others. Ignores voided and replaced backups.
    #[must_use]
    pub fn tips(&self, volume: &str) -> Vec<&Backup> {
        let history = self.histories.get(volume).into_iter();
        let tips = history.flat_map(|history| history.tips(|id| !self.replaced.contains(&id)));
        tips.filter_map(|id| self.get(id)).collect()
    }

    /// Returns the records that no other record lists in its `heads`.
    #[must_use]
    pub fn heads(&self) -> Vec<ObjectHash> {
        let named: HashSet<_> = self.backups.iter().flat_map(|b| &b.record.heads).collect();
        self.backups
            .iter()
            .filter(|b| !named.contains(&b.id))
            .map(|b| b.id)
            .collect()
    }

    /// Returns the existing records that do not count, since the key that signed them was revoked
    /// and no revocation accepts them.
    pub fn revoked(&self) -> impl Iterator<Item = ObjectHash> {
        self.revoked.iter().copied()
    }

    /// Returns whether the store has this record, or had it until another one replaced it. Damaged
    /// and foreign records do not count, but those of a revoked key do.
    pub(super) fn is_genuine(&self, id: &ObjectHash) -> bool {
        self.places.contains_key(id) || self.replaced.contains(id) || self.revoked.contains(id)
    }

    /// Returns whether this record is not missing: it is genuine, or a foreign file has this name.
    /// The name is the hash of that file, so no record can have the same name.
    pub(super) fn exists(&self, id: &ObjectHash) -> bool {
        self.is_genuine(id) || self.foreign_names.contains(id)
    }

    /// Returns the entries of the log that no other entry names.
    #[must_use]
    pub fn log_tips(&self) -> &[ObjectHash] {
        &self.log_tips
    }

    /// Returns all entries of the log.
    pub(crate) const fn log_entries(&self) -> &HashSet<ObjectHash> {
        &self.log_entries
    }

    /// Returns the newest backup of the volume with this name.
    #[must_use]
    pub fn newest(&self, volume: &str) -> Option<&Backup> {
        self.of_volume(volume).next_back()
    }

    /// Returns the volume's newest backup of the snapshot for each way to split the selector into
    /// `NAME@SNAPSHOT`. There may be several ways, since both names may contain an @.
    fn of_snapshots<'a>(&'a self, selector: &str) -> impl Iterator<Item = &'a Backup> {
        selector.match_indices('@').filter_map(|(at, _)| {
            let (name, snapshot) = (&selector[..at], &selector[at + 1..]);
            let mut backups = self.of_volume(name);
            backups.rfind(|b| {
                let source = b.record.source.as_ref();
                let of = source.and_then(|source| source.snapshot.as_ref());
                of.is_some_and(|of| of.to_string() == snapshot)
            })
        })
    }

    /// Returns the reason why this selector matches no backup.
    fn why_none(&self, selector: &str) -> NoBackupReason {
        let counted = selector.rsplit_once('~');
        let counted = counted.filter(|(_, back)| back.parse::<usize>().is_ok());
        if let Some((volume, _)) = counted
            && let Some(oldest) = self.of_volume(volume).count().checked_sub(1)
        {
            let volume = volume.to_owned();
            return NoBackupReason::TooFarBack { volume, oldest };
        }
        let mut splits = selector.match_indices('@');
        let known = splits.find(|(at, _)| self.newest(&selector[..*at]).is_some());
        if let Some((at, _)) = known {
            return NoBackupReason::NoSnapshot {
                volume: selector[..at].to_owned(),
                snapshot: selector[at + 1..].to_owned(),
            };
        }
        let name = selector.split(['@', '~']).next().unwrap_or(selector);
        let names = self.volumes().filter(|name| self.newest(name).is_some());
        NoBackupReason::Unknown {
            similar: similar(name, names),
        }
    }

    /// Returns the backup that a selector names. A selector has one of these forms:
    ///
    /// - `NAME`: the newest backup of this volume
    /// - `NAME~N`: the N-th backup before the newest one
    /// - `NAME@SNAPSHOT`: the newest backup of this snapshot. A snapshot name that is not UTF-8 is
    ///   written as `list` shows it.
    /// - the first digits of an id, at least four
    ///
    /// A whole id takes precedence over a volume with the same name. Fails if the selector can name
    /// several backups: the name of a volume may have been chosen to deceive.
    pub fn select(&self, selector: &str) -> Result<&Backup, RepoError> {
        // A whole id always means a backup.
        let id = selector.parse().ok();
        if let Some(backup) = id.and_then(|id| self.get(id)) {
            return Ok(backup);
        }
        let counted = selector.rsplit_once('~').and_then(|(name, back)| {
            let back = back.parse().ok()?;
            self.of_volume(name).nth_back(back)
        });
        let is_prefix = selector.len() >= PREFIX_MIN;
        let with_prefix = self
            .backups
            .iter()
            .filter(|b| is_prefix && b.id.to_string().starts_with(selector));
        let newest = self.newest(selector).into_iter();
        let found = newest.chain(counted).chain(self.of_snapshots(selector));
        let mut matches: Vec<&Backup> = found.chain(with_prefix).collect();
        let mut seen = HashSet::new();
        matches.retain(|backup| seen.insert(backup.id));
        match matches[..] {
            [] => Err(RepoError::NoBackup {
                selector: selector.to_owned(),
                reason: self.why_none(selector),
            }),
            [only] => Ok(only),
            _ => Err(RepoError::AmbiguousBackup {
                selector: selector.to_owned(),
                matches: matches.iter().map(|b| b.id.to_string()).collect(),
            }),
        }
    }

    /// Commits a backup, and returns the id of its record. The [`IndexStored`] proves that all data
    /// that the record names is durable and indexed. The [`CommitPermit`] proves that none of this
    /// data is going to be deleted. Fails before it stores anything if the record is too large, or
    /// if the permit no longer holds.
    pub fn commit(
        project: &Project,
        record: &BackupRecord,
        _: &IndexStored,
        cleared: &CommitPermit,
    ) -> Result<ObjectHash, RepoError> {
        let body = record.encode();
        // No program accepts a longer record.
        if body.len() > BackupRecord::BODY_MAX {
            return Err(RepoError::RecordTooLarge {
                volume: record.volume.name.clone(),
                size: ByteSize(body.len() as u64),
                limit: ByteSize(BackupRecord::BODY_MAX as u64),
            });
        }
        cleared.stands()?;
        project.put_encoded::<BackupRecord>(&body, |hash| cleared.note(hash, record))
    }
}

/// Merges the volumes into one sequence, oldest first. Works from the newest backup to the oldest:
/// each step compares the next backup of each volume, and takes the one with the latest time. If
/// times are equal, it takes the one with the larger id.
fn merge(backups: Vec<Backup>, histories: &BTreeMap<String, History>) -> Vec<Backup> {
    let mut by_id: HashMap<ObjectHash, Backup> = backups.into_iter().map(|b| (b.id, b)).collect();
    let mut merged = Vec::with_capacity(by_id.len());
    let mut next: BinaryHeap<(Timestamp, ObjectHash, usize)> = BinaryHeap::new();
    let mut orders: Vec<_> = histories.values().map(|h| h.entries().iter()).collect();
    let mut waits = |by_id: &HashMap<ObjectHash, Backup>, volume: usize| {
        let next = orders[volume].find_map(|entry| by_id.get(&entry.id))?;
        Some((next.time, next.id, volume))
    };
    next.extend((0..histories.len()).filter_map(|volume| waits(&by_id, volume)));
    while let Some((_, id, volume)) = next.pop() {
        next.extend(waits(&by_id, volume));
        merged.extend(by_id.remove(&id));
    }
    merged.reverse();
    merged
}

#[cfg(test)]
mod tests;
