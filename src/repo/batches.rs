//! Batches: files that contain records, log entries, and voids (which withdraw records). An object
//! in a batch counts as if it were stored under its own name. Section 23 (Batch) of
//! `docs/format.md`.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use super::error::{Damage, RepoError};
use super::object_kind::ObjectKind;
use super::object_ref::ObjectRef;
use super::parallel::parallel_map;
use crate::base::{ObjectHash, ProjectId, read_lock, write_lock};
use crate::crypto::object_hash;
use crate::format::{Batch, BatchedKind, NewBatchedObject};
use crate::storage::{Backend, Name, ObjectInfo, StorageError, StorageErrorKind};

/// The batches that this process has found in a store.
#[derive(Debug, Default)]
pub(super) struct Batches {
    found: RwLock<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// The objects of each undamaged batch.
    batches: HashMap<ObjectRef, Vec<Batched>>,
    /// For each object in these batches, one place that contains it.
    places: HashMap<ObjectRef, Batched>,
}

/// An object in a batch.
#[derive(Debug, Clone)]
pub(super) struct Batched {
    pub(super) object: ObjectRef,
    /// The batch that contains it.
    batch: ObjectRef,
    offset: u64,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// The objects in the batches of a project.
#[derive(Debug, Default)]
pub(super) struct ListedBatches {
    /// The objects, each with the information that the store gives about its batch.
    pub(super) objects: Vec<(Batched, ObjectInfo)>,
    /// Whether a batch was deleted while the batches were listed. Its objects now have their own
    /// files.
    pub(super) some_unpacked: bool,
}

/// Returns the project whose batches can contain objects of this directory. `None` if batches do
/// not contain such objects.
pub(super) fn project_of(directory: &str) -> Option<ProjectId> {
    let (project, kind) = directory.strip_prefix("projects/")?.split_once('/')?;
    let kinds = [ObjectKind::Backup, ObjectKind::Void, ObjectKind::Log];
    let is_of = |of: &ObjectKind| of.info().directory == kind;
    kinds.iter().any(is_of).then(|| project.parse().ok())?
}

/// Returns the kind that an object has in a batch. `None` if batches do not contain such objects.
pub(super) fn batched_kind(object: ObjectRef) -> Option<BatchedKind> {
    match object.kind() {
        ObjectKind::Log => Some(BatchedKind::Entry),
        ObjectKind::Backup => Some(BatchedKind::Record),
        ObjectKind::Void => Some(BatchedKind::Void),
        _ => None,
    }
}

impl Batches {
    /// Lists the batches of a project, and returns their objects. Ignores batches that are damaged
    /// or that a later version wrote.
    pub(super) fn list(
        &self,
        backend: &dyn Backend,
        project: ProjectId,
    ) -> Result<ListedBatches, RepoError> {
        let mut all = ListedBatches::default();
        let listed = backend.list(&ObjectKind::Batch.directory(project))?;
        let exist: HashSet<&Name> = listed.iter().map(|info| &info.name).collect();
        write_lock(&self.found)
            .retain(|batch| batch.project() != Some(project) || exist.contains(&batch.name()));
        for info in &listed {
            let Some((batch, _)) = ObjectRef::parse(&info.name) else {
                continue;
            };
            let known = read_lock(&self.found).batches.get(&batch).cloned();
            let objects = match known {
                Some(objects) => objects,
                None => match read_table(backend, project, batch, info) {
                    Ok(objects) => {
                        write_lock(&self.found).insert(batch, &objects);
                        objects
                    }
                    Err(error) if error.is_missing() => {
                        all.some_unpacked = true;
                        continue;
                    }
                    Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            let objects = objects.into_iter();
            all.objects.extend(objects.map(|o| (o, info.clone())));
        }
        Ok(all)
    }

    /// Returns the place of an object in a batch that was listed. `None` if no such batch contains
    /// the object.
    pub(super) fn place(&self, object: ObjectRef) -> Option<Batched> {
        read_lock(&self.found).places.get(&object).cloned()
    }

    /// Stores the objects of all batches of a project under their own names. Then deletes each
    /// batch whose objects all have undamaged files of their own. An object that is damaged in its
    /// batch is not stored.
    pub(super) fn unpack(
        &self,
        backend: &dyn Backend,
        project: ProjectId,
    ) -> Result<(), RepoError> {
        self.list(backend, project)?;
        // A batch without objects is deleted, too.
        let of_project = |batch: &ObjectRef| batch.project() == Some(project);
        let batches: Vec<_> = {
            let found = read_lock(&self.found);
            let batches = found.batches.iter().filter(|(batch, _)| of_project(batch));
            batches.map(|(batch, of)| (*batch, of.clone())).collect()
        };
        for (batch, objects) in batches {
            let stored = parallel_map(&objects, |batched| batched.store(backend))?;
            if stored.iter().all(|stored| *stored) {
                write_lock(&self.found).retain(|found| *found != batch);
                match backend.delete(&batch.name()) {
                    // If the store forbids deletions, the batch may stay: it changes nothing.
                    Err(error) if !is_harmless(error.kind) => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Found {
    fn insert(&mut self, batch: ObjectRef, objects: &[Batched]) {
        for batched in objects {
            self.places.insert(batched.object, batched.clone());
        }
        self.batches.insert(batch, objects.to_vec());
    }

    /// Keeps only these batches.
    fn retain(&mut self, is_kept: impl Fn(&ObjectRef) -> bool) {
        let before = self.batches.len();
        self.batches.retain(|batch, _| is_kept(batch));
        if self.batches.len() < before {
            let objects = self.batches.values().flatten();
            self.places = objects.map(|b| (b.object, b.clone())).collect();
        }
    }
}

/// Returns whether a batch may stay, or is gone, if deleting it fails with this error.
fn is_harmless(error: StorageErrorKind) -> bool {
    matches!(error, StorageErrorKind::NotFound | StorageErrorKind::Denied)
}

impl Batched {
    /// Reads the object from its batch, without verifying it.
    pub(super) fn read(&self, backend: &dyn Backend) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        backend.get_range(&self.batch.name(), self.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Stores the object under its own name, unless a file with this name exists. Returns whether
    /// an undamaged file with this name exists now.
    fn store(&self, backend: &dyn Backend) -> Result<bool, RepoError> {
        let name = self.object.name();
        // Whether the object's file is undamaged. `None` if it has no file.
        let has_file = || match backend.get(&name, self.len) {
            Ok(bytes) => Ok(Some(self.object.hash() == Some(object_hash(&[&bytes])))),
            Err(error) => match RepoError::reading(self.object, error) {
                error if error.is_missing() => Ok(None),
                RepoError::Damaged { .. } => Ok(Some(false)),
                error => Err(error),
            },
        };
        if let Some(is_whole) = has_file()? {
            return Ok(is_whole);
        }
        match self.read_whole(backend) {
            Ok(bytes) => match backend.put_new(&name, &[&bytes]) {
                Ok(()) => Ok(true),
                Err(error) if error.kind == StorageErrorKind::Exists => {
                    Ok(has_file()?.unwrap_or(false))
                }
                Err(error) => Err(error.into()),
            },
            // Another process may have stored the object and deleted the batch.
            Err(error) if error.is_missing() => Ok(has_file()?.unwrap_or(false)),
            Err(RepoError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the object from its batch, and verifies its hash.
    fn read_whole(&self, backend: &dyn Backend) -> Result<Vec<u8>, RepoError> {
        let read = self.read(backend);
        let bytes = read.map_err(|error| RepoError::reading(self.batch, error))?;
        if self.object.hash() == Some(object_hash(&[&bytes])) {
            Ok(bytes)
        } else {
            Err(RepoError::damaged(self.batch, Damage::WrongHash))
        }
    }
}

/// Returns the name and the bytes of a batch of these objects of a project. Leaves out objects of
/// kinds that batches do not contain.
pub(super) fn encode(
    project: ProjectId,
    objects: impl IntoIterator<Item = (ObjectRef, Vec<u8>)>,
) -> (ObjectRef, Vec<u8>) {
    let new = objects.into_iter().filter_map(|(object, bytes)| {
        let (kind, hash) = (batched_kind(object)?, object.hash()?);
        Some(NewBatchedObject { kind, hash, bytes })
    });
    let mut new: Vec<_> = new.collect();
    new.sort_unstable();
    let bytes = Batch::encode(project, &new);
    let hash: ObjectHash = object_hash(&[&bytes]);
    (ObjectRef::Batch(project, hash), bytes)
}

/// Reads the table of a batch, and returns the objects that it lists. Fails with
/// [`RepoError::Damaged`] if the table is damaged or belongs to another project.
fn read_table(
    backend: &dyn Backend,
    project: ProjectId,
    batch: ObjectRef,
    info: &ObjectInfo,
) -> Result<Vec<Batched>, RepoError> {
    if info.size > Batch::LEN_MAX as u64 {
        return Err(RepoError::damaged(batch, Damage::TooLarge));
    }
    let read = |len: usize| {
        let mut bytes = vec![0; len];
        let read = backend.get_range(&info.name, 0, &mut bytes);
        read.map(|()| bytes)
            .map_err(|error| RepoError::reading(batch, error))
    };
    let start = read(Batch::START_LEN)?;
    let end = Batch::table_end(&start, info.size);
    let table = read(end.map_err(|error| RepoError::format(batch, error))?)?;
    let decoded = Batch::decode(&table, info.size);
    let decoded = decoded.map_err(|error| RepoError::format(batch, error))?;
    if decoded.project != project {
        let source = Damage::Impossible("it belongs to another project");
        return Err(RepoError::Damaged {
            object: batch,
            source,
        });
    }
    let objects = decoded.objects.into_iter().map(|item| Batched {
        object: match item.kind {
            BatchedKind::Entry => ObjectRef::Log(project, item.hash),
            BatchedKind::Record => ObjectRef::Backup(project, item.hash),
            BatchedKind::Void => ObjectRef::Void(project, item.hash),
        },
        batch,
        offset: item.offset,
        len: u64::from(item.len),
    });
    Ok(objects.collect())
}

/// Reads a batch of a project, and returns its objects. Fails with [`RepoError::Damaged`] if the
/// batch or one of its objects is damaged.
pub(super) fn verify(
    backend: &dyn Backend,
    project: ProjectId,
    batch: ObjectRef,
    info: &ObjectInfo,
) -> Result<Vec<ObjectRef>, RepoError> {
    let objects = read_table(backend, project, batch, info)?;
    parallel_map(&objects, |batched| {
        batched.read_whole(backend).map(|_| batched.object)
    })
}
