//! An open repository, which opens its projects: sections 4, 6 and 15 of `docs/format.md`.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::{Damage, RepoError};
use super::keys;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::parallel::join;
use super::project::Project;
use super::settings::{self, FoundSettings};
use crate::base::{ChunkSize, ObjectHash, Observer, ProjectId, RepositoryId, SignerId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys, SealNonce, Secret, verify_signature};
use crate::format::{
    Certificate, FormatError, KeySlot, ProjectObject, RepositoryFile, SealedObject,
};
use crate::storage::{Name, StorageErrorClass};

/// An open repository: a password has unlocked it, or one of its projects.
pub struct Repository {
    pub(super) objects: Objects,
    pub(super) file: RepositoryFile,
    pub(super) unlocked: Unlocked,
    /// The hash that names the key slot that the password unlocked.
    pub(super) key_id: ObjectHash,
    /// The projects that existed when it was opened.
    pub(super) projects: Vec<FoundProject>,
}

/// The scope that the password unlocked, and its keys.
pub(super) enum Unlocked {
    /// The repository with all its projects.
    Repository {
        secret: Secret,
        keys: RepositoryKeys,
    },
    /// One project.
    Project {
        project: ProjectId,
        keys: Arc<ProjectKeys>,
        /// The secret that all its keys derive from, if the role of the key is full.
        secret: Option<Secret>,
    },
}

/// The objects of a project that are read without a key.
pub(super) struct FoundProject {
    pub(super) id: ProjectId,
    /// One copy of its project object, if this copy can be read: the first one, or,
    /// after [`read_copies`](Self::read_copies), the second one.
    pub(super) object: Option<Vec<u8>>,
    pub(super) settings: Vec<FoundSettings>,
}

impl FoundProject {
    /// Reads the project object and the settings of a project. `projects` is the number of projects
    /// in the repository, which share the memory for settings.
    pub(super) fn read(
        objects: &Objects,
        id: ProjectId,
        projects: usize,
    ) -> Result<Self, RepoError> {
        let memory = settings::memory_of_each(projects);
        let name = ObjectRef::Project(id).name();
        let (object, settings) = join(
            || objects.get_copy(&name, ProjectObject::LEN as u64),
            || settings::find(objects, id, memory),
        )?;
        Ok(Self {
            id,
            object: object?,
            settings: settings?,
        })
    }

    /// Reads the second copies of the same objects. `projects` is as in [`read`](Self::read).
    pub(super) fn read_copies(
        &self,
        objects: &Objects,
        projects: usize,
    ) -> Result<Self, RepoError> {
        let memory = settings::memory_of_each(projects);
        let name = ObjectRef::Project(self.id).copy_name();
        let (object, settings) = join(
            || objects.get_copy(&name, ProjectObject::LEN as u64),
            || settings::read_copies(objects, self.id, &self.settings, memory),
        )?;
        Ok(Self {
            id: self.id,
            object: object?,
            settings: settings?,
        })
    }

    /// Returns whether the project object is signed by these keys. Reads nothing from the store.
    pub(super) fn is_signed_by(&self, keys: &ProjectKeys) -> bool {
        let object = self.object.as_deref();
        let stored = object.and_then(|bytes| ProjectObject::decode(bytes).ok());
        stored.is_some_and(|stored| verify_object(self.id, &stored, keys).is_ok())
    }

    /// Returns whether the keys of a project open its settings. Reads nothing from the store.
    pub(super) fn has_settings_of(&self, project: &Project) -> bool {
        self.settings.iter().any(|(hash, bytes)| {
            let object = ObjectRef::Settings(self.id, *hash);
            let open = |bytes: &[u8]| settings::open(project, object, *hash, bytes);
            bytes.as_deref().is_some_and(|bytes| open(bytes).is_ok())
        })
    }
}

impl Repository {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.file.id
    }

    /// Returns the objects in its store.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Opens the project of this name. If there is none, and a project cannot be opened, fails with
    /// the error of that project, since it may have this name.
    pub fn project(&self, name: &str, observer: &dyn Observer) -> Result<Project, RepoError> {
        let mut known = Vec::new();
        let mut broken = None;
        for found in &self.projects {
            match self.open_project(found, observer) {
                Ok(Some(project)) if project.settings.name == name => return Ok(project),
                Ok(Some(project)) => known.push(project.settings.name.clone()),
                Ok(None) => {}
                Err(e) if is_of_one_project(&e) => broken = Some(e),
                Err(e) => return Err(e),
            }
        }
        known.sort_unstable();
        Err(broken.unwrap_or(RepoError::NoProject {
            name: name.to_owned(),
            known,
        }))
    }

    /// Opens a project. Returns `None` if the key is for another project, or if there is no project
    /// object.
    pub(super) fn open_project(
        &self,
        found: &FoundProject,
        observer: &dyn Observer,
    ) -> Result<Option<Project>, RepoError> {
        let id = found.id;
        if matches!(&self.unlocked, Unlocked::Project { project, .. } if *project != id) {
            return Ok(None);
        }
        let object = ObjectRef::Project(id);
        let limit = ProjectObject::LEN as u64;
        let decode = |bytes: &[u8]| self.decode_project(id, bytes);
        let opened = match found.object.as_deref().map(decode) {
            Some(Ok(opened)) => Ok(opened),
            _ => self.objects.get_twice(object, limit, observer, decode),
        };
        let (keys, secret) = match opened {
            // If two `init` run at the same time, one of them fails and leaves a directory without
            // a project object.
            Err(e) if e.is_missing() => return Ok(None),
            other => other?,
        };
        let objects = self.objects.clone();
        let mut project = Project::without_settings(id, self.file.id, keys, secret, objects);
        let settings = settings::newest(&project, &found.settings, observer)?;
        project.chunk_size = ChunkSize::new(settings.chunk_size)
            .ok_or_else(|| RepoError::format(object, FormatError::BadValue("chunk_size")))?;
        project.objects = project.objects.with_parity(settings.parity_rate());
        project.settings = Arc::new(settings);
        Ok(Some(project))
    }

    /// Opens a project object. Returns the keys of the project, and its secret if the role of the
    /// key is full.
    fn decode_project(
        &self,
        id: ProjectId,
        bytes: &[u8],
    ) -> Result<(Arc<ProjectKeys>, Option<Secret>), RepoError> {
        let object = ObjectRef::Project(id);
        let stored = ProjectObject::decode(bytes).map_err(|e| RepoError::format(object, e))?;
        let (keys, secret) = match &self.unlocked {
            Unlocked::Project { keys, secret, .. } => (Arc::clone(keys), secret.clone()),
            Unlocked::Repository { keys, .. } => {
                let secret = open_secret(keys, id, &stored)?;
                (Arc::new(ProjectKeys::full(&secret)), Some(secret))
            }
        };
        verify_object(id, &stored, &keys)?;
        let newer = |e| RepoError::format(object, e);
        stored.header.check().map_err(newer)?;
        Ok((keys, secret))
    }

    /// Reads one copy of an object that is kept twice, of this project or of the repository. Fails
    /// if this copy is damaged or foreign. Without a key of the repository, does not verify the MAC
    /// of the repository file.
    pub fn verify_copy(
        &self,
        project: &Project,
        object: ObjectRef,
        name: &Name,
    ) -> Result<(), RepoError> {
        let limit = KeySlot::LEN_MAX.max(SealedObject::len_max(Certificate::BODY_MAX) as u64);
        let bytes = self
            .objects
            .backend()
            .get(name, limit)
            .map_err(|e| RepoError::reading(object, e))?;
        match object {
            ObjectRef::Repository => {
                let (file, mac) = decode_file(&bytes)?;
                match &self.unlocked {
                    Unlocked::Repository { keys, .. }
                        if !crypto::same(&keys.file_mac(&file.fields()), &mac) =>
                    {
                        Err(foreign_file())
                    }
                    _ => Ok(()),
                }
            }
            ObjectRef::Key(_, hash) => keys::verify_slot(object, hash, &bytes),
            ObjectRef::Project(id) => self.decode_project(id, &bytes).map(|_| ()),
            ObjectRef::Settings(_, hash) | ObjectRef::Certificate(_, hash) => {
                copy_is_whole(project, object, hash, &bytes)
            }
            ObjectRef::Pack(..)
            | ObjectRef::Tree(..)
            | ObjectRef::Index(..)
            | ObjectRef::Backup(..)
            | ObjectRef::Void(..)
            | ObjectRef::Log(..)
            | ObjectRef::Lease(..)
            | ObjectRef::Mark(..)
            | ObjectRef::Audit(..)
            | ObjectRef::Ledger(..)
            | ObjectRef::Batch(..)
            | ObjectRef::Parity(..) => Ok(()),
        }
    }
}

/// Fails if a copy of a sealed object is damaged or foreign.
fn copy_is_whole(
    project: &Project,
    object: ObjectRef,
    hash: ObjectHash,
    bytes: &[u8],
) -> Result<(), RepoError> {
    let opened = project.open_hashed(object, hash, bytes, Certificate::BODY_MAX);
    opened.map(|_| ())
}

/// Fails unless a project object has the public keys that belong to `keys`, and a valid signature.
fn verify_object(
    id: ProjectId,
    stored: &ProjectObject,
    keys: &ProjectKeys,
) -> Result<(), RepoError> {
    let object = ObjectRef::Project(id);
    let other_data_key =
        (keys.data_public_key()).is_ok_and(|key| key.as_bytes() != &*stored.data_key);
    if stored.authority != *keys.authority() || other_data_key {
        let why = Damage::Impossible("it has other public keys than the key in use");
        return Err(RepoError::damaged(object, why));
    }
    // The public key in `keys` comes from the project's secret or from a key slot, not from the
    // project object.
    verify_signature_of(id, stored, keys.authority())
}

/// Verifies the signature of a project object with this public key.
pub(super) fn verify_signature_of(
    project: ProjectId,
    stored: &ProjectObject,
    authority: &SignerId,
) -> Result<(), RepoError> {
    let verified = verify_signature(
        authority,
        project,
        stored.header.as_bytes(),
        &[&stored.signed_part()],
        &stored.signature,
    );
    let why = Damage::Impossible("its signature is not valid");
    verified.map_err(|_| RepoError::damaged(ObjectRef::Project(project), why))
}

/// Opens the secret of a project with the keys of the repository.
fn open_secret(
    keys: &RepositoryKeys,
    id: ProjectId,
    stored: &ProjectObject,
) -> Result<Secret, RepoError> {
    let aad = [&id.as_bytes()[..], stored.header.as_bytes()].concat();
    let nonce = SealNonce::from_bytes(stored.nonce);
    let opened = keys
        .project_wrap()
        .open(&nonce, &aad, &stored.sealed_secret)
        .map_err(|e| RepoError::damaged(ObjectRef::Project(id), Damage::DoesNotOpen(e)))?;
    let opened = Zeroizing::new(opened);
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&opened);
    Ok(Secret::new(*secret))
}

/// Returns whether this error of opening a project says nothing about other projects.
fn is_of_one_project(error: &RepoError) -> bool {
    match error {
        RepoError::Damaged { .. }
        | RepoError::Unsupported { .. }
        | RepoError::NoSettings { .. } => true,
        RepoError::Storage(error) => error.kind.class() == StorageErrorClass::Denied,
        _ => false,
    }
}

/// Decodes a repository file and its MAC. The MAC is not verified.
pub(super) fn decode_file(bytes: &[u8]) -> Result<(RepositoryFile, [u8; 32]), RepoError> {
    RepositoryFile::decode(bytes, |b| crypto::hash(&[b]))
        .map_err(|e| RepoError::format(ObjectRef::Repository, e))
}

/// Returns the error for a repository file whose MAC does not fit the unlocked key.
pub(super) fn foreign_file() -> RepoError {
    let why = Damage::Impossible("it was not made with the key that opens this repository");
    RepoError::damaged(ObjectRef::Repository, why)
}

/// Lists the projects that have a directory in the store, in ascending order of their ids.
pub(super) fn project_ids(objects: &Objects) -> Result<Vec<ProjectId>, RepoError> {
    let mut ids: Vec<ProjectId> = objects
        .backend()
        .directories("projects")?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids)
}
