//! Compares the objects of a project that this host saw with those that are in the store now.

use std::collections::{BTreeSet, HashSet};
use std::thread;
use std::time::Duration;

use super::file::{SeenLocation, SeenProject};
use super::lost::Lost;
use crate::base::ObjectHash;
use crate::repo::{Log, Project, Records, RepoError};

/// The time after which a store is listed again. A listing may lack an object for some time, even
/// if an earlier listing had it.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Returns a loss if the whole project was replaced: by another project of this name, or by an
/// older state.
pub(super) fn replaced(location: &SeenLocation, project: &Project) -> Option<Lost> {
    if location.repository != project.repository {
        return Some(Lost::Repository {
            seen: location.repository,
            found: project.repository,
            time: location.time.clone(),
        });
    }
    let seen = location.projects.get(&project.settings.name)?;
    let is_same = seen.id == project.id && seen.authority == *project.keys.authority();
    (!is_same).then(|| Lost::Project {
        name: project.settings.name.clone(),
        seen: seen.id,
        found: project.id,
    })
}

/// Records in `seen` which backups and entries are missing now and which exist again. Drops those
/// that the log removes.
pub(super) fn note_missing(seen: &mut SeenProject, project: &Project) -> Result<(), RepoError> {
    let mut missing = Missing::find(seen, project)?;
    if !missing.is_empty() {
        thread::sleep(LIST_AGAIN_AFTER);
        missing = Missing::find(seen, project)?;
    }
    let mut backups: BTreeSet<_> = seen
        .backups
        .iter()
        .chain(&seen.lost_backups)
        .cloned()
        .collect();
    backups.retain(|backup| !missing.excused.contains(&backup.id));
    (seen.lost_backups, seen.backups) = backups
        .into_iter()
        .partition(|backup| missing.backups.contains(&backup.id));
    let mut entries: BTreeSet<_> = seen.log.union(&seen.lost_log).copied().collect();
    entries.retain(|hash| !missing.excused.contains(hash));
    (seen.lost_log, seen.log) = entries
        .into_iter()
        .partition(|hash| missing.entries.contains(hash));
    Ok(())
}

/// Returns the number of backups that were seen at another location, and that this store lacks
/// although its log does not remove them.
pub(super) fn behind(seen: &SeenProject, project: &Project) -> Result<usize, RepoError> {
    Ok(Missing::find(seen, project)?.backups.len())
}

/// The objects that were seen and that the store lacks.
struct Missing {
    /// Backups that no entry of the log removes.
    backups: HashSet<ObjectHash>,
    /// Entries of the log whose loss no entry accepts.
    entries: HashSet<ObjectHash>,
    /// Backups and entries that an entry removes or accepts as lost.
    excused: HashSet<ObjectHash>,
}

impl Missing {
    /// Lists the store. Reads the log only if an object is missing.
    fn find(seen: &SeenProject, project: &Project) -> Result<Self, RepoError> {
        let present = Records::present(project)?;
        let ids = seen.backups.iter().chain(&seen.lost_backups).map(|b| b.id);
        let mut backups: HashSet<_> = ids.filter(|id| !present.contains(id)).collect();
        let present = Log::present(project)?;
        let entries = seen.log.union(&seen.lost_log).copied();
        let mut entries: HashSet<_> = entries.filter(|entry| !present.contains(entry)).collect();
        let mut excused = HashSet::new();
        if !(backups.is_empty() && entries.is_empty()) {
            let log = Log::load(project)?;
            let missing = backups.iter().chain(&entries).copied();
            excused = missing.filter(|hash| log.excuses(*hash)).collect();
            backups.retain(|id| !excused.contains(id));
            entries.retain(|hash| !excused.contains(hash));
        }
        Ok(Self {
            backups,
            entries,
            excused,
        })
    }

    fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.entries.is_empty()
    }
}
