//! The copies that a project has of another project's backups.

use std::collections::HashMap;

use crate::base::ObjectHash;
use crate::ops::image_backups::trusted;
use crate::repo::{Backup, Project, Records};

/// The backups of one volume of the target, by their [origins](origin). Leaves out backups by write
/// keys other than the key in use, unless the settings of the target trust all keys.
#[derive(Default)]
pub(super) struct Copies(HashMap<ObjectHash, Backup>);

/// Returns the origin of a backup: its first record. Copies of the backup, and records of it with
/// other labels, have the same origin. If another write key made the backup, the stated origin may
/// be false. So it is ignored, unless the settings trust all keys.
pub(super) fn origin(project: &Project, backup: &Backup) -> ObjectHash {
    let stated = backup.record.original;
    let stated = stated.filter(|_| trusted(project, backup));
    stated.unwrap_or(backup.id)
}

impl Copies {
    /// Finds the backups of a volume of the target.
    pub(super) fn find(target: &Project, records: &Records, volume: &str) -> Self {
        let of_volume = records.of_volume(volume);
        let found = of_volume.filter(|backup| trusted(target, backup));
        Self(found.map(|b| (origin(target, b), b.clone())).collect())
    }

    /// Returns the copy of this backup of the source, if the volume has one. A copy has the same
    /// origin, and also the same time, kind of content and size.
    pub(super) fn of(&self, source: &Project, backup: &Backup) -> Option<&Backup> {
        let copy = self.0.get(&origin(source, backup))?;
        let (here, there) = (&backup.record.content, &copy.record.content);
        let is_same =
            backup.time == copy.time && (here.kind, here.size) == (there.kind, there.size);
        is_same.then_some(copy)
    }
}
