//! Which records are gone on purpose: section 12 of `docs/format.md`.
//!
//! A record is deleted only when a tombstone that names it is durable ([`TombstoneStored`] is the proof), so that a head
//! which is missing without one has vanished. Beside each other:
//!
//! | while one forgets a record, another | |
//! |---|---|
//! | backs up, and saw the record as head or base | the new record names what is gone; the tombstone tells why |
//! | restores from it | goes on: packs stay |
//! | forgets the same | whoever comes second finds it gone, which is what he wanted |
//! | forgets what this one relies on keeping | each looks for the other's tombstone once his own is there, and withdraws it |
//! | crashes before it is deleted | it is still listed, and the next one to forget deletes it |

use std::collections::HashSet;
use std::time::SystemTime;

use jiff::Timestamp;

use super::error::RepoError;
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::Tombstone;

/// The tombstones of a project.
#[derive(Debug, Default)]
pub struct Tombstones {
    /// The records that they name.
    records: HashSet<ObjectHash>,
    damaged: Vec<RepoError>,
}

/// A tombstone that is durable. Only this module makes one.
#[derive(Debug)]
pub struct TombstoneStored {
    object: ObjectHash,
    records: Vec<ObjectHash>,
}

/// A durable tombstone names this record: only so it can be deleted.
#[derive(Debug, Clone, Copy)]
pub struct Forgotten<'a>(&'a ObjectHash);

impl Forgotten<'_> {
    /// The record.
    #[must_use]
    pub fn record(&self) -> ObjectHash {
        *self.0
    }
}

impl TombstoneStored {
    /// The records that it names.
    pub fn forgotten(&self) -> impl Iterator<Item = Forgotten<'_>> {
        self.records.iter().map(Forgotten)
    }

    /// Takes it back, as long as no record was deleted on its word.
    pub fn withdraw(self, project: &Project) -> Result<(), RepoError> {
        let object = ObjectRef::Tombstone(project.id, self.object);
        project.objects.delete(object)
    }
}

impl Tombstones {
    /// Reads all tombstones. Damaged ones are set aside; one that needs a newer program fails.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let mut tombstones = Self::default();
        for loaded in project.load_all::<Tombstone>()? {
            match loaded.body {
                Ok(body) => tombstones.records.extend(records_of(&body)),
                Err(error) => tombstones.damaged.push(error),
            }
        }
        Ok(tombstones)
    }

    /// Deletes the tombstones that were put before this time, by the store's clock, and that name none
    /// of the records in `needed` (see [`Records::known`](super::records::Records::known)).
    pub fn expire(
        project: &Project,
        needed: &HashSet<ObjectHash>,
        before: SystemTime,
    ) -> Result<(), RepoError> {
        let mut listed = project.list(ObjectKind::Tombstone)?;
        listed.retain(|(_, listed)| listed.modified < before);
        // Damaged ones are left for “check” to report.
        for loaded in project.load::<Tombstone>(listed)? {
            let is_needed = |body| records_of(&body).any(|record| needed.contains(&record));
            if loaded.body.is_ok_and(|body| !is_needed(body)) {
                project.objects.delete(loaded.object)?;
            }
        }
        Ok(())
    }

    /// What is wrong with the tombstones that could not be read.
    #[must_use]
    pub fn damaged(&self) -> &[RepoError] {
        &self.damaged
    }

    /// Whether this record was given up.
    #[must_use]
    pub fn names(&self, record: ObjectHash) -> bool {
        self.records.contains(&record)
    }

    /// Stores a tombstone for these records, [`Tombstone::RECORDS_MAX`] at most. `host` and `tool` say who did it.
    pub fn put(
        project: &Project,
        records: &[ObjectHash],
        time: Timestamp,
        host: Option<&str>,
        tool: &str,
    ) -> Result<TombstoneStored, RepoError> {
        let tombstone = Tombstone {
            requires: Vec::new(),
            records: records.iter().map(ToString::to_string).collect(),
            time: time.to_string(),
            host: host.map(str::to_owned),
            tool: Some(tool.to_owned()),
        };
        let stored = project.put(&tombstone)?;
        Ok(TombstoneStored {
            object: stored,
            records: records.to_vec(),
        })
    }
}

/// The records that a tombstone names. The decoder has verified that they are hashes.
fn records_of(tombstone: &Tombstone) -> impl Iterator<Item = ObjectHash> {
    tombstone.records.iter().filter_map(|id| id.parse().ok())
}
