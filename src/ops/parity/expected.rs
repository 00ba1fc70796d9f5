//! Finds objects that should exist, even if no log entry names them. Another copy of the repository
//! has these objects, or parity of them exists.

use std::collections::HashSet;

use super::undamaged::names;
use crate::base::ProjectId;
use crate::ops::error::OpsError;
use crate::repo::{ObjectKind, ObjectRef, Objects, PublicLog, RepoError, protects, read_damaged};
use crate::storage::StorageErrorClass;

/// Objects of these kinds are deleted only after a log entry removes them. Log entries are never
/// deleted.
const KINDS: [ObjectKind; 7] = [
    ObjectKind::Pack,
    ObjectKind::Tree,
    ObjectKind::Index,
    ObjectKind::Backup,
    ObjectKind::Void,
    ObjectKind::Log,
    ObjectKind::Audit,
];

fn is_removed(log: &PublicLog, object: ObjectRef) -> bool {
    object.log_item().is_some_and(|item| log.removes(item))
}

/// Returns the objects of a project that another copy of the repository lists, and that the log
/// does not remove.
pub(super) fn in_replica(
    replica: &Objects,
    project: ProjectId,
    log: &PublicLog,
) -> Result<Vec<ObjectRef>, OpsError> {
    let mut found = Vec::new();
    for kind in KINDS {
        let listed = replica.list(&kind.directory(project))?.into_iter();
        let objects = listed.map(|(object, ..)| object);
        found.extend(objects.filter(|o| o.kind() == kind && !is_removed(log, *o)));
    }
    Ok(found)
}

/// Returns the objects that have one of these parity objects but no file. Leaves out those that the
/// log removes. The log does not name key slots. But the parity of a key slot is deleted before the
/// slot, so a slot that has parity was not removed on purpose. `known` are the objects that the
/// caller has found, whether they are whole or not. Ignores a parity object if a known object has
/// the hash that the parity object names.
pub(super) fn with_parity(
    objects: &Objects,
    parity: &[ObjectRef],
    known: &HashSet<ObjectRef>,
    log: &PublicLog,
) -> Result<Vec<ObjectRef>, OpsError> {
    let mut found = Vec::new();
    for parity in parity {
        let ObjectRef::Parity(project, of, _) = *parity else {
            continue;
        };
        let named = ObjectRef::all_named(project, of);
        if named.iter().any(|object| known.contains(object)) {
            continue;
        }
        let Some(bytes) = read_damaged(objects.backend(), &parity.name(), 1 << 20)? else {
            continue;
        };
        for object in named {
            // The object may have been stored after the store was listed.
            if protects(&bytes, object.kind(), of)
                && !is_removed(log, object)
                && !has_file(objects, object)?
            {
                found.push(object);
            }
        }
    }
    Ok(found)
}

fn has_file(objects: &Objects, object: ObjectRef) -> Result<bool, OpsError> {
    for name in names(object) {
        match objects.backend().size(&name) {
            Ok(_) => return Ok(true),
            Err(error) => match error.kind.class() {
                StorageErrorClass::Absent | StorageErrorClass::Damaged => {}
                _ => return Err(RepoError::from(error).into()),
            },
        }
    }
    Ok(false)
}
