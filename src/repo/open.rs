//! Making and opening a repository and its projects: sections 4 to 6 of `docs/format.md`.

use std::sync::Arc;

use super::error::{Damage, RepoError};
use super::keys::{self, KeyScope, KeySummary, NewKey};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::{join, parallel_map};
use super::project::Project;
use crate::base::{ChunkSize, ObjectHash, Observer, ProjectId, RepositoryId};
use crate::crypto::{
    self, KdfParams, ProjectKeys, RepositoryKeys, SealNonce, Secret, object_hash, random,
};
use crate::format::{FormatError, KeySlot, ProjectObject, RepositoryFile, Settings};
use crate::storage::{Backend, Name, StorageErrorClass, StorageErrorKind};

/// How to make a repository.
#[derive(Debug)]
pub struct InitOptions<'a> {
    /// The first key.
    pub key: NewKey<'a>,
    /// Name of the first project.
    pub project: &'a str,
    /// Its chunk size.
    pub chunk_size: ChunkSize,
    /// Now, seconds since 1970-01-01 UTC.
    pub created: u64,
    /// Now, RFC 3339.
    pub created_text: String,
}

/// A repository that is there. No key was tried yet.
pub struct Locked {
    objects: Objects,
    file: RepositoryFile,
    mac: [u8; 32],
    slots: Vec<(ObjectHash, KeySlot)>,
    projects: Vec<Found>,
}

/// A project that is there, and the bytes of its object, if the first copy can be read.
type Found = (ProjectId, Option<Vec<u8>>);

/// An open repository: a key was found that fits.
pub struct Repository {
    objects: Objects,
    file: RepositoryFile,
    opened: Opened,
    key_id: ObjectHash,
    /// Those that were there when it was opened.
    projects: Vec<Found>,
}

/// What the password opened.
enum Opened {
    All {
        secret: Secret,
        keys: RepositoryKeys,
    },
    One {
        project: ProjectId,
        secret: Secret,
    },
}

fn decode_file(bytes: &[u8]) -> Result<(RepositoryFile, [u8; 32]), RepoError> {
    RepositoryFile::decode(bytes, |b| crypto::hash(&[b]))
        .map_err(|e| RepoError::format(ObjectRef::Repository, e))
}

impl Repository {
    /// Makes a repository. The repository file comes last and only if there is none: a crash before
    /// leaves no repository, and of two that try at the same time one succeeds.
    pub fn init(backend: Arc<dyn Backend>, options: &InitOptions<'_>) -> Result<Self, RepoError> {
        let objects = Objects::new(backend);
        for name in [
            ObjectRef::Repository.name(),
            ObjectRef::Repository.copy_name(),
        ] {
            match objects.backend().size(&name) {
                Err(e) if e.kind == StorageErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
                Ok(_) => {
                    return Err(RepoError::RepositoryExists {
                        location: objects.location().into(),
                    });
                }
            }
        }
        let secret = Secret::random()?;
        let keys = RepositoryKeys::new(&secret);
        let key_id = keys::store_slot(&objects, KeyScope::Repository, &secret, &options.key)?;
        let project = store_project(&objects, &keys, options)?;

        let file = RepositoryFile {
            id: RepositoryId::from_bytes(random()?),
            created: options.created,
        };
        let bytes = file.encode(&keys.file_mac(&file.fields()), |b| crypto::hash(&[b]));
        match objects
            .backend()
            .put_new(&ObjectRef::Repository.name(), &[&bytes])
        {
            Ok(()) => {}
            Err(e) if e.kind == StorageErrorKind::Exists => {
                objects.delete_twice(KeyScope::Repository.object(key_id))?;
                objects.delete_twice(ObjectRef::Project(project))?;
                return Err(RepoError::RepositoryExists {
                    location: objects.location().into(),
                });
            }
            Err(e) => return Err(e.into()),
        }
        objects
            .backend()
            .put(&ObjectRef::Repository.copy_name(), &[&bytes])?;
        Ok(Self {
            objects,
            file,
            opened: Opened::All { secret, keys },
            key_id,
            projects: vec![(project, None)],
        })
    }

    /// Finds the repository in this store: everything that takes no password.
    pub fn find(backend: Arc<dyn Backend>, observer: &dyn Observer) -> Result<Locked, RepoError> {
        let objects = Objects::new(backend);
        let limit = RepositoryFile::LEN as u64;
        let read_file = || objects.get_twice(ObjectRef::Repository, limit, observer, decode_file);
        let read_slots = || keys::read_slots(&objects, KeyScope::Repository, observer);
        // None waits for another: over a slow link that counts.
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

    /// Tells it from other repositories.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.file.id
    }

    /// The store.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Opens the project of this name.
    pub fn project(&self, name: &str, observer: &dyn Observer) -> Result<Project, RepoError> {
        let mut known = Vec::new();
        let mut broken = None;
        for (id, bytes) in &self.projects {
            match self.open_project(*id, bytes.as_deref(), observer) {
                Ok(Some(project)) if project.settings.name == name => return Ok(project),
                Ok(Some(project)) => known.push(project.settings.name.clone()),
                Ok(None) => {}
                Err(e @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    broken = Some(e);
                }
                Err(e) => return Err(e),
            }
        }
        known.sort_unstable();
        Err(broken.unwrap_or(RepoError::NoProject {
            name: name.to_owned(),
            known,
        }))
    }

    /// The project in this folder, unless the key is for another one; `read` is what was read of it already.
    fn open_project(
        &self,
        id: ProjectId,
        read: Option<&[u8]>,
        observer: &dyn Observer,
    ) -> Result<Option<Project>, RepoError> {
        if matches!(&self.opened, Opened::One { project, .. } if *project != id) {
            return Ok(None);
        }
        let object = ObjectRef::Project(id);
        let decode = |bytes: &[u8]| self.decode_project(id, bytes);
        let opened = match read.map(decode) {
            Some(Ok(opened)) => Ok(opened),
            _ => self
                .objects
                .get_twice(object, ProjectObject::LEN_MAX, observer, decode),
        };
        let (secret, keys, settings) = match opened {
            // A folder without its project object: what an `init` that lost a race leaves behind.
            Err(e) if e.is_missing() => return Ok(None),
            other => other?,
        };
        let chunk_size = ChunkSize::new(settings.chunk_size)
            .ok_or_else(|| RepoError::format(object, FormatError::BadValue("chunk_size")))?;
        let objects = self.objects.clone();
        Ok(Some(Project {
            id,
            repository: self.file.id,
            settings: Arc::new(settings),
            chunk_size,
            keys: Arc::new(keys),
            objects,
            secret,
        }))
    }

    /// The secret, keys and settings in a project object.
    fn decode_project(
        &self,
        id: ProjectId,
        bytes: &[u8],
    ) -> Result<(Secret, ProjectKeys, Settings), RepoError> {
        let object = ObjectRef::Project(id);
        let sealed = ProjectObject::decode(bytes).map_err(|e| RepoError::format(object, e))?;
        let damaged = |e| RepoError::damaged(object, Damage::DoesNotOpen(e));
        let secret = match &self.opened {
            Opened::One { secret, .. } => secret.clone(),
            Opened::All { keys, .. } => {
                let aad = [&id.as_bytes()[..], &ProjectObject::secret_context()].concat();
                let nonce = SealNonce::from_bytes(sealed.nonce);
                let opened = keys
                    .project_wrap()
                    .open(&nonce, &aad, &sealed.sealed_secret)
                    .map_err(damaged)?;
                let opened = zeroize::Zeroizing::new(opened);
                let mut secret = [0; 32];
                secret.copy_from_slice(&opened);
                Secret::new(secret)
            }
        };
        let keys = ProjectKeys::new(&secret);
        let aad = [&id.as_bytes()[..], &sealed.settings_context()].concat();
        let nonce = SealNonce::from_bytes(sealed.settings_nonce);
        let plain = keys
            .object()
            .open(&nonce, &aad, &sealed.sealed_settings)
            .map_err(damaged)?;
        let settings = Settings::decode(&plain).map_err(|e| RepoError::format(object, e))?;
        Ok((secret, keys, settings))
    }

    /// Reads one copy of an object that is kept twice: whether it is whole.
    pub fn verify_copy(&self, object: ObjectRef, name: &Name) -> Result<(), RepoError> {
        let limit = ProjectObject::LEN_MAX.max(KeySlot::LEN_MAX);
        let bytes = self
            .objects
            .backend()
            .get(name, limit)
            .map_err(|e| RepoError::reading(object, e))?;
        match object {
            ObjectRef::Repository => {
                let (file, mac) = decode_file(&bytes)?;
                match &self.opened {
                    Opened::All { keys, .. }
                        if !crypto::same(&keys.file_mac(&file.fields()), &mac) =>
                    {
                        Err(foreign_file())
                    }
                    _ => Ok(()),
                }
            }
            ObjectRef::Key(_, hash) => keys::decode_slot(object, hash, &bytes).map(|_| ()),
            ObjectRef::Project(id) => self.decode_project(id, &bytes).map(|_| ()),
            ObjectRef::Pack(..)
            | ObjectRef::Index(..)
            | ObjectRef::Backup(..)
            | ObjectRef::Tombstone(..)
            | ObjectRef::Lease(..)
            | ObjectRef::Mark(..) => Ok(()),
        }
    }

    /// Makes another key for the repository, or for one project.
    pub fn add_key(
        &self,
        project: Option<&Project>,
        key: &NewKey<'_>,
    ) -> Result<ObjectHash, RepoError> {
        match (project, &self.opened) {
            (Some(project), _) => keys::store_slot(
                &self.objects,
                KeyScope::Project(project.id),
                &project.secret,
                key,
            ),
            (None, Opened::All { secret, .. }) => {
                keys::store_slot(&self.objects, KeyScope::Repository, secret, key)
            }
            (None, Opened::One { project, secret }) => {
                keys::store_slot(&self.objects, KeyScope::Project(*project), secret, key)
            }
        }
    }

    /// The keys that this key may see: the repository's and all projects', or one project's.
    pub fn list_keys(&self, observer: &dyn Observer) -> Result<Vec<KeySummary>, RepoError> {
        let mut scopes = Vec::new();
        if let Opened::All { secret, .. } = &self.opened {
            scopes.push((KeyScope::Repository, secret.clone()));
        }
        for id in project_ids(&self.objects)? {
            if let Ok(Some(project)) = self.open_project(id, None, observer) {
                scopes.push((KeyScope::Project(id), project.secret));
            }
        }
        let mut list = Vec::new();
        for (scope, secret) in scopes {
            for (id, slot) in keys::read_slots(&self.objects, scope, observer)? {
                let p = &slot.params;
                let kdf = KdfParams::new(p.memory_kib, p.passes, p.lanes).unwrap_or_default();
                let info = keys::slot_info(scope, &slot, &secret);
                list.push(KeySummary {
                    id,
                    scope,
                    info,
                    kdf,
                    current: id == self.key_id,
                });
            }
        }
        Ok(list)
    }

    /// The bytes of a key slot, for safe-keeping: still sealed under its password.
    pub fn export_key(
        &self,
        key: &KeySummary,
        observer: &dyn Observer,
    ) -> Result<Vec<u8>, RepoError> {
        let object = key.scope.object(key.id);
        self.objects
            .get_twice(object, KeySlot::LEN_MAX, observer, |bytes| {
                if object_hash(&[bytes]) == key.id {
                    Ok(bytes.to_vec())
                } else {
                    Err(RepoError::damaged(object, Damage::WrongHash))
                }
            })
    }

    /// Deletes a key, unless it is the last of its scope.
    pub fn remove_key(&self, key: &KeySummary, observer: &dyn Observer) -> Result<(), RepoError> {
        let (what, rest_may_be_empty) = match key.scope {
            KeyScope::Repository => ("the repository", false),
            KeyScope::Project(_) => ("the project", matches!(self.opened, Opened::All { .. })),
        };
        let (Opened::All { secret, .. } | Opened::One { secret, .. }) = &self.opened;
        let mut ours = keys::read_slots(&self.objects, key.scope, observer)?;
        ours.retain(|(_, slot)| keys::belongs(key.scope, slot, secret));
        let is_ours = ours.iter().any(|(id, _)| *id == key.id);
        if is_ours && ours.len() <= 1 && !rest_may_be_empty {
            return Err(RepoError::LastKey {
                id: key.id.to_string(),
                what,
            });
        }
        self.objects.delete_twice(key.scope.object(key.id))
    }

    /// Replaces the key that this repository was opened with: the new one is there before the old one goes.
    pub fn change_password(&self, key: &NewKey<'_>) -> Result<ObjectHash, RepoError> {
        let id = self.add_key(None, key)?;
        let scope = match &self.opened {
            Opened::All { .. } => KeyScope::Repository,
            Opened::One { project, .. } => KeyScope::Project(*project),
        };
        self.objects.delete_twice(scope.object(self.key_id))?;
        Ok(id)
    }

    /// The slot that the password opened.
    #[must_use]
    pub fn key_id(&self) -> ObjectHash {
        self.key_id
    }
}

impl Locked {
    /// Opens it with whichever of its keys fits the password; with a project's key if none of the repository's does.
    pub fn unlock(self, password: &[u8], observer: &dyn Observer) -> Result<Repository, RepoError> {
        let Self {
            objects,
            file,
            mac,
            slots,
            projects,
        } = self;
        let opened = |file, opened, key_id, projects| Repository {
            objects: objects.clone(),
            file,
            opened,
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
            // The file may be whole and another repository's, while its copy is this one's. And a slot
            // that an unfinished `init` left behind opens, but belongs to no repository.
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
                    return Ok(opened(file, Opened::All { secret, keys }, key_id, projects));
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
                    let one = Opened::One { project, secret };
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

fn foreign_file() -> RepoError {
    let why = Damage::Impossible("it was not made with the key that opens this repository");
    RepoError::damaged(ObjectRef::Repository, why)
}

fn store_project(
    objects: &Objects,
    keys: &RepositoryKeys,
    options: &InitOptions<'_>,
) -> Result<ProjectId, RepoError> {
    let id = ProjectId::from_bytes(random()?);
    let secret = Secret::random()?;
    let settings = Settings {
        name: options.project.to_owned(),
        created: options.created_text.clone(),
        chunk_size: options.chunk_size.bytes().into(),
        requires: Vec::new(),
    };
    let nonce = SealNonce::random()?;
    let aad = [&id.as_bytes()[..], &ProjectObject::secret_context()].concat();
    let mut sealed_secret = [0; 48];
    sealed_secret.copy_from_slice(&keys.project_wrap().seal(&nonce, &aad, secret.expose()));
    let settings_nonce = SealNonce::random()?;
    let mut object = ProjectObject {
        nonce: *nonce.as_bytes(),
        sealed_secret,
        settings_nonce: *settings_nonce.as_bytes(),
        sealed_settings: Vec::new(),
    };
    let aad = [&id.as_bytes()[..], &object.settings_context()].concat();
    object.sealed_settings =
        ProjectKeys::new(&secret)
            .object()
            .seal(&settings_nonce, &aad, &settings.encode());
    objects.put_twice(ObjectRef::Project(id), &object.encode())?;
    Ok(id)
}

fn find_projects(objects: &Objects) -> Result<Vec<Found>, RepoError> {
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

fn project_ids(objects: &Objects) -> Result<Vec<ProjectId>, RepoError> {
    let mut ids: Vec<ProjectId> = objects
        .backend()
        .directories("projects")?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}
