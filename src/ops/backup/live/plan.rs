//! Chooses the base of a backup of an image in a cluster.

use std::num::NonZeroU64;

use crate::base::{FullRead, ObjectHash, Role};
use crate::format::{RbdIdentity, SourceInfo};
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::record::load;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::{backups_of_image, changes_in_row, distrusted_by, identity_of};
use crate::repo::{Backup, Project, Records};
use crate::volume::{ExportedSnapshot, Snapshot};

/// How to back up a snapshot.
pub(super) enum Plan<'a> {
    /// The volume has a backup of this very snapshot, and the user did not ask to read everything.
    Existing(&'a Backup),
    /// Only the changes since the snapshot of this backup are read.
    Changes(&'a Backup, ExportedSnapshot),
    /// All data is read. If a backup and its snapshot are given, the changes since this snapshot
    /// are compared with the cluster's list of changes. The given backup can be an earlier one of
    /// the same snapshot, which relied on lists of changes. Then every difference is a change that
    /// the cluster did not list.
    Everything(FullRead, Option<(&'a Backup, ExportedSnapshot)>),
}

/// The next backup of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextBackup {
    /// It will read the changes since the snapshot of this backup.
    Changes {
        /// The id of the backup.
        base: ObjectHash,
        /// The snapshot of the backup.
        snapshot: ExportedSnapshot,
    },
    /// It will read all data.
    Everything {
        /// Why it will read all data.
        why: FullRead,
        /// The number of an earlier snapshot. The backup will compare the cluster's list of changes
        /// since this snapshot with the data that it reads. `None` if it will compare nothing.
        compared: Option<u64>,
    },
}

/// The requests of the user on which the plan depends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes<'a> {
    /// The volume to back up to.
    pub(super) volume: &'a str,
    /// Read everything.
    pub(super) full: bool,
    /// Read everything if otherwise this number of backups in a row, the new one included, would
    /// read only changes.
    pub(super) full_every: Option<NonZeroU64>,
}

impl<'a> Plan<'a> {
    /// Chooses the plan for a backup of the snapshot `target`. `snapshots` are those of the image.
    pub(super) fn choose(
        project: &Project,
        records: &'a Records,
        wishes: Wishes<'_>,
        identity: &RbdIdentity,
        snapshots: &[Snapshot],
        target: &Snapshot,
    ) -> Self {
        let all: Vec<_> = backups_of_image(project, records, identity).collect();
        let of_target = |(backup, id): &(&Backup, Option<u64>)| {
            *id == Some(target.id) && backup.record.volume.name == wishes.volume
        };
        let existing = all.iter().rev().find(|b| of_target(b));
        if let Some((existing, _)) = existing
            && !wishes.full
        {
            return Self::Existing(existing);
        }
        if project.role() == Role::Write {
            // If only a part of a chunk has changed, the rest must be read from the base. Only a
            // full key can do that.
            return Self::Everything(FullRead::WriteKey, None);
        }
        let chunk_size = project.chunk_size.bytes();
        let fits = |backup: &Backup| backup.record.content.chunk_size == chunk_size;
        if let Some((existing, _)) = existing
            && fits(existing)
            && changes_in_row(records, existing) > 0
        {
            let (id, name) = (target.id, target.name.clone());
            let same = (*existing, ExportedSnapshot { id, name });
            return Self::Everything(FullRead::Asked, Some(same));
        }
        let bases = all.iter().filter_map(|&(backup, id)| {
            let snapshot = snapshots.iter().find(|s| Some(s.id) == id)?;
            (snapshot.id < target.id && fits(backup)).then_some((backup, snapshot))
        });
        // The highest number is that of the newest snapshot.
        let base = bases.max_by_key(|(_, snapshot)| snapshot.id);
        let base = base.map(|(base, snapshot)| {
            let (id, name) = (snapshot.id, snapshot.name.clone());
            (base, ExportedSnapshot { id, name })
        });
        let Some((base, from)) = base else {
            let why = reason(records, wishes.volume, &all, snapshots, chunk_size);
            return Self::Everything(why, None);
        };
        let why = if wishes.full {
            FullRead::Asked
        } else if let Some(by) = distrusted_by(project, records, identity) {
            FullRead::Distrusted { backup: by.id }
        } else if let Some(every) = wishes.full_every
            && changes_in_row(records, base) + 1 >= every.get()
        {
            FullRead::Due { every: every.get() }
        } else {
            return Self::Changes(base, from);
        };
        Self::Everything(why, Some((base, from)))
    }
}

/// Returns why no backup can be the base.
fn reason(
    records: &Records,
    volume: &str,
    all: &[(&Backup, Option<u64>)],
    snapshots: &[Snapshot],
    chunk_size: u32,
) -> FullRead {
    // `all` has one volume after the other. The highest number is that of the newest snapshot.
    let Some(&(newest, id)) = all.iter().max_by_key(|(_, snapshot)| *snapshot) else {
        let of_volume = || records.of_volume(volume);
        return if of_volume().next().is_none() {
            FullRead::First
        } else if of_volume().any(|backup| identity_of(backup).is_some()) {
            FullRead::OtherImage
        } else {
            FullRead::UnknownImage
        };
    };
    if newest.record.content.chunk_size != chunk_size {
        return FullRead::OtherChunkSize;
    }
    let snapshot = newest
        .snapshot()
        .map(ToString::to_string)
        .unwrap_or_default();
    if snapshots.iter().any(|found| Some(found.id) == id) {
        FullRead::NoOlderSnapshot
    } else if snapshots.iter().any(|found| found.name == snapshot) {
        FullRead::SnapshotReplaced { snapshot }
    } else {
        FullRead::SnapshotGone { snapshot }
    }
}

fn source_of(backup: &Backup) -> Option<&SourceInfo> {
    backup.record.source.as_ref()
}

/// Returns the next backup of an image with these snapshots, if the user makes no special requests.
pub(super) fn next_backup(
    project: &Project,
    records: &Records,
    volume: &str,
    identity: &RbdIdentity,
    snapshots: &[Snapshot],
) -> NextBackup {
    let wishes = Wishes {
        volume,
        full: false,
        full_every: None,
    };
    // Stands for the snapshot that the next backup will make.
    let target = Snapshot {
        id: u64::MAX,
        name: String::new(),
        size: 0,
        protected: false,
    };
    match Plan::choose(project, records, wishes, identity, snapshots, &target) {
        Plan::Existing(_) => NextBackup::Everything {
            why: FullRead::NoOlderSnapshot,
            compared: None,
        },
        Plan::Everything(why, compared) => NextBackup::Everything {
            why,
            compared: compared.map(|(_, snapshot)| snapshot.id),
        },
        Plan::Changes(base, from) => NextBackup::Changes {
            base: base.id,
            snapshot: from,
        },
    }
}

/// Returns the volume with the newest backup of this image, even if the image was renamed. Returns
/// `None` if there is no backup of the image.
pub fn volume_of_image(
    project: &Project,
    identity: &RbdIdentity,
    context: &Context<'_>,
) -> Result<Option<String>, OpsError> {
    let records = load(project, context)?;
    let newest = backups_of_image(project, &records, identity).max_by_key(|(b, _)| b.time);
    Ok(newest.map(|(backup, _)| backup.record.volume.name.clone()))
}

/// Looks at the last backup of the volume that names its image. Fails if that backup is of another
/// image with another name, unless the user accepts new content. Does not fail if the names are the
/// same: then the new image has replaced the old one. If the backup states only an image id, the id
/// must be the same.
pub(super) fn require_same_image(
    records: &Records,
    options: &BackupOptions,
    identity: &RbdIdentity,
) -> Result<(), OpsError> {
    if options.accept.new_content {
        return Ok(());
    }
    let mut before = records
        .of_volume(&options.volume)
        .rev()
        .filter_map(source_of);
    let known = before.find(|source| source.rbd.is_some() || source.image_id.is_some());
    let (what, before, now) = match known.map(|source| (&source.rbd, &source.image_id)) {
        Some((Some(rbd), _)) if !rbd.same_image(identity) && !rbd.same_name(identity) => {
            ("the image", rbd.to_string(), identity.to_string())
        }
        Some((None, Some(id))) if *id != identity.image_id => {
            ("the image id", id.clone(), identity.image_id.clone())
        }
        _ => return Ok(()),
    };
    Err(OpsError::OtherStated {
        volume: options.volume.clone(),
        what,
        before,
        now,
    })
}
