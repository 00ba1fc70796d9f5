//! Compares the parity of a project with its objects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use crate::base::{ObjectHash, ProjectId};
use crate::repo::{ObjectRef, Objects, RepoError, is_protected};
use crate::storage::Name;

/// An object with its size, and its parity objects with theirs, in bytes.
pub type ProtectedObject = (ObjectRef, u64, Vec<(ObjectRef, u64)>);

/// The objects of a project that parity can protect, and their parity, as the store lists them.
#[derive(Debug, Default)]
pub struct ParityState {
    /// The objects without parity, with their sizes in bytes.
    pub missing: Vec<(ObjectRef, u64)>,
    /// The objects with parity, with their sizes, and the parity objects with theirs.
    pub protected: Vec<ProtectedObject>,
    /// Parity of objects that do not exist, and when it was stored. Also contains the parity of a
    /// damaged repository file or project object, since the hash of such an object is not known.
    pub unneeded: Vec<(ObjectRef, SystemTime)>,
}

/// Lists the objects of a project, or with `None` those of the repository that belong to no
/// project.
pub fn parity_state(
    objects: &Objects,
    project: Option<ProjectId>,
) -> Result<ParityState, RepoError> {
    let directories = match project {
        Some(project) => vec![ObjectRef::Project(project).directory()],
        None => vec!["keys".to_owned(), "parity".to_owned()],
    };
    let mut parity: HashMap<ObjectHash, Vec<(ObjectRef, u64)>> = HashMap::new();
    let mut stored = HashMap::new();
    let mut sizes: BTreeMap<Name, (ObjectRef, u64)> = BTreeMap::new();
    for directory in directories {
        for (object, is_second, info) in objects.list(&directory)? {
            if let ObjectRef::Parity(_, of, _) = object {
                parity.entry(of).or_default().push((object, info.size));
                stored.insert(object, info.modified);
            } else if is_protected(object.kind()) && !is_second {
                sizes.insert(object.name(), (object, info.size));
            }
        }
    }
    if project.is_none() {
        let file = ObjectRef::Repository;
        let size = objects.backend().size(&file.name())?;
        sizes.insert(file.name(), (file, size));
    }
    let mut state = ParityState::default();
    let mut used = HashSet::new();
    for (object, size) in sizes.into_values() {
        let of = match object.hash() {
            Some(hash) => hash,
            None => match objects.hash_of_unnamed(object) {
                Ok(hash) => hash,
                // A check reports this damage.
                Err(RepoError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            },
        };
        used.insert(of);
        match parity.get(&of) {
            Some(all) => state.protected.push((object, size, all.clone())),
            None => state.missing.push((object, size)),
        }
    }
    parity.retain(|of, _| !used.contains(of));
    let unneeded = parity.into_values().flatten();
    state.unneeded = unneeded
        .map(|(object, _)| (object, stored[&object]))
        .collect();
    state
        .unneeded
        .sort_unstable_by_key(|(object, _)| object.name());
    Ok(state)
}
