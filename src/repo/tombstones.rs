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
use super::layout::ObjectRef;
use super::parallel::parallel_map;
use super::project::Project;
use crate::base::ObjectHash;
use crate::format::{FormatError, Magic, Tombstone};

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
        let any = ObjectRef::Tombstone(project.id, ObjectHash::from_bytes([0; 32]));
        let mut tombstones = Self::default();
        let listed = project.objects.list(&any.directory())?;
        let read = parallel_map(&listed, |(object, ..)| {
            let ObjectRef::Tombstone(_, name) = *object else {
                return Ok(None);
            };
            match read(project, name) {
                Err(e) if e.is_missing() => Ok(None), // withdrawn since it was listed
                Err(e @ RepoError::Damaged { .. }) => Ok(Some(Err(e))),
                other => other.map(|records| Some(Ok(records))),
            }
        })?;
        for read in read.into_iter().flatten() {
            match read {
                Ok(records) => tombstones.records.extend(records),
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
        let any = ObjectRef::Tombstone(project.id, ObjectHash::from_bytes([0; 32]));
        for (object, _, listed) in project.objects.list(&any.directory())? {
            let ObjectRef::Tombstone(_, name) = object else {
                continue;
            };
            if listed.modified >= before {
                continue;
            }
            match read(project, name) {
                Ok(named) if named.iter().any(|record| needed.contains(record)) => {}
                Ok(_) => project.objects.delete(object)?,
                // Left for “check” to report.
                Err(RepoError::Damaged { .. }) => {}
                Err(e) => return Err(e),
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
        let object = |hash| ObjectRef::Tombstone(project.id, hash);
        let key = (project.id, project.keys.object());
        let body = tombstone.encode();
        let stored = project
            .objects
            .put_sealed(object, Magic::Tombstone, key, &body)?;
        Ok(TombstoneStored {
            object: stored,
            records: records.to_vec(),
        })
    }
}

fn read(project: &Project, name: ObjectHash) -> Result<Vec<ObjectHash>, RepoError> {
    let object = ObjectRef::Tombstone(project.id, name);
    let key = (project.id, project.keys.object());
    let limit = Tombstone::BODY_MAX;
    let body = project
        .objects
        .get_sealed(object, name, Magic::Tombstone, key, limit)?;
    let format = |e| RepoError::format(object, e);
    let tombstone = Tombstone::decode(&body).map_err(format)?;
    let bad = |_| format(FormatError::BadValue("records"));
    let records = tombstone.records.iter();
    records.map(|id| id.parse().map_err(bad)).collect()
}
