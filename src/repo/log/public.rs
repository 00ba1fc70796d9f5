//! The log, read without a key. Its entries are verified, but their details remain sealed.

use super::entry::Entry;
use super::graph::{Graph, merged};
use crate::base::{ObjectHash, ProjectId, SignerId};
use crate::format::{LogEntry, LogItem};
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::objects::Objects;
use crate::repo::parallel::parallel_map;
use crate::repo::removals::Removals;

/// The log of a project, as of one moment, read without a key. It does not show which losses were
/// accepted, since those details are sealed.
#[derive(Debug, Default)]
pub struct PublicLog {
    graph: Graph,
    removed: Removals,
    problems: Vec<RepoError>,
}

impl PublicLog {
    /// Reads all entries. Only entries that `authority` signed count.
    pub fn load(
        objects: &Objects,
        project: ProjectId,
        authority: &SignerId,
    ) -> Result<Self, RepoError> {
        let listed = objects.list(&ObjectKind::Log.directory(project))?;
        let read = parallel_map(&listed, |(object, ..)| {
            let ObjectRef::Log(_, hash) = *object else {
                return Ok(None);
            };
            let bytes = objects.get_hashed(*object, hash, LogEntry::LEN_MAX as u64);
            match bytes.and_then(|bytes| Entry::verify(authority, project, hash, &bytes)) {
                Ok(entry) => Ok(Some(Ok(entry))),
                Err(
                    error @ (RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. }),
                ) => Ok(Some(Err(error))),
                Err(error) => Err(error),
            }
        })?;
        let mut log = Self::default();
        let mut entries = Vec::new();
        for read in read.into_iter().flatten() {
            match read {
                Ok(entry) => entries.push(entry),
                Err(error) => log.problems.push(error),
            }
        }
        let removed = entries.iter().map(|entry| &entry.plain.removed[..]);
        log.removed = Removals::new(merged(removed));
        log.graph = Graph::new(entries);
        Ok(log)
    }

    /// Takes the errors of entries that are damaged, foreign, or of a newer version.
    pub fn take_problems(&mut self) -> Vec<RepoError> {
        std::mem::take(&mut self.problems)
    }

    /// Returns the hash and the number of each entry.
    pub fn entries(&self) -> impl Iterator<Item = (ObjectHash, u64)> {
        let entries = self.graph.entries().iter();
        entries.map(|entry| (entry.hash, entry.plain.number))
    }

    /// Returns the entries that other entries name as previous, but that do not exist or cannot be
    /// read, in ascending order.
    #[must_use]
    pub fn missing(&self) -> Vec<ObjectHash> {
        self.graph.missing()
    }

    /// Returns the entries whose number is not one more than the largest number of their previous
    /// entries.
    pub fn miscounted(&self) -> impl Iterator<Item = ObjectHash> {
        self.graph.miscounted()
    }

    /// Returns whether an entry removes this object.
    #[must_use]
    pub fn removes(&self, item: LogItem) -> bool {
        self.removed.has(item.kind, item.hash)
    }

    /// Returns the objects that must exist: those that the log contains now, and those that it
    /// contained when `entry` was written. An object is in the log if it was added and not removed.
    /// Leaves out all objects that any entry removes.
    #[must_use]
    pub fn required(&self, entry: Option<ObjectHash>) -> Vec<LogItem> {
        let newest = self.graph.set(&self.graph.tips());
        let older = entry.map(|entry| self.graph.set(&[entry]));
        let mut all = merged([&newest[..], older.as_deref().unwrap_or_default()].into_iter());
        all.retain(|item| !self.removed.has(item.kind, item.hash));
        all
    }
}
