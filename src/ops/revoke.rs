//! Revokes a key of a project.

use std::collections::HashSet;

use super::context::TOOL;
use super::error::OpsError;
use crate::base::ObjectHash;
use crate::format::Revoked;
use crate::repo::{Backup, Certified, Project, Records, Worker};

/// Returns the backups that this key signed, in the order of `records`. The result is empty for a
/// full key, because the certificate of a full key names no signer.
#[must_use]
pub fn backups_of_key<'a>(records: &'a Records, key: &Certified) -> Vec<&'a Backup> {
    let of_key = |backup: &&Backup| Some(backup.signer) == key.certificate.signer;
    records.all().iter().filter(of_key).collect()
}

/// Returns those of `backups` that still count if their key is revoked and `accepted` are accepted.
/// These are the accepted backups, and the backups that they follow or name as heads, directly or
/// through other backups.
#[must_use]
pub fn that_count<'a>(
    records: &Records,
    backups: &[&'a Backup],
    accepted: &[ObjectHash],
) -> Vec<&'a Backup> {
    let mut todo = accepted.to_vec();
    let mut reached = HashSet::new();
    while let Some(id) = todo.pop() {
        if reached.insert(id)
            && let Some(backup) = records.get(id)
        {
            todo.extend(backup.record.follows.iter().chain(&backup.record.heads));
        }
    }
    let mut count = backups.to_vec();
    count.retain(|backup| reached.contains(&backup.id));
    count
}

/// Revokes a key. The objects that it signed, and those that it will sign, no longer count. The
/// exceptions are the accepted records, and the records that they follow or name as heads. The
/// caller must name all of these records as accepted, so that `check` notices if one vanishes.
/// `host` is the name of this host.
pub fn revoke_key(
    project: &Project,
    key: &Certified,
    accepted: Vec<ObjectHash>,
    host: Option<&str>,
) -> Result<(), OpsError> {
    let by = Worker { host, tool: TOOL };
    let signer = key.certificate.signer;
    let revoked = Revoked {
        certificate: key.name,
        signer: signer.ok_or(OpsError::Internal("a full key cannot be revoked"))?,
        accepted,
    };
    Ok(project.revoke(revoked, key.certificate.slot, by)?)
}
