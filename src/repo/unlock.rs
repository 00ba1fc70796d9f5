//! Finds a repository in a store, and unlocks it with a password: sections 4 and 5 of
//! `docs/format.md`.

use std::sync::Arc;

use super::error::RepoError;
use super::keys::{self, KeyScope};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::{join, parallel_map};
use super::repository::{
    FoundProject, Repository, Unlocked, decode_file, foreign_file, project_ids,
};
use crate::base::{ObjectHash, Observer};
use crate::crypto::{self, RepositoryKeys};
use crate::format::{KeySlot, ProjectObject, RepositoryFile};
use crate::storage::{Backend, StorageErrorClass};

/// A repository that was found. No password has been tried yet.
pub struct Locked {
    objects: Objects,
    file: RepositoryFile,
    mac: [u8; 32],
    slots: Vec<(ObjectHash, KeySlot)>,
    projects: Vec<FoundProject>,
}

impl Repository {
    /// Finds the repository in this store and reads all that needs no password.
    pub fn find(backend: Arc<dyn Backend>, observer: &dyn Observer) -> Result<Locked, RepoError> {
        let objects = Objects::new(backend);
        let limit = RepositoryFile::LEN as u64;
        let read_file = || objects.get_twice(ObjectRef::Repository, limit, observer, decode_file);
        let read_slots = || keys::read_slots(&objects, KeyScope::Repository, observer);
        // At the same time: with a slow link each of these takes a round trip.
        let (file, (slots, projects)) =
            join(read_file, || join(read_slots, || find_projects(&objects)));
        let (file, mac) = file.map_err(|e| {
            if e.is_missing() {
                RepoError::NoRepository {
                    location: objects.location().to_owned(),
                }
            } else {
                e
            }
        })?;
        Ok(Locked {
            file,
            mac,
            slots: slots?,
            projects: projects?,
            objects,
        })
    }

    /// Finds and unlocks a repository.
    pub fn open(
        backend: Arc<dyn Backend>,
        password: &[u8],
        observer: &dyn Observer,
    ) -> Result<Self, RepoError> {
        Self::find(backend, observer)?.unlock(password, observer)
    }
}

impl Locked {
    /// Opens it with the key that the password unlocks: one of the repository if possible, else one
    /// of a project.
    pub fn unlock(self, password: &[u8], observer: &dyn Observer) -> Result<Repository, RepoError> {
        let Self {
            objects,
            file,
            mac,
            slots,
            projects,
        } = self;
        let opened = |file, unlocked, key_id, projects| Repository {
            objects: objects.clone(),
            file,
            unlocked,
            key_id,
            projects,
        };
        let mut slots_seen = slots.len();
        let mut foreign_secret = false;
        for (key_id, slot) in slots {
            let Some(secret) = keys::open_slot(KeyScope::Repository, &slot, password)? else {
                continue;
            };
            let keys = RepositoryKeys::new(&secret);
            let is_ours = |file: &RepositoryFile, mac: &[u8; 32]| {
                crypto::same(&keys.file_mac(&file.fields()), mac)
            };
            // The file may be an intact one of another repository, and its copy the right one.
            // Also, an unfinished `init` leaves a key slot that can be unlocked and has no
            // repository.
            let ours = if is_ours(&file, &mac) {
                Ok(file.clone())
            } else {
                let limit = RepositoryFile::LEN as u64;
                objects.get_twice(ObjectRef::Repository, limit, observer, |bytes| {
                    let (file, mac) = decode_file(bytes)?;
                    is_ours(&file, &mac)
                        .then_some(file)
                        .ok_or_else(foreign_file)
                })
            };
            match ours {
                Ok(file) => {
                    return Ok(opened(
                        file,
                        Unlocked::Repository { secret, keys },
                        key_id,
                        projects,
                    ));
                }
                Err(RepoError::Damaged { .. }) => foreign_secret = true,
                Err(error) => return Err(error),
            }
        }
        for &(project, _) in &projects {
            let scope = KeyScope::Project(project);
            for (key_id, slot) in keys::read_slots(&objects, scope, observer)? {
                slots_seen += 1;
                if let Some(secret) = keys::open_slot(scope, &slot, password)? {
                    let one = Unlocked::Project { project, secret };
                    return Ok(opened(file, one, key_id, projects));
                }
            }
        }
        let location = objects.location().to_owned();
        Err(if foreign_secret {
            foreign_file()
        } else if slots_seen == 0 {
            RepoError::NoKeys { location }
        } else {
            RepoError::WrongPassword { location }
        })
    }
}

/// Lists the projects in the store and reads the first copies of their project objects.
fn find_projects(objects: &Objects) -> Result<Vec<FoundProject>, RepoError> {
    parallel_map(&project_ids(objects)?, |id| {
        let name = ObjectRef::Project(*id).name();
        match objects.backend().get(&name, ProjectObject::LEN_MAX) {
            Ok(bytes) => Ok((*id, Some(bytes))),
            // Its second copy may do.
            Err(e)
                if matches!(
                    e.kind.class(),
                    StorageErrorClass::Absent | StorageErrorClass::Damaged
                ) =>
            {
                Ok((*id, None))
            }
            Err(e) => Err(e.into()),
        }
    })
}
