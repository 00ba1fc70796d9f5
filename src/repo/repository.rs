//! An open repository, and how its projects are opened: sections 4 and 6 of `docs/format.md`.

use std::sync::Arc;

use super::error::{Damage, RepoError};
use super::keys;
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::project::Project;
use super::signers::Signers;
use crate::base::{ChunkSize, ObjectHash, Observer, ProjectId, RepositoryId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys, SealNonce, Secret};
use crate::format::{FormatError, KeySlot, ProjectObject, ProjectSettings, RepositoryFile};
use crate::storage::Name;

/// An open repository: a password has unlocked it, or one of its projects.
pub struct Repository {
    pub(super) objects: Objects,
    pub(super) file: RepositoryFile,
    pub(super) unlocked: Unlocked,
    /// The key slot that the password unlocked.
    pub(super) key_id: ObjectHash,
    /// The projects that existed when it was opened.
    pub(super) projects: Vec<FoundProject>,
}

/// The scope that the password unlocked.
pub(super) enum Unlocked {
    /// The repository with all its projects.
    Repository {
        secret: Secret,
        keys: RepositoryKeys,
    },
    /// One project.
    Project { project: ProjectId, secret: Secret },
}

/// A project in the store, and the bytes of its project object if its first copy can be read.
pub(super) type FoundProject = (ProjectId, Option<Vec<u8>>);

impl Repository {
    /// Its id.
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

    /// Opens the project with this id. Returns `None` if the key is for another project. `read` are
    /// the bytes of its project object, if they were read already.
    pub(super) fn open_project(
        &self,
        id: ProjectId,
        read: Option<&[u8]>,
        observer: &dyn Observer,
    ) -> Result<Option<Project>, RepoError> {
        if matches!(&self.unlocked, Unlocked::Project { project, .. } if *project != id) {
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
            // An `init` that lost a race leaves a directory without a project object.
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
            signers: Arc::new(Signers::authority_only(&keys)),
            keys: Arc::new(keys),
            objects,
            secret,
        }))
    }

    /// Opens a project object: the secret, keys and settings of the project.
    fn decode_project(
        &self,
        id: ProjectId,
        bytes: &[u8],
    ) -> Result<(Secret, ProjectKeys, ProjectSettings), RepoError> {
        let object = ObjectRef::Project(id);
        let sealed = ProjectObject::decode(bytes).map_err(|e| RepoError::format(object, e))?;
        let damaged = |e| RepoError::damaged(object, Damage::DoesNotOpen(e));
        let secret = match &self.unlocked {
            Unlocked::Project { secret, .. } => secret.clone(),
            Unlocked::Repository { keys, .. } => {
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
        let keys = ProjectKeys::full(&secret);
        let aad = [&id.as_bytes()[..], &sealed.settings_context()].concat();
        let nonce = SealNonce::from_bytes(sealed.settings_nonce);
        let plain = keys
            .object()
            .open(&nonce, &aad, &sealed.sealed_settings)
            .map_err(damaged)?;
        let settings = ProjectSettings::decode(&plain).map_err(|e| RepoError::format(object, e))?;
        Ok((secret, keys, settings))
    }

    /// Reads one copy of an object that is kept twice. Fails if it is damaged.
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
                match &self.unlocked {
                    Unlocked::Repository { keys, .. }
                        if !crypto::same(&keys.file_mac(&file.fields()), &mac) =>
                    {
                        Err(foreign_file())
                    }
                    _ => Ok(()),
                }
            }
            ObjectRef::Key(_, hash) => keys::decode_slot(object, hash, &bytes).map(|_| ()),
            ObjectRef::Project(id) => self.decode_project(id, &bytes).map(|_| ()),
            ObjectRef::Settings(..)
            | ObjectRef::Certificate(..)
            | ObjectRef::Pack(..)
            | ObjectRef::Tree(..)
            | ObjectRef::Index(..)
            | ObjectRef::Backup(..)
            | ObjectRef::Void(..)
            | ObjectRef::Log(..)
            | ObjectRef::Lease(..)
            | ObjectRef::Mark(..)
            | ObjectRef::Audit(..) => Ok(()),
        }
    }
}

/// Decodes a repository file and its MAC. The MAC is not verified.
pub(super) fn decode_file(bytes: &[u8]) -> Result<(RepositoryFile, [u8; 32]), RepoError> {
    RepositoryFile::decode(bytes, |b| crypto::hash(&[b]))
        .map_err(|e| RepoError::format(ObjectRef::Repository, e))
}

/// The damage of a repository file whose MAC the unlocked key did not make.
pub(super) fn foreign_file() -> RepoError {
    let why = Damage::Impossible("it was not made with the key that opens this repository");
    RepoError::damaged(ObjectRef::Repository, why)
}

/// Lists the projects in the store.
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
