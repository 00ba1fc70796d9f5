//! Which damaged objects have parity.

use crate::repo::{ObjectRef, Objects, RepoError};

/// Returns whether any of these objects has parity, so that a repair may restore it. Does not read
/// the parity. A directory that cannot be listed counts as empty.
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
