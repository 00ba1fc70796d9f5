//! Reads and verifies all entries of the log, and answers queries about them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::entry::Entry;
use super::graph::{Graph, merged};
use super::removal::Removed;
use crate::base::ObjectHash;
use crate::format::{LogEntry, LogItem, LogKind, RemovedRecord, Revoked};
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::parallel::parallel_map;
use crate::repo::project::Project;
use crate::repo::removals::Removals;

/// The log of a project, as of one moment.
#[derive(Debug, Default)]
pub struct Log {
    pub(super) graph: Graph,
    /// All objects that entries remove.
    pub(super) removed: Removals,
    /// The details of removed records, by id.
    records: HashMap<ObjectHash, RemovedRecord>,
    /// The objects whose loss an entry accepts.
    lost: HashSet<ObjectHash>,
    foreign: Vec<RepoError>,
    damaged: Vec<RepoError>,
}

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Its number.
    pub number: u64,
    /// The hash that names it.
    pub hash: ObjectHash,
    /// When it was written, in seconds since 1970.
    pub time: u64,
}

impl Log {
    /// Reads all entries. Only entries that a full key signed count; all others are foreign. The
    /// errors of damaged and foreign entries are kept separately. Notes in `project` which objects
    /// are removed and which keys are revoked. Fails if an entry needs a newer version of this
    /// program.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let listed = project.list(ObjectKind::Log)?;
        let read = parallel_map(&listed, |(object, _)| {
            let Some(hash) = object.hash() else {
                return Ok(None);
            };
            let limit = LogEntry::LEN_MAX as u64;
            let bytes = project.objects.get_hashed(*object, hash, limit);
            match bytes.and_then(|bytes| Entry::open(project, hash, &bytes)) {
                Ok(entry) => Ok(Some(Ok(entry))),
                Err(error @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
                    Ok(Some(Err(error)))
                }
                Err(error) => Err(error),
            }
        })?;
        let mut log = Self::default();
        let mut entries = Vec::new();
        for read in read.into_iter().flatten() {
            match read {
                Ok(entry) => entries.push(entry),
                Err(error @ RepoError::Foreign { .. }) => log.foreign.push(error),
                Err(error) => log.damaged.push(error),
            }
        }
        let removed = entries.iter().map(|entry| &entry.plain.removed[..]);
        log.removed = Removals::new(merged(removed));
        for entry in &entries {
            log.note_details(entry);
        }
        let lost = &log.lost;
        log.damaged
            .retain(|error| error.object_hash().is_none_or(|hash| !lost.contains(&hash)));
        log.graph = Graph::new(entries);
        project.removals.note(&log.removed);
        project.signers.withdraw(log.revocations());
        Ok(log)
    }

    /// Returns the hashes of the entries that count, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = ObjectHash> {
        self.graph.entries().iter().map(|entry| entry.hash)
    }

    /// Lists the entries in the store, without reading them.
    pub fn present(project: &Project) -> Result<HashSet<ObjectHash>, RepoError> {
        let listed = project.list(ObjectKind::Log)?;
        Ok(listed
            .iter()
            .filter_map(|(entry, _)| entry.hash())
            .collect())
    }

    /// Returns the objects that the log of this project removed when it was read last. Reads the
    /// log if this process has not read it yet.
    pub(crate) fn removals(project: &Project) -> Result<Removals, RepoError> {
        match project.removals.get() {
            Some(known) => Ok(known),
            None => Ok(Self::load(project)?.removed),
        }
    }

    /// Adds an entry that is durable.
    pub(super) fn add(&mut self, entry: Entry) {
        self.note_details(&entry);
        self.removed.add(&entry.plain.removed);
        self.graph.add(entry);
    }

    fn note_details(&mut self, entry: &Entry) {
        for record in &entry.details.removed_records {
            self.records.insert(record.record, record.clone());
        }
        self.lost.extend(&entry.details.lost);
    }

    /// Returns whether an entry removes this object.
    #[must_use]
    pub fn removed(&self, kind: LogKind, hash: ObjectHash) -> bool {
        self.removed.has(kind, hash)
    }

    /// Returns whether entries remove any record, apart from records whose loss an entry accepts.
    #[must_use]
    pub fn removes_records(&self) -> bool {
        let mut removed = self.removed.of_kind(LogKind::Record);
        removed.any(|record| !self.lost.contains(&record))
    }

    /// Returns the permission to delete an object. `None` if no entry removes the object.
    #[must_use]
    pub fn removal(&self, kind: LogKind, hash: ObjectHash) -> Option<Removed> {
        let item = LogItem { kind, hash };
        self.removed(kind, hash).then(|| Removed::new(item))
    }

    /// Returns whether a record or an entry of the log with this hash may be missing. It may be
    /// missing if the log removes the record, or accepts the loss of the record or entry.
    #[must_use]
    pub fn excuses(&self, record: ObjectHash) -> bool {
        self.removed(LogKind::Record, record) || self.lost.contains(&record)
    }

    /// Returns the objects whose loss an entry accepts, in no particular order.
    pub fn accepted_losses(&self) -> impl Iterator<Item = &ObjectHash> {
        self.lost.iter()
    }

    /// Returns whether this certificate may be missing: an entry removes it, or accepts its loss.
    #[must_use]
    pub fn excuses_certificate(&self, certificate: ObjectHash) -> bool {
        self.removed(LogKind::Certificate, certificate) || self.lost.contains(&certificate)
    }

    /// Returns the details of a removed record. `None` if no entry contains them.
    #[must_use]
    pub fn removed_record(&self, record: ObjectHash) -> Option<&RemovedRecord> {
        self.records.get(&record)
    }

    /// Returns the details of all removed records, in no particular order.
    pub fn removed_records(&self) -> impl Iterator<Item = &RemovedRecord> {
        self.records.values()
    }

    /// Returns the revoked signers and their certificates. A record of a revoked signer counts only
    /// if the revocation accepts it, or if an accepted record reaches it through `follows` and
    /// `heads`.
    pub fn revocations(&self) -> impl Iterator<Item = &Revoked> {
        let entries = self.graph.entries().iter();
        entries.flat_map(|entry| &entry.details.revoked)
    }

    /// Returns the newest entry. `None` if there are no entries that count.
    #[must_use]
    pub fn newest(&self) -> Option<LogHead> {
        let newest = self.graph.newest()?;
        Some(LogHead {
            number: newest.plain.number,
            hash: newest.hash,
            time: newest.plain.time,
        })
    }

    /// Returns the entries that no other one names, in ascending order.
    #[must_use]
    pub fn tips(&self) -> Vec<ObjectHash> {
        self.graph.tips()
    }

    /// Returns all objects that the log has added and not removed, in ascending order.
    #[must_use]
    pub fn set(&self) -> Vec<LogItem> {
        self.graph.set(&self.graph.tips())
    }

    /// Returns the objects of this kind that any entry adds and no entry removes, in ascending
    /// order. This includes objects that a later summary leaves out.
    #[must_use]
    pub fn added(&self, kind: LogKind) -> Vec<ObjectHash> {
        let entries = self.graph.entries().iter();
        let added = entries.flat_map(|entry| &entry.plain.added);
        let added = added.filter(|item| item.kind == kind && !self.removed(kind, item.hash));
        let added: BTreeSet<_> = added.map(|item| item.hash).collect();
        added.into_iter().collect()
    }

    /// Returns the objects that the log had added and not removed when this entry was written, in
    /// ascending order. Returns an empty list if there is no such entry.
    #[must_use]
    pub fn set_of(&self, entry: ObjectHash) -> Vec<LogItem> {
        self.graph.set(&[entry])
    }

    /// Returns the number of entries that are not summaries and that no summary replaces. A summary
    /// repeats the objects that are left from the entries before it, so it replaces these entries.
    #[must_use]
    pub fn since_summary(&self) -> usize {
        self.graph.since_summary()
    }

    /// Returns the missing entries that others name and whose loss was not accepted. Damaged
    /// entries are not missing.
    #[must_use]
    pub fn missing(&self) -> Vec<ObjectHash> {
        let damaged: HashSet<_> = self.damaged.iter().filter_map(entry_of).collect();
        let mut missing = self.graph.missing();
        missing.retain(|hash| !damaged.contains(hash) && !self.lost.contains(hash));
        missing
    }

    /// Returns the entries whose number is not one more than the largest number of their previous
    /// entries.
    pub fn miscounted(&self) -> impl Iterator<Item = ObjectHash> {
        self.graph.miscounted()
    }

    /// Takes the errors of the entries that no full key signed.
    pub fn take_foreign(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.foreign)
    }

    /// Returns the errors of the entries that could not be read and whose loss was not accepted.
    #[must_use]
    pub fn damaged(&self) -> &[RepoError] {
        &self.damaged
    }

    /// Takes the errors of entries that could not be read and whose loss was not accepted.
    pub fn take_damaged(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.damaged)
    }
}

/// Returns the entry that an error reports as damaged. `None` for other errors.
fn entry_of(error: &RepoError) -> Option<ObjectHash> {
    match error {
        RepoError::Damaged {
            object: ObjectRef::Log(_, hash),
            ..
        } => Some(*hash),
        _ => None,
    }
}
