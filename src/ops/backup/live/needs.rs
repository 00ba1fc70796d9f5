//! The snapshots of an image, and the backups that need them.

use super::plan::{NextBackup, next_backup};
use crate::base::ObjectHash;
use crate::format::RbdIdentity;
use crate::ops::image_backups::all_of_image;
use crate::ops::snapshot_names::{is_own, is_tracking};
use crate::repo::{Project, Records};
use crate::volume::Snapshot;

/// Why a snapshot is needed, or why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotNeed {
    /// The next backup of the image reads only the changes since this snapshot, or reads all data
    /// and compares it with these changes.
    NextBackup,
    /// There is a backup of the snapshot, but the next backup will not use the snapshot.
    OlderBackup,
    /// There is no backup of the snapshot yet. A backup that runs now may have made it.
    MaybeAtWork,
    /// There is no backup of the snapshot: the run that made it was killed, or its backup was
    /// forgotten.
    NoBackup,
    /// The image is in the trash, so there will be no next backup.
    InTrash,
    /// This program made the snapshot for another project. This project has no backup of it.
    OtherProject,
}

/// A snapshot that this program made, or that has a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotUse {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether this program made it for this project, as its name shows.
    pub is_own: bool,
    /// The id of its newest backup, and the name of the volume of that backup; `None` if there is
    /// no backup.
    pub backup: Option<(ObjectHash, String)>,
    /// Why it is needed, or why it is not.
    pub need: SnapshotNeed,
}

impl SnapshotUse {
    /// Returns whether this program made the snapshot for this project, and nothing needs it.
    #[must_use]
    pub fn is_unneeded(&self) -> bool {
        let unneeded = matches!(self.need, SnapshotNeed::NoBackup | SnapshotNeed::InTrash);
        self.is_own && unneeded
    }
}

/// The circumstances of an image that decide which of its snapshots are needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// Whether the image is in the trash.
    pub(crate) in_trash: bool,
    /// Whether a backup may be running now.
    pub(crate) at_work: bool,
}

/// Predicts the next backup of the image to this volume, and returns it. Also returns the snapshots
/// that this program made or that have a backup, in the order of `snapshots`.
///
/// A run holds a lease from before it makes its snapshot until its record is stored. So the caller
/// must list `snapshots` first, then the leases, and then load `records`. Otherwise a snapshot that
/// a run has just made may seem to be unneeded.
pub(crate) fn snapshot_uses(
    project: &Project,
    records: &Records,
    identity: &RbdIdentity,
    volume: &str,
    snapshots: &[Snapshot],
    of: Circumstances,
) -> (NextBackup, Vec<SnapshotUse>) {
    let next = next_backup(project, records, volume, identity, snapshots);
    let backups: Vec<_> = all_of_image(records, identity).collect();
    let describe = |snapshot: &Snapshot| {
        let of_it = backups.iter().filter(|(id, _)| *id == snapshot.id);
        let backup = of_it.map(|(_, backup)| *backup).max_by_key(|b| b.time);
        let is_own = is_own(&snapshot.name, project.id);
        let is_next = match &next {
            NextBackup::Changes { snapshot: base, .. } => base.id == snapshot.id,
            NextBackup::Everything { compared, .. } => *compared == Some(snapshot.id),
        };
        let need = match backup {
            None if !is_tracking(&snapshot.name) => return None,
            None if !is_own => SnapshotNeed::OtherProject,
            None if of.at_work => SnapshotNeed::MaybeAtWork,
            _ if of.in_trash => SnapshotNeed::InTrash,
            None => SnapshotNeed::NoBackup,
            Some(_) if is_next => SnapshotNeed::NextBackup,
            Some(_) => SnapshotNeed::OlderBackup,
        };
        Some(SnapshotUse {
            snapshot: snapshot.clone(),
            is_own,
            backup: backup.map(|found| (found.id, found.record.volume.name.clone())),
            need,
        })
    };
    let uses = snapshots.iter().filter_map(describe).collect();
    (next, uses)
}
