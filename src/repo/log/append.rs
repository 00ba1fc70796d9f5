//! Writes entries of the log.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::entry::Entry;
use super::load::Log;
use crate::base::Role;
use crate::format::{LogDetails, LogEntry, LogItem, LogKind, RemovedRecord};
use crate::repo::error::RepoError;
use crate::repo::leases::Worker;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;

/// The content of a new entry.
#[derive(Debug, Clone, Default)]
pub struct NewEntry {
    /// Objects that the repository has from now on, in any order.
    pub added: Vec<LogItem>,
    /// Objects that may be missing from now on, in any order.
    pub removed: Vec<LogItem>,
    /// The details. [`Log::append`] fills in host and program.
    pub details: LogDetails,
    /// Whether `added` lists all objects of the log, so that the entry is a summary. If the list
    /// does not fit into one entry, the entries are not marked as summaries.
    pub summary: bool,
    /// Whether to write an entry even if it is empty. Such an entry names all newest entries as its
    /// previous ones, and so joins them.
    pub always: bool,
}

/// The part of a [`NewEntry`] that fits into one entry.
#[derive(Default)]
struct Part {
    added: Vec<LogItem>,
    removed: Vec<LogItem>,
    records: Vec<RemovedRecord>,
}

impl Part {
    fn is_full(&self) -> bool {
        self.added.len() + self.removed.len() >= LogEntry::ITEMS_MAX
    }
}

/// Maximum length of the JSON of the records in one entry, in bytes. A single record may be longer.
const DESCRIBED_MAX: usize = LogDetails::BODY_MAX / 2;

impl Log {
    /// Appends an entry, or several if the content does not fit into one. They are durable when
    /// this returns. Needs a full key.
    ///
    /// Leaves out removed objects that earlier entries have removed, and details of removed records
    /// that earlier entries have. Also leaves out content that the writer of a removed record may
    /// have invented. If neither objects nor details remain, writes an entry only if `always` or
    /// `summary` is set.
    pub fn append(
        &mut self,
        project: &Project,
        new: NewEntry,
        by: Worker<'_>,
    ) -> Result<(), RepoError> {
        project.keys.require(Role::Full)?;
        let NewEntry {
            added,
            mut removed,
            mut details,
            summary,
            always,
        } = new;
        removed.retain(|item| !self.removed(item.kind, item.hash));
        let mut records = std::mem::take(&mut details.removed_records);
        records.retain(|record| self.removed_record(record.record).is_none());
        self.bound(project, &mut records)?;
        let says_more = details != LogDetails::default() || summary || always;
        if !says_more && added.is_empty() && removed.is_empty() && records.is_empty() {
            return Ok(());
        }
        details.host = by.host.map(str::to_owned);
        details.tool = Some(by.tool.to_owned());
        let parts = parts(sorted(added), sorted(removed), records);
        // A summary must fit into one entry.
        let summary = summary && parts.len() == 1;
        for part in parts {
            let previous = self.tips();
            let entry = LogEntry {
                number: self.graph.next_number(&previous),
                time: u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
                summary,
                previous,
                added: sorted(part.added),
                removed: sorted(part.removed),
            };
            let said = LogDetails {
                removed_records: part.records,
                ..details.clone()
            };
            let (entry, bytes) = Entry::seal(project, entry, said)?;
            let object = ObjectRef::Log(project.id, entry.hash);
            project.objects.put_hashed(object, entry.hash, &bytes)?;
            self.add(entry);
            project.removals.note(&self.removed);
            (details.revoked, details.lost) = Default::default();
        }
        Ok(())
    }

    /// Removes content that the writers of removed records may have invented, since entries are
    /// kept forever:
    ///
    /// - the details of records whose volume has a name of more than
    ///   [`VOLUME_MAX`](RemovedRecord::VOLUME_MAX) bytes
    /// - the names of records that do not exist, and that the log neither removes nor accepts as
    ///   lost
    fn bound(&self, project: &Project, records: &mut Vec<RemovedRecord>) -> Result<(), RepoError> {
        records.retain(|record| record.volume.name.len() <= RemovedRecord::VOLUME_MAX);
        if records.iter().all(|record| record.names().next().is_none()) {
            return Ok(());
        }
        let listed = project.list(ObjectKind::Backup)?;
        let present: HashSet<_> = listed
            .iter()
            .filter_map(|(object, _)| object.hash())
            .collect();
        for record in records {
            record.keep_known(|id| present.contains(id) || self.excuses(*id));
        }
        Ok(())
    }
}

fn sorted(mut items: Vec<LogItem>) -> Vec<LogItem> {
    items.sort_unstable();
    items.dedup();
    items
}

/// Divides the content into entries. A record is described in the entry that removes it.
fn parts(added: Vec<LogItem>, removed: Vec<LogItem>, records: Vec<RemovedRecord>) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    let mut described = 0;
    let mut waiting: BTreeSet<LogItem> = removed.into_iter().collect();
    for record in records {
        let item = LogItem {
            kind: LogKind::Record,
            hash: record.record,
        };
        let len = LogDetails {
            removed_records: vec![record.clone()],
            ..LogDetails::default()
        }
        .encode()
        .len();
        if described > 0 && described + len > DESCRIBED_MAX {
            parts.push(Part::default());
            described = 0;
        }
        described += len;
        if let Some(last) = parts.last_mut() {
            last.records.push(record);
            last.removed.extend(waiting.take(&item));
        }
    }
    let mut fill = |items: Vec<LogItem>, list: fn(&mut Part) -> &mut Vec<LogItem>| {
        for item in items {
            if parts.last().is_none_or(Part::is_full) {
                parts.push(Part::default());
            }
            if let Some(last) = parts.last_mut() {
                list(last).push(item);
            }
        }
    };
    fill(waiting.into_iter().collect(), |part| &mut part.removed);
    fill(added, |part| &mut part.added);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ObjectHash, VolumeId};
    use crate::format::VolumeInfo;

    fn item(number: u32) -> LogItem {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        LogItem {
            kind: LogKind::Record,
            hash: ObjectHash::from_bytes(hash),
        }
    }

    fn record(number: u32, name_len: usize) -> RemovedRecord {
        RemovedRecord {
            record: item(number).hash,
            volume: VolumeInfo {
                id: VolumeId::from_bytes([1; 16]),
                name: "v".repeat(name_len),
            },
            follows: Vec::new(),
            heads: Vec::new(),
            replaces: None,
            time: "2026-11-21T10:00:00Z".parse().unwrap(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_record_is_described_in_the_entry_that_removes_it() {
        let six: Vec<_> = (0..6).map(item).collect();
        let records: Vec<_> = (0..5)
            .map(|n| record(n, DESCRIBED_MAX / 2 - 1000))
            .collect();
        let parts = parts(Vec::new(), six, records);
        let sizes: Vec<_> = parts
            .iter()
            .map(|p| (p.records.len(), p.removed.len()))
            .collect();
        assert_eq!(sizes, [(2, 2), (2, 2), (1, 2)]);
        for part in &parts {
            let removes =
                |record: &RemovedRecord| part.removed.iter().any(|i| i.hash == record.record);
            assert!(part.records.iter().all(removes));
        }
    }

    #[test]
    fn content_that_does_not_fit_into_one_entry_is_split_into_several() {
        let many = u32::try_from(LogEntry::ITEMS_MAX).unwrap();
        let added: Vec<_> = (0..many).map(item).collect();
        let removed: Vec<_> = (many..many + 2).map(item).collect();
        let parts = parts(added, removed, Vec::new());
        let sizes: Vec<_> = parts
            .iter()
            .map(|p| (p.added.len(), p.removed.len()))
            .collect();
        assert_eq!(sizes, [(LogEntry::ITEMS_MAX - 2, 2), (2, 0)]);
    }
}
