//! Tombstones: the records that were deleted on purpose. Section 12 of `docs/format.md`.
//!
//! A record is deleted only after a tombstone that names it is durable ([`TombstoneStored`] proves
//! it). So a head that is missing and has no tombstone has vanished. Concurrent operations:
//!
//! | while one process forgets a record, another | result |
//! |---|---|
//! | backs up, and has seen the record as head or base | the new record names a deleted one; the tombstone explains it |
//! | restores from it | the restore continues: packs stay |
//! | forgets the same record | the second one finds it deleted, as intended |
//! | forgets a record that the first one keeps | each looks for the other's tombstone after its own is stored, and withdraws its own |
//! | crashes before the record is deleted | the record is still listed, and the next forget deletes it |

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

/// Proof that a tombstone is durable.
#[derive(Debug)]
pub struct TombstoneStored {
    object: ObjectHash,
    records: Vec<ObjectHash>,
}

/// Proof that a durable tombstone names this record. Needed to delete the record.
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

    /// Deletes the tombstone. No record that it names may have been deleted.
    pub fn withdraw(self, project: &Project) -> Result<(), RepoError> {
        let object = ObjectRef::Tombstone(project.id, self.object);
        project.objects.delete(object)
    }
}

impl Tombstones {
    /// Reads all tombstones. Damaged ones are kept apart. Fails if one needs a newer version of
    /// this program.
    pub fn load(project: &Project) -> Result<Self, RepoError> {
        let mut tombstones = Self::default();
        for loaded in project.load_all::<Tombstone>()? {
            match loaded.body {
                Ok(signed) => tombstones.records.extend(records_of(&signed.body)),
                Err(error) => tombstones.damaged.push(error),
            }
        }
        Ok(tombstones)
    }

    /// Deletes the tombstones that were put before this time, by the store's clock, and that name
    /// none of the records in `needed` (see [`Records::known`](super::records::Records::known)).
    pub fn expire(
        project: &Project,
        needed: &HashSet<ObjectHash>,
        before: SystemTime,
    ) -> Result<(), RepoError> {
        let mut listed = project.list(ObjectKind::Tombstone)?;
        listed.retain(|(_, listed)| listed.modified < before);
        // Damaged ones are left for “check” to report.
        for loaded in project.load::<Tombstone>(listed)? {
            let is_needed =
                |body: &Tombstone| records_of(body).any(|record| needed.contains(&record));
            if loaded.body.is_ok_and(|signed| !is_needed(&signed.body)) {
                project.objects.delete(loaded.object)?;
            }
        }
        Ok(())
    }

    /// The errors of the tombstones that could not be read.
    #[must_use]
    pub fn damaged(&self) -> &[RepoError] {
        &self.damaged
    }

    /// Takes the errors of tombstones that cannot be read.
    pub fn take_damaged(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.damaged)
    }

    /// Whether a tombstone names this record.
    #[must_use]
    pub fn names(&self, record: ObjectHash) -> bool {
        self.records.contains(&record)
    }

    /// Stores a tombstone for these records, at most [`Tombstone::RECORDS_MAX`].
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
