//! Finds the backups of one image in a Ceph cluster, and whether they can be relied on.

use crate::format::{ContentKind, RbdIdentity};
use crate::repo::{Backup, Project, Records};

/// The word in a record if the backup read all data, and found that Ceph had listed each change.
pub(super) const VERIFIED: &str = "verified";
/// The word in a record if Ceph's lists of changes cannot be relied on. This or an earlier backup
/// found a change that Ceph had not listed, and no later one found a complete list.
pub(super) const DISTRUSTED: &str = "distrusted";

/// Returns whether the packs of this backup can be trusted to hold the blobs that its tree names.
/// They can if a full key or the key in use signed the backup, or if the settings trust all keys.
pub(super) fn trusted(project: &Project, backup: &Backup) -> bool {
    project.settings.trusts_all()
        || backup.is_full
        || backup.signer == project.keys.signing().public()
}

/// Returns the image from which a backup was made, if this image is in a cluster.
pub(super) fn identity_of(backup: &Backup) -> Option<&RbdIdentity> {
    backup.record.source.as_ref()?.rbd.as_ref()
}

/// Returns the backups of this image that can be relied on, from all volumes. Returns each with the
/// number of its snapshot, or with `None` if it names no snapshot. The backups of one volume are in
/// order, oldest first.
pub(super) fn backups_of_image<'a>(
    project: &Project,
    records: &'a Records,
    identity: &RbdIdentity,
) -> impl Iterator<Item = (&'a Backup, Option<u64>)> {
    let all = records.volumes().flat_map(|name| records.of_volume(name));
    all.filter_map(move |backup| {
        let of = identity_of(backup)?;
        let is_image = backup.record.content.kind == ContentKind::Image;
        (of.same_image(identity) && is_image && trusted(project, backup))
            .then_some((backup, of.snapshot_id))
    })
}

/// Returns the backups of this image with the numbers of their snapshots. Includes backups that
/// cannot be relied on. Leaves out backups that name no snapshot.
pub(super) fn all_of_image<'a>(
    records: &'a Records,
    identity: &RbdIdentity,
) -> impl Iterator<Item = (u64, &'a Backup)> {
    let all = records.volumes().flat_map(|name| records.of_volume(name));
    all.filter_map(move |backup| {
        let of = identity_of(backup).filter(|of| of.same_image(identity))?;
        Some((of.snapshot_id?, backup))
    })
}

/// Returns whether the record of a backup has this word on Ceph's lists of changes.
fn says(backup: &Backup, word: &str) -> bool {
    let source = backup.record.source.as_ref();
    source.is_some_and(|source| source.change_list.as_deref() == Some(word))
}

/// Returns the newest backup of an image that says that Ceph's lists of its changes are incomplete;
/// `None` if they can be relied on. The backup of the newest snapshot decides. Backups that say
/// nothing about the lists do not count.
pub(super) fn distrusted_by<'a>(
    project: &Project,
    records: &'a Records,
    identity: &RbdIdentity,
) -> Option<&'a Backup> {
    let all = backups_of_image(project, records, identity);
    let stated = all.filter(|(backup, _)| says(backup, VERIFIED) || says(backup, DISTRUSTED));
    let (newest, _) = stated.max_by_key(|(_, snapshot)| *snapshot)?;
    says(newest, DISTRUSTED).then_some(newest)
}

/// Returns the number of backups in a row, up to this one, that read only changes. A record that
/// does not state this number counts as one such backup if it names the snapshot from which its
/// changes begin.
pub(super) fn changes_in_row(records: &Records, backup: &Backup) -> u64 {
    let (mut counted, mut next) = (0, Some(backup));
    while let Some(backup) = next {
        let source = backup.record.source.as_ref();
        if let Some(stated) = source.and_then(|source| source.changes_in_row) {
            return stated.saturating_add(counted);
        }
        if source.is_none_or(|source| source.from_snapshot.is_none()) {
            break;
        }
        counted += 1;
        next = backup.record.base.and_then(|base| records.get(base));
    }
    counted
}

/// Returns the backup that showed that `backup` may lack changes. The returned backup read all
/// data, and found that Ceph had not listed all changes. It is of the same snapshot, or else it is
/// the next backup of the image that read all data. Returns `None` if there is no such backup, or
/// if `backup` itself read all data.
#[must_use]
pub fn found_incomplete_by<'a>(
    project: &Project,
    records: &'a Records,
    backup: &Backup,
) -> Option<&'a Backup> {
    let identity = identity_of(backup)?;
    let own = identity.snapshot_id?;
    if changes_in_row(records, backup) == 0 {
        return None;
    }
    let later = backups_of_image(project, records, identity)
        .filter_map(|(later, snapshot)| Some((later, snapshot?)))
        .filter(|(later, id)| *id > own || (*id == own && says(later, DISTRUSTED)))
        .filter(|(later, _)| changes_in_row(records, later) == 0);
    let (next, _) = later.min_by_key(|(_, snapshot)| *snapshot)?;
    says(next, DISTRUSTED).then_some(next)
}
