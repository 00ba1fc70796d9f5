//! Verifies objects without a key: their hashes, the signature of a project object, and the
//! checksum of the repository file.

use super::error::{Damage, RepoError};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::repository::{decode_file, project_ids, verify_signature_of};
use crate::base::{Cancel, ObjectHash, Observer, ProjectId, RepositoryId, SignerId, Silent};
use crate::crypto::{ObjectHasher, object_hash};
use crate::format::{PACK_SIZE_MAX, ProjectObject, RepositoryFile};
use crate::storage::{Name, StorageError, StorageErrorClass, StorageErrorKind};

/// The number of bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Verifies the bytes of the repository file or of a project object, which are not named by a hash.
/// Fails if the bytes are not a valid object of this kind. Accepts all bytes of other objects.
pub fn verify_unnamed(object: ObjectRef, bytes: &[u8]) -> Result<(), RepoError> {
    match object {
        ObjectRef::Repository => decode_file(bytes).map(|_| ()),
        ObjectRef::Project(id) => authority_of(id, bytes).map(|_| ()),
        _ => Ok(()),
    }
}

/// Verifies all of an object's bytes that can be verified without a key.
fn verify_bytes(object: ObjectRef, bytes: &[u8]) -> Result<(), RepoError> {
    verify_unnamed(object, bytes)?;
    match object.hash() {
        Some(hash) if hash != object_hash(&[bytes]) => {
            Err(RepoError::damaged(object, Damage::WrongHash))
        }
        _ => Ok(()),
    }
}

/// Lists the projects in a store, in ascending order of their ids. A directory that has no objects
/// and never had a backup does not count: a local store keeps the directories of deleted objects,
/// also those of the loser of a race of two `init`.
pub fn projects(objects: &Objects) -> Result<Vec<ProjectId>, RepoError> {
    let mut projects = Vec::new();
    for id in project_ids(objects)? {
        let object = ObjectRef::Project(id);
        let is_missing = match objects.backend().size(&object.name()) {
            Err(error) => error.kind == StorageErrorKind::NotFound,
            Ok(_) => false,
        };
        let directory = object.directory();
        let had_backups = || -> Result<bool, RepoError> {
            let names = objects.backend().directories(&directory)?;
            let mut used = names.iter().map(String::as_str);
            Ok(used.any(|name| ["backups", "log", "packs", "trees"].contains(&name)))
        };
        if !is_missing || had_backups()? || !objects.list(&directory)?.is_empty() {
            projects.push(id);
        }
    }
    Ok(projects)
}

/// Returns the id of the repository in a store, from either copy of the repository file.
pub fn repository_id(objects: &Objects) -> Result<RepositoryId, RepoError> {
    let object = ObjectRef::Repository;
    let decode = |bytes: &[u8]| decode_file(bytes).map(|(file, _)| file.id);
    let limit = RepositoryFile::LEN as u64;
    match objects.get_twice(object, limit, &Silent, decode) {
        Err(error) if error.is_missing() => {
            let location = objects.location().to_owned();
            Err(RepoError::NoRepository { location })
        }
        found => found,
    }
}

/// Returns the ids that the undamaged copies of the repository file state. They may differ.
pub fn repository_ids(objects: &Objects) -> Result<Vec<RepositoryId>, RepoError> {
    let limit = RepositoryFile::LEN as u64;
    let mut ids = Vec::new();
    for name in [
        ObjectRef::Repository.name(),
        ObjectRef::Repository.copy_name(),
    ] {
        let bytes = objects.get_copy(&name, limit)?;
        let decoded = bytes.and_then(|bytes| decode_file(&bytes).ok());
        ids.extend(decoded.map(|(file, _)| file.id));
    }
    Ok(ids)
}

/// Reads the file with this name and size in bytes. The file must be `object` or its second copy.
/// Verifies all that can be verified without a key. Fails with [`RepoError::Damaged`] if the file
/// is damaged or missing, or if this process has no permission to read it.
pub fn verify_stored(
    objects: &Objects,
    object: ObjectRef,
    name: &Name,
    size: u64,
    cancel: &Cancel,
) -> Result<(), RepoError> {
    let whole = |limit| {
        let read = objects.backend().get(name, limit);
        read.map_err(|error| unreadable(object, error))
    };
    match (object, object.hash()) {
        (ObjectRef::Repository, _) => decode_file(&whole(RepositoryFile::LEN as u64)?).map(|_| ()),
        (ObjectRef::Project(id), _) => {
            authority_of(id, &whole(ProjectObject::LEN as u64)?).map(|_| ())
        }
        (_, Some(hash)) => verify_hash(objects, object, name, hash, size, cancel),
        (_, None) => Ok(()),
    }
}

/// Reads the file with this name and size in bytes. The file must be `object` or its second copy.
/// If the object has no file, reads the object from a batch (one file with many small objects).
/// Verifies the bytes like [`verify_stored`], and returns them.
pub fn read_stored(
    objects: &Objects,
    object: ObjectRef,
    name: &Name,
    size: u64,
) -> Result<Vec<u8>, RepoError> {
    if size > PACK_SIZE_MAX {
        return Err(RepoError::damaged(object, Damage::TooLarge));
    }
    let bytes = match objects.backend().get(name, size) {
        Ok(bytes) => bytes,
        // The object may be in a batch.
        Err(error) if error.kind == StorageErrorKind::NotFound && *name == object.name() => {
            objects.get(object, size)?
        }
        Err(error) => return Err(unreadable(object, error)),
    };
    verify_bytes(object, &bytes)?;
    Ok(bytes)
}

fn verify_hash(
    objects: &Objects,
    object: ObjectRef,
    name: &Name,
    hash: ObjectHash,
    size: u64,
    cancel: &Cancel,
) -> Result<(), RepoError> {
    if size > PACK_SIZE_MAX {
        return Err(RepoError::damaged(object, Damage::TooLarge));
    }
    let mut hasher = ObjectHasher::default();
    let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut offset = 0;
    while offset < size {
        cancel.check()?;
        let len = buffer
            .len()
            .min(usize::try_from(size - offset).unwrap_or(PIECE));
        let piece = &mut buffer[..len];
        let read = objects.backend().get_range(name, offset, piece);
        read.map_err(|error| unreadable(object, error))?;
        hasher.update(piece);
        offset += len as u64;
    }
    if hasher.name() == hash {
        Ok(())
    } else {
        Err(RepoError::damaged(object, Damage::WrongHash))
    }
}

/// Converts an error of the store. A file that this process has no permission to read counts as
/// damaged, since the process cannot verify that it is whole. So the check continues with the other
/// files.
fn unreadable(object: ObjectRef, error: StorageError) -> RepoError {
    if error.kind.class() == StorageErrorClass::Denied {
        RepoError::damaged(object, Damage::Unreadable(Box::new(error)))
    } else {
        RepoError::reading(object, error)
    }
}

/// Returns the public key of a project, as the project's object states it. Full keys sign with the
/// matching private key.
pub fn authority(
    objects: &Objects,
    project: ProjectId,
    observer: &dyn Observer,
) -> Result<SignerId, RepoError> {
    let object = ObjectRef::Project(project);
    let decode = |bytes: &[u8]| authority_of(project, bytes);
    objects.get_twice(object, ProjectObject::LEN as u64, observer, decode)
}

/// Reads an object of at most `limit` bytes, and verifies all that can be verified without a key.
/// If the object is kept twice, returns an undamaged copy.
pub fn read_verified(
    objects: &Objects,
    object: ObjectRef,
    limit: u64,
) -> Result<Vec<u8>, RepoError> {
    let decode = |bytes: &[u8]| {
        verify_bytes(object, bytes)?;
        Ok(bytes.to_vec())
    };
    if object.kind().info().kept_twice {
        return objects.get_twice(object, limit, &Silent, decode);
    }
    decode(&objects.get(object, limit)?)
}

impl Objects {
    /// Returns the hash of the bytes of an undamaged copy of the repository file or of a project
    /// object, whose names are no hashes.
    pub fn hash_of_unnamed(&self, object: ObjectRef) -> Result<ObjectHash, RepoError> {
        let limit = (RepositoryFile::LEN).max(ProjectObject::LEN) as u64;
        let bytes = read_verified(self, object, limit)?;
        Ok(object_hash(&[&bytes]))
    }
}

/// Decodes a project object, and verifies its signature with the public key in it. Returns this
/// key.
pub fn authority_of(project: ProjectId, bytes: &[u8]) -> Result<SignerId, RepoError> {
    let object = ObjectRef::Project(project);
    let stored = ProjectObject::decode(bytes).map_err(|e| RepoError::format(object, e))?;
    verify_signature_of(project, &stored, &stored.authority)?;
    Ok(stored.authority)
}
