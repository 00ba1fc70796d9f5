//! Finds missing objects even if no log entry names them: parity of them exists, or another copy of
//! the repository has them.

use std::collections::HashSet;

use crate::base::ProjectId;
use crate::ops::error::OpsError;
use crate::repo::{ObjectKind, ObjectRef, Objects, PublicLog, protects, read_damaged};

/// Objects of these kinds are deleted only after a log entry removes them.
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

/// Returns the objects of a project that parity protects, that are not in `present`, that do not
/// exist now, and that the log does not remove.
pub(super) fn with_parity(
    objects: &Objects,
    parity: &[ObjectRef],
    present: &HashSet<ObjectRef>,
    log: &PublicLog,
) -> Result<Vec<ObjectRef>, OpsError> {
    let mut found = Vec::new();
    for parity in parity {
        let ObjectRef::Parity(project, of, _) = *parity else {
            continue;
        };
        let named = ObjectRef::all_named(project, of);
        if named.iter().any(|object| present.contains(object)) {
            continue;
        }
        let Some(bytes) = read_damaged(objects.backend(), &parity.name(), 1 << 20)? else {
            continue;
        };
        for object in named.into_iter().filter(|o| KINDS.contains(&o.kind())) {
            // It may have been stored since it was listed.
            if protects(&bytes, object.kind(), of)
                && !is_removed(log, object)
                && objects.backend().size(&object.name()).is_err()
            {
                found.push(object);
            }
        }
    }
    Ok(found)
}
