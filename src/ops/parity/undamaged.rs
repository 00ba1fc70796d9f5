//! Makes or reads the undamaged bytes of an object.

use super::unnamed;
use crate::format::PACK_SIZE_MAX;
use crate::ops::error::OpsError;
use crate::repo::{self, ObjectRef, Objects, RepoError, read_damaged};
use crate::storage::Name;

/// Returns the bytes of an object; `None` if this parity object cannot restore them.
pub(super) fn restore(
    objects: &Objects,
    object: ObjectRef,
    parity: ObjectRef,
) -> Result<Option<repo::Restored>, OpsError> {
    let Some(parity_bytes) = read_damaged(objects.backend(), &parity.name(), PACK_SIZE_MAX)? else {
        return Ok(None);
    };
    let mut copies = Vec::new();
    for name in names(object) {
        // Limit the length: a file that was extended may be longer than an object can be.
        copies.extend(read_damaged(objects.backend(), &name, PACK_SIZE_MAX)?);
    }
    let copies: Vec<_> = copies.iter().map(|copy| &copy[..]).collect();
    let ObjectRef::Parity(_, of, _) = parity else {
        return Ok(None);
    };
    let restored = repo::restore(&copies, &parity_bytes, of)?;
    Ok(restored.filter(|restored| {
        let named = object.hash().is_none_or(|hash| hash == of);
        named && repo::verify_unnamed(object, &restored.bytes).is_ok()
    }))
}

/// Returns the bytes of a damaged parity object, made from the object that it protects. Returns
/// `None` if that object is damaged or of a newer version, or if the bytes do not have the hash
/// that names the parity object.
pub(super) fn rebuild(
    objects: &Objects,
    parity: ObjectRef,
    protected: ObjectRef,
) -> Result<Option<Vec<u8>>, OpsError> {
    let ObjectRef::Parity(_, of, name) = parity else {
        return Ok(None);
    };
    let damaged =
        read_damaged(objects.backend(), &parity.name(), PACK_SIZE_MAX)?.unwrap_or_default();
    let bytes = match repo::read_verified(objects, protected, PACK_SIZE_MAX) {
        Ok(bytes) => bytes,
        Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(repo::rebuild(protected.kind(), of, &bytes, &damaged, name))
}

/// Returns the bytes of an object from `replica`, the other copy of the repository. `None` if the
/// object is missing or damaged there, or if there is no other copy.
pub(super) fn fetch(
    replica: Option<&Objects>,
    object: ObjectRef,
) -> Result<Option<Vec<u8>>, OpsError> {
    let Some(replica) = replica else {
        return Ok(None);
    };
    if object.hash().is_none() {
        return unnamed::genuine(replica, object, None);
    }
    match repo::read_verified(replica, object, PACK_SIZE_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the names of the files of an object.
pub(super) fn names(object: ObjectRef) -> Vec<Name> {
    if object.kind().info().kept_twice {
        vec![object.name(), object.copy_name()]
    } else {
        vec![object.name()]
    }
}

/// Returns the bytes of a whole copy of an object that is kept twice. Returns `None` if no copy is
/// whole, or if the whole copy may be of another repository.
pub(super) fn read_copy(
    objects: &Objects,
    object: ObjectRef,
    replica: Option<&Objects>,
) -> Result<Option<Vec<u8>>, OpsError> {
    if object.hash().is_none() {
        return unnamed::genuine(objects, object, replica);
    }
    match repo::read_verified(objects, object, PACK_SIZE_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::RepositoryId;
    use crate::crypto::{hash, object_hash};
    use crate::format::RepositoryFile;
    use crate::storage::{Backend, MemoryBackend};

    #[test]
    fn no_parity_is_made_from_an_object_of_a_newer_version_and_that_is_no_error() {
        let file = RepositoryFile {
            id: RepositoryId::from_bytes([1; 16]),
            created: 0,
        };
        let mut bytes = file.encode(&[0; 32], |bytes| hash(&[bytes]));
        bytes[8] += 1;
        let hashed = bytes.len() - 32;
        let sum = hash(&[&bytes[..hashed]]);
        bytes[hashed..].copy_from_slice(&sum);
        let backend = MemoryBackend::new();
        let object = ObjectRef::Repository;
        for name in names(object) {
            backend.put(&name, &[&bytes]).unwrap();
        }
        let objects = Objects::new(Arc::new(backend));
        let read = repo::read_verified(&objects, object, PACK_SIZE_MAX);
        assert!(matches!(read, Err(RepoError::Unsupported { .. })));
        let of = object_hash(&[&bytes]);
        let parity = ObjectRef::Parity(None, of, object_hash(&[]));
        assert_eq!(rebuild(&objects, parity, object).unwrap(), None);
    }
}
