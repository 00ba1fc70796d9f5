//! Backups of one image of a cluster, and whether a backup can be relied on.

use crate::format::{ContentKind, RbdIdentity};
use crate::repo::{Backup, Project, Records};

/// Whether the packs of this backup can be trusted to hold the blobs that its tree names.
pub(super) fn trusted(project: &Project, backup: &Backup) -> bool {
    project.settings.trusts_all()
        || backup.is_full
        || backup.signer == project.keys.signing().public()
}

/// Returns the image from which a backup was made, if this image is in a cluster.
pub(super) fn identity_of(backup: &Backup) -> Option<&RbdIdentity> {
    backup.record.source.as_ref()?.rbd.as_ref()
}

/// Returns the backups of this very image that can be relied on, in all volumes, and the numbers of
/// their snapshots. Those of each volume are in order, oldest first.
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
