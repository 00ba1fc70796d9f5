//! Lists the volumes that have backups which cannot be restored completely.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::base::ObjectHash;
use crate::format::SourceInfo;
use crate::repo::Backup;

/// A volume with a backup that cannot be restored completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedVolume {
    /// Its name.
    pub name: String,
    /// Its backups that cannot be restored completely, oldest first.
    pub affected: Vec<ObjectHash>,
    /// The number of its other backups.
    pub whole: u64,
    /// The newest of these other backups, and when it began. `None` if there are none.
    pub newest_whole: Option<(ObjectHash, Timestamp)>,
    /// The source of its newest backup, if the record states it.
    pub source: Option<SourceInfo>,
}

/// Returns the volumes with affected backups, in the order of their names. `backups` are all
/// backups, oldest first.
pub(super) fn affected_volumes(
    backups: &[Backup],
    affected: &HashSet<ObjectHash>,
) -> Vec<AffectedVolume> {
    let hit = backups
        .iter()
        .filter(|backup| affected.contains(&backup.id));
    let names = hit.map(|backup| backup.record.volume.name.as_str());
    let mut volumes: BTreeMap<&str, AffectedVolume> = names
        .map(|name| {
            let volume = AffectedVolume {
                name: name.to_owned(),
                affected: Vec::new(),
                whole: 0,
                newest_whole: None,
                source: None,
            };
            (name, volume)
        })
        .collect();
    for backup in backups {
        let record = &backup.record;
        let Some(volume) = volumes.get_mut(record.volume.name.as_str()) else {
            continue;
        };
        volume.source.clone_from(&record.source);
        if affected.contains(&backup.id) {
            volume.affected.push(backup.id);
        } else {
            volume.whole += 1;
            volume.newest_whole = Some((backup.id, backup.time));
        }
    }
    volumes.into_values().collect()
}
