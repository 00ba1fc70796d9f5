//! Finds parity of objects that no longer exist.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use crate::base::{ObjectHash, Silent};
use crate::format::LogKind;
use crate::repo::error::RepoError;
use crate::repo::keyless::authority;
use crate::repo::log::{Log, PublicLog};
use crate::repo::object_ref::ObjectRef;
use crate::repo::project::Project;

/// Returns the parity objects of a project that protect no existing object, if they were stored
/// more than `life` before `now`, or if the log removes the object that they protect. A writer
/// stores the parity of an object before the object, so newer parity may be of an object that is
/// being stored. `now` is the time of the store. Parity of a missing object is needed if the log
/// requires this object, or if the object is one of the packs `named` and the log does not remove
/// it: the parity can restore it.
pub fn unneeded_parity(
    project: &Project,
    named: &[ObjectHash],
    now: SystemTime,
    life: Duration,
) -> Result<Vec<ObjectRef>, RepoError> {
    let objects = &project.objects;
    let directory = ObjectRef::Project(project.id).directory();
    let parity = objects.list(&format!("{directory}/parity"))?;
    if parity.is_empty() {
        return Ok(Vec::new());
    }
    let listed = objects.list(&directory)?.into_iter();
    let mut exist: HashSet<_> = listed.filter_map(|(object, ..)| object.hash()).collect();
    exist.insert(objects.hash_of_unnamed(ObjectRef::Project(project.id))?);
    let authority = authority(objects, project.id, &Silent)?;
    let public = PublicLog::load(objects, project.id, &authority)?;
    let named: HashSet<_> = named.iter().collect();
    exist.extend(public.required(None).into_iter().map(|item| item.hash));
    let log = Log::load(project)?;
    let is_removed = |of| LogKind::ALL.iter().any(|kind| log.removed(*kind, of));
    let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age > life);
    let unneeded = parity
        .into_iter()
        .filter(|(object, _, info)| match *object {
            ObjectRef::Parity(_, of, _) if exist.contains(&of) => false,
            ObjectRef::Parity(_, of, _) => {
                is_removed(of) || is_old(info.modified) && !named.contains(&of)
            }
            _ => false,
        });
    Ok(unneeded.map(|(object, ..)| object).collect())
}
