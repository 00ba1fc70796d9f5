//! Decides whether a target holds a copy of the same repository.

use std::collections::HashMap;

use crate::base::ProjectId;
use crate::format::{ProjectObject, RepositoryFile};
use crate::ops::error::OpsError;
use crate::repo::{Damage, ObjectRef, Objects, RepoError, projects, read_stored};
use crate::storage::Name;

/// The maximum length of an object that is kept twice, in bytes. Certificates and settings are the
/// longest of these objects.
const TWICE_MAX: u64 = 80 << 20;

/// A copy that cannot be used: whether it is the second one, and the error.
pub(super) type Fault = (bool, RepoError);

/// The bytes of the first and the second copy of an object. They are equal, unless both copies are
/// whole and differ.
pub(super) type Pair = [Vec<u8>; 2];

/// Reads an object that is kept twice. Returns the bytes of its copies, and the fault of one of
/// them, if any. If only one copy is whole, returns its bytes for both copies. If none is whole,
/// returns no bytes. If both seem whole and differ, this is a fault of the second one.
pub(super) fn read_either(
    objects: &Objects,
    object: ObjectRef,
) -> Result<(Option<Pair>, Option<Fault>), OpsError> {
    let read = |name: Name| {
        let size = match objects.backend().size(&name) {
            Ok(size) => size.min(TWICE_MAX),
            Err(_) => 0,
        };
        match read_stored(objects, object, &name, size) {
            Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                Ok(Err(error))
            }
            Err(error) => Err(error),
            Ok(bytes) => Ok(Ok(bytes)),
        }
    };
    Ok(match (read(object.name())?, read(object.copy_name())?) {
        (Ok(first), Ok(second)) if first != second => {
            let source = Damage::Impossible("it differs from the first copy, and both seem whole");
            let problem = RepoError::Damaged { object, source };
            (Some([first, second]), Some((true, problem)))
        }
        (Ok(bytes), Ok(second)) => (Some([bytes, second]), None),
        (Ok(bytes), Err(error)) => (Some([bytes.clone(), bytes]), Some((true, error))),
        (Err(error), Ok(bytes)) => (Some([bytes.clone(), bytes]), Some((false, error))),
        (Err(error), Err(second)) if error.is_missing() => (None, Some((true, second))),
        (Err(error), Err(_)) => (None, Some((false, error))),
    })
}

/// Returns whether a store has exactly these bytes under a name.
pub(super) fn has(objects: &Objects, name: &Name, bytes: &[u8]) -> bool {
    let found = objects.backend().get(name, bytes.len() as u64);
    found.is_ok_and(|found| found == bytes)
}

/// If the two copies of an object differ, and a store has the bytes of only one of them, returns
/// these bytes for each copy. Otherwise, returns the pair unchanged.
pub(super) fn prefer_known(objects: &Objects, object: ObjectRef, pair: Pair) -> Pair {
    if pair[0] == pair[1] {
        return pair;
    }
    let names = [object.name(), object.copy_name()];
    let is_known = |bytes: &[u8]| names.iter().any(|name| has(objects, name, bytes));
    match pair.iter().position(|bytes| is_known(bytes)) {
        Some(known) if !is_known(&pair[1 - known]) => [pair[known].clone(), pair[known].clone()],
        _ => pair,
    }
}

/// Returns the repository file of the source, and the fault of one of its copies, if any. Fails if
/// the target has the file of another repository, or a project object that differs from the
/// source's. Without a repository file, the target must not have projects that the source lacks.
pub(super) fn require(
    source: &Objects,
    target: &Objects,
    present: &HashMap<Name, u64>,
) -> Result<(Pair, Option<Fault>), OpsError> {
    let other = || OpsError::OtherRepository {
        location: target.location().to_owned(),
    };
    let (file, fault) = match read_either(source, ObjectRef::Repository)? {
        (Some(file), fault) => (file, fault),
        (None, Some((_, error))) if error.is_missing() => {
            let location = source.location().to_owned();
            return Err(RepoError::NoRepository { location }.into());
        }
        (None, fault) => {
            let error = fault.map(|(_, error)| error);
            return Err(error.map_or_else(other, OpsError::from));
        }
    };
    // Damaged copies of these objects are reported later.
    let found = copies(target, present, ObjectRef::Repository, RepositoryFile::LEN);
    if found.iter().any(|found| !file.contains(found)) {
        return Err(other());
    }
    let known: Vec<ProjectId> = projects(source)?;
    for project in projects(target)? {
        let object = ObjectRef::Project(project);
        let found = copies(target, present, object, ProjectObject::LEN);
        if found.is_empty() {
            continue;
        }
        if !known.contains(&project) {
            // A project may have been removed from the source. But without the repository file,
            // nothing connects the target with the source.
            if present.contains_key(&ObjectRef::Repository.name()) {
                continue;
            }
            return Err(other());
        }
        let (of_source, _) = read_either(source, object)?;
        if of_source.is_some_and(|pair| found.iter().any(|found| !pair.contains(found))) {
            return Err(other());
        }
    }
    Ok((file, fault))
}

/// Returns the undamaged copies of an object in a store.
fn copies(
    objects: &Objects,
    present: &HashMap<Name, u64>,
    object: ObjectRef,
    len: usize,
) -> Vec<Vec<u8>> {
    let names = [object.name(), object.copy_name()].into_iter();
    let exist = names.filter(|name| present.contains_key(name));
    exist
        .filter_map(|name| read_stored(objects, object, &name, len as u64).ok())
        .collect()
}
