//! Finds a repository in a store, and unlocks it with a password: sections 4 and 5 of
//! `docs/format.md`.

use std::sync::Arc;

use super::bundle::Bundle;
use super::error::RepoError;
use super::keys::{self, KeyScope};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::{join, parallel_map};
use super::repository::{
    FoundProject, Repository, Unlocked, decode_file, foreign_file, project_ids,
};
use crate::base::{ObjectHash, Observer, ProjectId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys};
use crate::format::{KeySlot, RepositoryFile};
use crate::storage::Backend;

/// A repository that was found. No password has been tried yet.
///
/// All that a password needs is read already: trying one reads nothing, whether it fits or not, so
/// that the store does not learn which key it opens.
pub struct Locked {
    objects: Objects,
    file: RepositoryFile,
    mac: [u8; 32],
    /// The key slots: those of the repository, then those of each project.
    slots: Vec<ScopedSlot>,
    projects: Vec<FoundProject>,
}

/// A key slot, its scope, and the hash that it is named by.
type ScopedSlot = (KeyScope, ObjectHash, KeySlot);

impl Repository {
    /// Finds the repository in this store and reads all that needs no password.
    pub fn find(backend: Arc<dyn Backend>, observer: &dyn Observer) -> Result<Locked, RepoError> {
        let objects = Objects::new(backend);
        let limit = RepositoryFile::LEN as u64;
        let read_file = || objects.get_twice(ObjectRef::Repository, limit, observer, decode_file);
        let read_slots = || read_slots(&objects, KeyScope::Repository, observer);
        // At the same time: with a slow link each of these takes a round trip.
        let (file, (slots, projects)) = join(read_file, || {
            join(read_slots, || read_projects(&objects, observer))
        });
        let (file, mac) = file.map_err(|e| {
            if e.is_missing() {
                RepoError::NoRepository {
                    location: objects.location().to_owned(),
                }
            } else {
                e
            }
        })?;
        let mut slots = slots?;
        let mut projects = projects?;
        for (_, of_project) in &mut projects {
            slots.append(of_project);
        }
        Ok(Locked {
            file,
            mac,
            slots,
            projects: projects.into_iter().map(|(found, _)| found).collect(),
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
        let no_slots = slots.is_empty();
        let mut foreign_secret = false;
        for (scope, key_id, slot) in slots {
            let Some(bundle) = keys::open_slot(scope, &slot, password)? else {
                continue;
            };
            let secret = match (bundle, scope) {
                (Bundle::Repository(secret), _) => secret,
                (bundle, KeyScope::Project(project)) => {
                    if let Some(unlocked) = unlock_project(project, bundle) {
                        return Ok(opened(file, unlocked, key_id, projects));
                    }
                    continue;
                }
                _ => continue,
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
                    let unlocked = Unlocked::Repository { secret, keys };
                    return Ok(opened(file, unlocked, key_id, projects));
                }
                Err(RepoError::Damaged { .. }) => foreign_secret = true,
                Err(error) => return Err(error),
            }
        }
        let location = objects.location().to_owned();
        Err(if foreign_secret {
            foreign_file()
        } else if no_slots {
            RepoError::NoKeys { location }
        } else {
            RepoError::WrongPassword { location }
        })
    }
}

/// Derives the keys of a project from the bundle of one of its key slots.
fn unlock_project(project: ProjectId, bundle: Bundle) -> Option<Unlocked> {
    let (keys, secret) = match bundle {
        Bundle::Repository(_) => return None,
        Bundle::Full(secret) => (ProjectKeys::full(&secret), Some(secret)),
        Bundle::Write(secrets) => (ProjectKeys::write(*secrets), None),
        Bundle::Verify(secrets) => (ProjectKeys::verify(secrets), None),
    };
    Some(Unlocked::Project {
        project,
        keys: Arc::new(keys),
        secret,
    })
}

fn read_slots(
    objects: &Objects,
    scope: KeyScope,
    observer: &dyn Observer,
) -> Result<Vec<ScopedSlot>, RepoError> {
    let slots = keys::read_slots(objects, scope, observer)?;
    let scoped = slots.into_iter().map(|(hash, slot)| (scope, hash, slot));
    Ok(scoped.collect())
}

/// Lists the projects in the store, and reads what needs no key, with their key slots.
fn read_projects(
    objects: &Objects,
    observer: &dyn Observer,
) -> Result<Vec<(FoundProject, Vec<ScopedSlot>)>, RepoError> {
    parallel_map(&project_ids(objects)?, |id| {
        let (found, slots) = join(
            || FoundProject::read(objects, *id),
            || read_slots(objects, KeyScope::Project(*id), observer),
        );
        Ok((found?, slots?))
    })
}
