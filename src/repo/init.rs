//! Creates a repository with its first key and project: sections 4 to 6 of `docs/format.md`.

use std::sync::Arc;

use super::error::RepoError;
use super::keys::{self, KeyScope, NewKey};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::repository::{Repository, Unlocked};
use crate::base::{ChunkSize, ProjectId, RepositoryId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys, Secret, random};
use crate::format::{ProjectObject, ProjectSettings, RepositoryFile};
use crate::storage::{Backend, StorageErrorKind};

/// Options of a new repository.
#[derive(Debug)]
pub struct InitOptions<'a> {
    /// The first key.
    pub key: NewKey<'a>,
    /// The name of the first project.
    pub project: &'a str,
    /// Its chunk size.
    pub chunk_size: ChunkSize,
    /// The current time, in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// The current time, in RFC 3339.
    pub created_text: String,
}

impl Repository {
    /// Creates a repository. The repository file is stored last, and only if there is none: a crash
    /// before that leaves no repository, and of two processes that try at the same time one
    /// succeeds.
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
            unlocked: Unlocked::Repository { secret, keys },
            key_id,
            projects: vec![(project, None)],
        })
    }
}

/// Stores the project object of a new project.
fn store_project(
    objects: &Objects,
    keys: &RepositoryKeys,
    options: &InitOptions<'_>,
) -> Result<ProjectId, RepoError> {
    let id = ProjectId::from_bytes(random()?);
    let secret = Secret::random()?;
    let settings = ProjectSettings {
        name: options.project.to_owned(),
        created: options.created_text.clone(),
        chunk_size: options.chunk_size.bytes().into(),
        requires: Vec::new(),
    };
    let aad = [&id.as_bytes()[..], &ProjectObject::secret_context()].concat();
    let (nonce, sealed) = keys.project_wrap().seal(&aad, secret.expose())?;
    let mut sealed_secret = [0; 48];
    sealed_secret.copy_from_slice(&sealed);
    let mut object = ProjectObject {
        nonce: *nonce.as_bytes(),
        sealed_secret,
        settings_nonce: [0; 24],
        sealed_settings: Vec::new(),
    };
    let aad = [&id.as_bytes()[..], &object.settings_context()].concat();
    let (nonce, sealed) = ProjectKeys::full(&secret)
        .object()
        .seal(&aad, &settings.encode())?;
    object.settings_nonce = *nonce.as_bytes();
    object.sealed_settings = sealed;
    objects.put_twice(ObjectRef::Project(id), &object.encode())?;
    Ok(id)
}
