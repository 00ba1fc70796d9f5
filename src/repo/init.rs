//! Creates a repository with its first key and project: sections 4 to 6 and 15 of `docs/format.md`.

use std::sync::Arc;

use super::error::RepoError;
use super::keys::{self, Bundle, KeyScope, NewKey};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::project::Project;
use super::repository::{FoundProject, Repository, Unlocked};
use crate::base::{ChunkSize, ObjectHash, ParityRate, ProjectId, RepositoryId};
use crate::crypto::{self, ProjectKeys, RepositoryKeys, Secret, random};
use crate::format::{Header, Magic, ProjectObject, ProjectSettings, RepositoryFile};
use crate::storage::{Backend, StorageErrorKind};

/// Options of a new repository.
#[derive(Debug)]
pub struct InitOptions<'a> {
    /// The first key.
    pub key: NewKey<'a>,
    /// The name of the first project.
    pub project: &'a str,
    /// The chunk size of this project.
    pub chunk_size: ChunkSize,
    /// The parity that is stored with each object; `None`: no parity.
    pub parity: Option<ParityRate>,
    /// The current time, in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// The current time, in RFC 3339.
    pub created_text: String,
}

impl Repository {
    /// Creates a repository. Stores the repository file after all other objects, and only if no
    /// such file exists. Then stores its copy. After a crash before the file is stored, there is no
    /// repository. If two processes try at the same time, only one succeeds.
    pub fn init(backend: Arc<dyn Backend>, options: &InitOptions<'_>) -> Result<Self, RepoError> {
        let objects = Objects::new(backend).with_parity(options.parity);
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
        let bundle = Bundle::Repository(secret.clone());
        let (key_id, slot) = keys::make_slot(
            KeyScope::Repository,
            &bundle,
            keys.slot_info(),
            &options.key,
        )?;
        let key = KeyScope::Repository.object(key_id);
        objects.put_twice(key, &slot)?;
        let file = RepositoryFile {
            id: RepositoryId::from_bytes(random()?),
            created: options.created,
        };
        let (project, settings) = store_project(&objects, file.id, &keys, options)?;

        let bytes = file.encode(&keys.file_mac(&file.fields()), |b| crypto::hash(&[b]));
        objects.protect(ObjectRef::Repository, &[&bytes])?;
        match objects
            .backend()
            .put_new(&ObjectRef::Repository.name(), &[&bytes])
        {
            Ok(()) => {}
            Err(e) if e.kind == StorageErrorKind::Exists => {
                objects.delete_parity(None, crypto::object_hash(&[&bytes]))?;
                objects.delete_twice(key)?;
                delete_project(&objects, project)?;
                return Err(RepoError::RepositoryExists {
                    location: objects.location().into(),
                });
            }
            Err(e) => return Err(e.into()),
        }
        objects
            .backend()
            .put(&ObjectRef::Repository.copy_name(), &[&bytes])?;
        let projects = vec![FoundProject {
            id: project,
            object: None,
            settings: vec![(settings, None)],
        }];
        Ok(Self {
            objects,
            file,
            unlocked: Unlocked::Repository { secret, keys },
            key_id,
            projects,
        })
    }
}

/// Deletes all objects of a project that has no backup yet: parity first, so that no repair
/// restores the others if the process is killed.
fn delete_project(objects: &Objects, project: ProjectId) -> Result<(), RepoError> {
    let mut listed = objects.list(&ObjectRef::Project(project).directory())?;
    listed.sort_by_key(|(object, ..)| !matches!(object, ObjectRef::Parity(..)));
    for (_, _, file) in listed {
        objects.delete_name(&file.name)?;
    }
    Ok(())
}

/// Stores the settings and the project object of a new project. Returns its id and the hash of the
/// settings.
fn store_project(
    objects: &Objects,
    repository: RepositoryId,
    keys: &RepositoryKeys,
    options: &InitOptions<'_>,
) -> Result<(ProjectId, ObjectHash), RepoError> {
    let id = ProjectId::from_bytes(random()?);
    let secret = Secret::random()?;
    let project_keys = Arc::new(ProjectKeys::full(&secret));
    let project = Project::without_settings(
        id,
        repository,
        Arc::clone(&project_keys),
        Some(secret.clone()),
        objects.clone(),
    );
    let settings = project.put(&ProjectSettings {
        requires: Vec::new(),
        revision: 1,
        name: options.project.to_owned(),
        created: options.created_text.clone(),
        chunk_size: options.chunk_size.bytes().into(),
        trust: None,
        parity: options.parity.map(|rate| rate.percent().into()),
        retired: None,
    })?;
    let header = Header::of(Magic::Project);
    let aad = [&id.as_bytes()[..], header.as_bytes()].concat();
    let (nonce, sealed) = keys.project_wrap().seal(&aad, secret.expose())?;
    let mut sealed_secret = [0; 48];
    sealed_secret.copy_from_slice(&sealed);
    let mut object = ProjectObject {
        header,
        nonce: *nonce.as_bytes(),
        sealed_secret,
        authority: *project_keys.authority(),
        data_key: Box::new(*project_keys.data_public_key()?.as_bytes()),
        signature: [0; 64],
    };
    let signed = object.signed_part();
    object.signature = project_keys
        .signing()
        .sign(id, header.as_bytes(), &[&signed]);
    objects.put_twice(ObjectRef::Project(id), &object.encode())?;
    Ok((id, settings))
}
