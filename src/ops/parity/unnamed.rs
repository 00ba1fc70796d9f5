//! Decides which bytes of the repository file or of a project object are genuine. The names of
//! these objects are not hashes, so a file that is whole can be of another repository.

use crate::crypto::object_hash;
use crate::format::{ProjectObject, RepositoryFile};
use crate::ops::error::OpsError;
use crate::repo::{self, ObjectRef, Objects, RepoError, protects, read_damaged};

/// The parity of the repository file or of a project object has at most this many bytes.
const PARITY_LEN_MAX: u64 = 64 << 10;

/// Returns the contents of the copies that are whole: none, one, or two that differ.
pub(super) fn whole_copies(objects: &Objects, object: ObjectRef) -> Result<Vec<Vec<u8>>, OpsError> {
    let limit = RepositoryFile::LEN.max(ProjectObject::LEN) as u64;
    let mut found = Vec::new();
    for name in [object.name(), object.copy_name()] {
        match repo::read_stored(objects, object, &name, limit) {
            Ok(bytes) if found.contains(&bytes) => {}
            Ok(bytes) => found.push(bytes),
            Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Returns the genuine content: that of a whole copy which agrees with parity or with `replica`,
/// another copy of the repository. If neither states a content, all whole copies count. Returns
/// `None` if no copy is left, or if two are left that differ.
pub(super) fn genuine(
    objects: &Objects,
    object: ObjectRef,
    replica: Option<&Objects>,
) -> Result<Option<Vec<u8>>, OpsError> {
    let mut copies = whole_copies(objects, object)?;
    let mut known = Vec::new();
    for parity in parity_objects(objects, object)? {
        if let ObjectRef::Parity(_, of, _) = parity {
            known.push(of);
        }
    }
    if let Some(replica) = replica
        && let [only] = &whole_copies(replica, object)?[..]
    {
        known.push(object_hash(&[only]));
    }
    if !known.is_empty() {
        copies.retain(|bytes| known.contains(&object_hash(&[bytes])));
    }
    Ok(match copies.len() {
        1 => copies.pop(),
        _ => None,
    })
}

/// Returns the parity objects of the repository file or of a project object. They may be made from
/// different contents.
pub(super) fn parity_objects(
    objects: &Objects,
    object: ObjectRef,
) -> Result<Vec<ObjectRef>, OpsError> {
    let directory = match object.project() {
        Some(_) => format!("{}/parity", object.directory()),
        None => "parity".to_owned(),
    };
    let mut found = Vec::new();
    for (parity, _, info) in objects.list(&directory)? {
        if let ObjectRef::Parity(_, of, _) = parity
            && info.size <= PARITY_LEN_MAX
        {
            let bytes = read_damaged(objects.backend(), &parity.name(), PARITY_LEN_MAX)?;
            if bytes.is_some_and(|bytes| protects(&bytes, object.kind(), of)) {
                found.push(parity);
            }
        }
    }
    Ok(found)
}
