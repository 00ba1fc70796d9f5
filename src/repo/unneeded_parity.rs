//! Finds parity of objects that no longer exist.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use crate::base::{ObjectHash, Silent};
use crate::format::LogKind;
use crate::repo::error::RepoError;
use crate::repo::keyless::authority;
use crate::repo::log::{Log, PublicLog};
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::objects::Objects;
use crate::repo::parity::protects;
use crate::repo::project::Project;

/// The maximum length of parity that is read to learn which object it protects, in bytes. The
/// parity of key slots, settings and certificates is rarely longer.
const LEN_MAX: u64 = 1 << 20;

/// Returns the parity objects of a project that are not needed. `now` is the time by the store's
/// clock. Parity is needed if one of these is true of the object that it protects:
///
/// - The object exists, or the log requires it.
/// - The log does not remove the object, and the object is one of the packs `counted`, a key slot,
///   settings or a certificate. The parity can restore it.
/// - The log does not remove the object, and the parity is not older than `life`. A writer stores
///   parity before the object, so the object may be about to be stored.
pub fn unneeded_parity(
    project: &Project,
    counted: &[ObjectHash],
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
    let counted: HashSet<_> = counted.iter().collect();
    exist.extend(public.required(None).into_iter().map(|item| item.hash));
    let log = Log::load(project)?;
    let is_removed = |of| LogKind::ALL.iter().any(|kind| log.removed(*kind, of));
    let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age > life);
    let mut unneeded = Vec::new();
    for (object, _, info) in parity {
        let ObjectRef::Parity(_, of, _) = object else {
            continue;
        };
        if exist.contains(&of) {
            continue;
        }
        let is_unneeded = is_removed(of)
            || is_old(info.modified) && !counted.contains(&of) && !is_kept(objects, object, of)?;
        if is_unneeded {
            unneeded.push(object);
        }
    }
    Ok(unneeded)
}

/// Returns whether parity protects a key slot, settings or a certificate. The log does not remove
/// such objects: the parity of a key slot is deleted before the slot, and settings and certificates
/// are never deleted. Returns `false` if the parity cannot be read, or is longer than [`LEN_MAX`].
fn is_kept(objects: &Objects, parity: ObjectRef, of: ObjectHash) -> Result<bool, RepoError> {
    const KINDS: [ObjectKind; 3] = [
        ObjectKind::Key,
        ObjectKind::Settings,
        ObjectKind::Certificate,
    ];
    match objects.get(parity, LEN_MAX) {
        Ok(bytes) => Ok(KINDS.iter().any(|kind| protects(&bytes, *kind, of))),
        Err(RepoError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
