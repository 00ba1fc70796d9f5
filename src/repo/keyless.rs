//! Verifies objects without a key: their hashes, the signature of a project object, and the
//! checksum of the repository file.

use super::error::{Damage, RepoError};
use super::object_ref::ObjectRef;
use super::objects::Objects;
use super::repository::{decode_file, project_ids, verify_signature_of};
use crate::base::{Cancel, ObjectHash, Observer, ProjectId, SignerId};
use crate::crypto::ObjectHasher;
use crate::format::{PACK_SIZE_MAX, ProjectObject, RepositoryFile};
use crate::storage::{Name, StorageError, StorageErrorClass};

/// The number of bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Lists the projects in a store.
pub fn projects(objects: &Objects) -> Result<Vec<ProjectId>, RepoError> {
    project_ids(objects)
}

/// Reads the file with this name and size, which is `object` or its second copy. Verifies all that
/// can be verified without a key. Fails with [`RepoError::Damaged`] if the file is not whole.
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

/// Returns the public key that signs for the full keys of a project, as the project's object states
/// it.
pub fn authority(
    objects: &Objects,
    project: ProjectId,
    observer: &dyn Observer,
) -> Result<SignerId, RepoError> {
    let object = ObjectRef::Project(project);
    let decode = |bytes: &[u8]| authority_of(project, bytes);
    objects.get_twice(object, ProjectObject::LEN as u64, observer, decode)
}

/// Decodes a project object, and verifies its signature with the public key in it.
fn authority_of(project: ProjectId, bytes: &[u8]) -> Result<SignerId, RepoError> {
    let object = ObjectRef::Project(project);
    let stored = ProjectObject::decode(bytes).map_err(|e| RepoError::format(object, e))?;
    verify_signature_of(project, &stored, &stored.authority)?;
    Ok(stored.authority)
}
