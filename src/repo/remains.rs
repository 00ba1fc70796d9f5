//! Damaged files among the records: whether they may be what is left of a record. Section 7 of
//! `docs/format.md`.

use std::collections::HashSet;
use std::sync::Arc;

use super::backup::Backup;
use super::error::{Damage, RepoError};
use super::log::Log;
use super::marks::Marks;
use super::object_ref::ObjectRef;
use super::project::Project;
use crate::base::ObjectHash;
use crate::crypto::SealNonce;
use crate::format::{
    BackupRecord, HEADER_LEN, PAYLOAD_HEAD_LEN, Payload, SEALED_HEAD_LEN, SealedObject,
};

/// Damaged files among the records.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Those that may be records: they may use any data.
    pub(super) of_records: Vec<RepoError>,
    /// Those that never were records, or whose removal is in the log.
    pub(super) of_none: Vec<(ObjectRef, Arc<RepoError>)>,
}

/// Divides the errors of damaged records.
///
/// A file may be a record if it cannot be read here, if something names it, or if its first bytes
/// decrypt to those of a record. Somebody without a key cannot make such bytes, but can copy them;
/// so they do not count if a whole record begins with the same ones.
pub(super) fn divide_damaged(
    project: &Project,
    backups: &[Backup],
    log: &Log,
    damaged: Vec<RepoError>,
) -> Result<Remains, RepoError> {
    let mut remains = Remains::default();
    if damaged.is_empty() {
        return Ok(remains);
    }
    let named = named(project, backups, log)?;
    for error in damaged {
        let RepoError::Damaged {
            object: object @ ObjectRef::Backup(_, hash),
            ref source,
        } = error
        else {
            remains.of_records.push(error);
            continue;
        };
        let is_one = match source {
            _ if log.excuses(hash) => false,
            _ if named.contains(&hash) => true,
            Damage::WrongHash | Damage::TooLarge => {
                begins_like_one(project, object)? && !is_copy(project, backups, object)?
            }
            _ => true,
        };
        if is_one {
            remains.of_records.push(error);
        } else {
            remains.of_none.push((object, Arc::new(error)));
        }
    }
    Ok(remains)
}

/// Returns all records that records, marks and the log name.
fn named(
    project: &Project,
    backups: &[Backup],
    log: &Log,
) -> Result<HashSet<ObjectHash>, RepoError> {
    let mut named: HashSet<ObjectHash> = HashSet::new();
    for backup in backups {
        let record = &backup.record;
        named.extend(record.heads.iter().chain(&record.follows));
        named.extend(record.base.iter().chain(&record.replaces));
    }
    for removed in log.removed_records() {
        named.extend(removed.heads.iter().chain(&removed.follows));
        named.extend(removed.replaces);
    }
    named.extend(log.set().into_iter().map(|item| item.hash));
    let marks = Marks::load_readable(project)?;
    named.extend(marks.all().iter().flat_map(|mark| &mark.records));
    Ok(named)
}

/// The first bytes of a sealed object.
type Head = [u8; SEALED_HEAD_LEN + PAYLOAD_HEAD_LEN];

/// Reads the first bytes of an object. Returns none if it is shorter.
fn read_head(project: &Project, object: ObjectRef) -> Result<Option<Head>, RepoError> {
    let mut head = [0; SEALED_HEAD_LEN + PAYLOAD_HEAD_LEN];
    let backend = project.objects.backend();
    match backend.get_range(&object.name(), 0, &mut head) {
        Ok(()) => Ok(Some(head)),
        Err(error) => match RepoError::reading(object, error) {
            RepoError::Damaged { .. } => Ok(None),
            error => Err(error),
        },
    }
}

/// Returns whether the first bytes of a file are those of a record, sealed under the object key.
fn begins_like_one(project: &Project, object: ObjectRef) -> Result<bool, RepoError> {
    let Some(head) = read_head(project, object)? else {
        return Ok(false);
    };
    let Ok(parts) = SealedObject::decode(object.kind().info().magic, &head) else {
        return Ok(false);
    };
    let nonce = SealNonce::from_bytes(parts.nonce);
    let payload = project.keys.object().guess(&nonce, parts.sealed);
    let limit = BackupRecord::BODY_MAX;
    Ok(payload.is_some_and(|payload| Payload::may_begin_with(&payload, limit)))
}

/// Returns whether a whole record has the nonce of this file. No two records share one.
fn is_copy(project: &Project, backups: &[Backup], object: ObjectRef) -> Result<bool, RepoError> {
    let nonce = |head: &Head| head[HEADER_LEN..SEALED_HEAD_LEN].to_vec();
    let Some(own) = read_head(project, object)? else {
        return Ok(false);
    };
    for backup in backups {
        let whole = read_head(project, ObjectRef::Backup(project.id, backup.id))?;
        if whole.is_some_and(|whole| nonce(&whole) == nonce(&own)) {
            return Ok(true);
        }
    }
    Ok(false)
}
