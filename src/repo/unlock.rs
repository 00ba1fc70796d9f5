//! Finds a repository in a store, and unlocks it with a password: sections 4 and 5 of
//! `docs/format.md`.

use std::sync::Arc;

use super::error::{Damage, RepoError};
use super::keys::{self, Bundle, FoundSlot, KeyScope, Trials};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::{join, parallel_map};
use super::project::Project;
use super::repository::{
    FoundProject, Repository, Unlocked, decode_file, foreign_file, project_ids,
};
use crate::base::{Cancel, ObjectHash, Observer, ProjectId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys};
use crate::format::RepositoryFile;
use crate::storage::{Backend, Name};

/// A repository that was found. No password has opened it yet.
///
/// All objects that are needed to try passwords are read already; of objects that are kept twice,
/// the first copies. Trying a password reads nothing if it opens a key that fits these copies.
/// Otherwise, trying a password reads second copies, and the repository file once more, whether or
/// not the password opened a slot. So a store that has added a slot does not learn whether the
/// password opened it.
pub struct Locked {
    objects: Objects,
    file: RepositoryFile,
    mac: [u8; 32],
    /// The key slots: those of the repository, then those of each project.
    slots: Vec<FoundSlot>,
    /// The key to try first, if it exists.
    last_key: Option<ObjectHash>,
    projects: Vec<FoundProject>,
}

/// A key that a password opened, and that belongs to this repository.
pub struct OpenedKey {
    id: ObjectHash,
    unlocked: Unlocked,
    file: RepositoryFile,
}

impl OpenedKey {
    /// Returns the hash that names its slot.
    #[must_use]
    pub fn id(&self) -> ObjectHash {
        self.id
    }
}

impl Repository {
    /// Finds the repository in this store, and reads all objects that need no password. `last_key`
    /// is the key to try first, if it exists.
    pub fn find(
        backend: Arc<dyn Backend>,
        last_key: Option<ObjectHash>,
        observer: &dyn Observer,
    ) -> Result<Locked, RepoError> {
        let objects = Objects::new(backend);
        let limit = RepositoryFile::LEN as u64;
        let read_file = || objects.get_twice(ObjectRef::Repository, limit, observer, decode_file);
        let read_slots = |scope| keys::read_slots(&objects, scope, last_key, observer);
        let read_projects = || {
            let ids = project_ids(&objects)?;
            parallel_map(&ids, |id| {
                let (found, slots) = join(
                    || FoundProject::read(&objects, *id, ids.len()),
                    || read_slots(KeyScope::Project(*id)),
                )?;
                Ok((found?, slots?))
            })
        };
        // Read these at the same time, since each takes a round trip.
        let (file, others) = join(read_file, || {
            join(|| read_slots(KeyScope::Repository), read_projects)
        })?;
        let (file, mac) = file.map_err(|e| {
            if e.is_missing() {
                RepoError::NoRepository {
                    location: objects.location().to_owned(),
                }
            } else {
                e
            }
        })?;
        let (slots, projects) = others?;
        let mut slots = slots?;
        let (projects, of_projects): (Vec<_>, Vec<_>) = projects?.into_iter().unzip();
        slots.extend(of_projects.into_iter().flatten());
        Ok(Locked {
            objects,
            file,
            mac,
            slots,
            last_key,
            projects,
        })
    }

    /// Finds and unlocks a repository.
    pub fn open(
        backend: Arc<dyn Backend>,
        password: &[u8],
        observer: &dyn Observer,
    ) -> Result<Self, RepoError> {
        Self::find(backend, None, observer)?.unlock(password, observer)
    }
}

impl Locked {
    /// Opens the repository with the key that the password unlocks. Unlocking takes the time of one
    /// key derivation (Argon2id) for each slot that is tried, and cannot be interrupted.
    pub fn unlock(self, password: &[u8], observer: &dyn Observer) -> Result<Repository, RepoError> {
        match self.try_password(password, &Cancel::default(), observer)? {
            Some(key) => Ok(self.open(key)),
            None => Err(RepoError::WrongPassword {
                location: self.objects.location().to_owned(),
            }),
        }
    }

    /// Tries a password on the keys until it opens one. Tries the last used key first, and then the
    /// others. Those that take less work come first, so that an expensive slot does not delay the
    /// right one. Returns `None` if the password opens no key. Skips slots that cannot be tried,
    /// and sends notices.
    /// Fails if there are no slots. Also fails if the password opens only slots that need a newer
    /// program, or slots that do not belong to this repository.
    pub fn try_password(
        &self,
        password: &[u8],
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Option<OpenedKey>, RepoError> {
        if self.slots.is_empty() {
            return Err(RepoError::NoKeys {
                location: self.objects.location().to_owned(),
            });
        }
        let mut order: Vec<&FoundSlot> = self.slots.iter().collect();
        // The sort is stable: with equal work, slots of the repository come first.
        order.sort_by_key(|found| (self.last_key != Some(found.id), found.work()));
        let trials = Trials::new(cancel, observer);
        let (mut doubtful, mut newer) = (Vec::new(), None);
        for found in order {
            let bundle = match trials.open(found, password) {
                // The password may open another slot, too.
                Err(error @ RepoError::Unsupported { .. }) => {
                    newer = Some(error);
                    continue;
                }
                other => other?,
            };
            let Some(unlocked) = bundle.and_then(|bundle| unlock_with(found.scope, bundle)) else {
                continue;
            };
            let file = &self.file;
            let key = OpenedKey {
                id: found.id,
                unlocked,
                file: file.clone(),
            };
            let ours = match &key.unlocked {
                Unlocked::Repository { keys, .. } => fits_file(keys, file, &self.mac),
                Unlocked::Project { project, keys, .. } => {
                    let opened = self.without_settings(*project, keys);
                    self.any_of(*project, |found| {
                        found.is_signed_by(keys) && found.has_settings_of(&opened)
                    })
                }
            };
            if ours {
                return Ok(Some(key));
            }
            doubtful.push(key);
        }
        match (self.try_copies(doubtful)?, newer) {
            (None, Some(newer)) => Err(newer),
            (opened, _) => Ok(opened),
        }
    }

    fn without_settings(&self, id: ProjectId, keys: &Arc<ProjectKeys>) -> Project {
        let objects = self.objects.clone();
        Project::without_settings(id, self.file.id, Arc::clone(keys), None, objects)
    }

    /// Returns whether `holds` is true for the first copies of the project with this id.
    fn any_of(&self, id: ProjectId, holds: impl Fn(&FoundProject) -> bool) -> bool {
        self.projects
            .iter()
            .any(|found| found.id == id && holds(found))
    }

    /// Searches for a key that fits the second copies, since a first copy may be damaged, or may be
    /// from another repository. `doubtful` are opened keys that do not fit the first copies.
    /// Returns `None` if `doubtful` is empty. Fails if no key fits any copy, for example if an
    /// unfinished `init` left a key slot without its repository.
    fn try_copies(&self, doubtful: Vec<OpenedKey>) -> Result<Option<OpenedKey>, RepoError> {
        let limit = RepositoryFile::LEN as u64;
        let read = |name: &Name| self.objects.get_copy(name, limit);
        let repository = ObjectRef::Repository;
        let (files, projects) = join(
            || parallel_map(&[repository.name(), repository.copy_name()], read),
            || {
                parallel_map(&self.projects, |found| {
                    found.read_copies(&self.objects, self.projects.len())
                })
            },
        )?;
        let files = files?.into_iter().flatten();
        let files: Vec<_> = files.filter_map(|bytes| decode_file(&bytes).ok()).collect();
        let projects = projects?;
        let mut foreign = None;
        for mut key in doubtful {
            match &key.unlocked {
                Unlocked::Repository { keys, .. } => {
                    let mut files = files.iter();
                    if let Some((file, _)) = files.find(|(file, mac)| fits_file(keys, file, mac)) {
                        key.file = file.clone();
                        return Ok(Some(key));
                    }
                    foreign = Some(foreign_file());
                }
                Unlocked::Project { project, keys, .. } => {
                    let opened = self.without_settings(*project, keys);
                    let fits = |of: &dyn Fn(&FoundProject) -> bool| {
                        let mut copies = projects.iter().filter(|found| found.id == *project);
                        copies.any(of) || self.any_of(*project, of)
                    };
                    if fits(&|found| found.is_signed_by(keys))
                        && fits(&|found| found.has_settings_of(&opened))
                    {
                        return Ok(Some(key));
                    }
                    let why = Damage::Impossible("it has other public keys than the key in use");
                    let error = RepoError::damaged(ObjectRef::Project(*project), why);
                    foreign = foreign.or(Some(error));
                }
            }
        }
        foreign.map_or(Ok(None), Err)
    }

    /// Opens the repository with a key that a password opened.
    #[must_use]
    pub fn open(self, key: OpenedKey) -> Repository {
        Repository {
            objects: self.objects,
            file: key.file,
            unlocked: key.unlocked,
            key_id: key.id,
            projects: self.projects,
        }
    }
}

/// Returns whether the MAC of the repository file was made with these keys.
fn fits_file(keys: &RepositoryKeys, file: &RepositoryFile, mac: &[u8; 32]) -> bool {
    crypto::same(&keys.file_mac(&file.fields()), mac)
}

/// Derives the keys from the bundle of a key slot. Returns `None` if the bundle is of another
/// scope.
fn unlock_with(scope: KeyScope, bundle: Bundle) -> Option<Unlocked> {
    let (project, keys, secret): (ProjectId, _, _) = match (scope, bundle) {
        (KeyScope::Repository, Bundle::Repository(secret)) => {
            let keys = RepositoryKeys::new(&secret);
            return Some(Unlocked::Repository { secret, keys });
        }
        (KeyScope::Project(id), Bundle::Full(secret)) => {
            (id, ProjectKeys::full(&secret), Some(secret))
        }
        (KeyScope::Project(id), Bundle::Write(secrets)) => (id, ProjectKeys::write(*secrets), None),
        (KeyScope::Project(id), Bundle::Verify(secrets)) => {
            (id, ProjectKeys::verify(secrets), None)
        }
        _ => return None,
    };
    Some(Unlocked::Project {
        project,
        keys: Arc::new(keys),
        secret,
    })
}
