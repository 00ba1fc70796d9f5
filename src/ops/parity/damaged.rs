//! Finds out whether damaged objects have parity, and whether it can restore them.

use super::undamaged::restore;
use crate::ops::error::OpsError;
use crate::repo::{ObjectRef, Objects, RepoError};

/// The maximum number of parity objects to try for one object. Anyone who can write to the store
/// can add any number of them.
pub(super) const TRIES_MAX: usize = 16;

/// Returns whether any of these objects has parity, so that a repair may restore it. Does not read
/// the parity. A directory that cannot be listed counts as empty. The repository file and project
/// objects count as objects without parity, since their hashes are not known.
pub fn has_parity(objects: &Objects, damaged: &[ObjectRef]) -> Result<bool, RepoError> {
    for object in damaged {
        let found = match (object, object.hash()) {
            // A damaged parity object is made again from the object that it protects.
            (ObjectRef::Parity(..), _) => true,
            (_, Some(hash)) => match objects.parity_objects(object.project(), hash) {
                Ok(parity) => !parity.is_empty(),
                Err(error) if error.is_unlistable() => false,
                Err(error) => return Err(error),
            },
            (_, None) => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether parity can restore a damaged object. A directory of parity that cannot be listed
/// counts as empty. Returns false for the repository file and for a project object, since their
/// hashes are not known.
pub(crate) fn is_restorable(objects: &Objects, object: ObjectRef) -> Result<bool, OpsError> {
    let Some(hash) = object.hash() else {
        return Ok(false);
    };
    let mut found = match objects.parity_objects(object.project(), hash) {
        Ok(found) => found,
        Err(error) if error.is_unlistable() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    found.truncate(TRIES_MAX);
    for parity in found {
        if restore(objects, object, parity)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
