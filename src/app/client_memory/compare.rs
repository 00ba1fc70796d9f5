//! Compares the objects of a project that this host saw with those that are in the store now.

use std::collections::{BTreeSet, HashSet};
use std::thread;
use std::time::Duration;

use super::file::{SeenProject, SeenRepository};
use super::lost::Lost;
use crate::base::ObjectHash;
use crate::repo::{Log, Project, Records, RepoError};

/// The pause before the second listing, if the first one lacks objects. A store may leave an object
/// out of a listing for some time, even if an earlier listing had it.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Compares the project with `location`, the state that this host saw last. Returns a loss if the
/// repository is another one, or if the project of this name had another id or signing key.
/// Returns `None` if all are the same, or if no project of this name was seen.
pub(super) fn replaced(location: &SeenRepository, project: &Project) -> Option<Lost> {
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

/// Records in `seen` which backups and log entries are missing now, and which exist again. Drops
/// missing objects if the log removes them or accepts their loss.
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

/// Applies to `seen` the changes from `before` to `after` that [`note_missing`] made. Another
/// process may have changed `seen` meanwhile: its changes stay.
pub(super) fn note_again(seen: &mut SeenProject, before: &SeenProject, after: &SeenProject) {
    move_all(
        (&mut seen.backups, &mut seen.lost_backups),
        (&before.backups, &before.lost_backups),
        (&after.backups, &after.lost_backups),
    );
    move_all(
        (&mut seen.log, &mut seen.lost_log),
        (&before.log, &before.lost_log),
        (&after.log, &after.lost_log),
    );
}

/// Moves items between the set of present items and the set of missing items. In each pair, the
/// first set has the present items.
fn move_all<T: Ord + Clone>(
    (present, missing): (&mut BTreeSet<T>, &mut BTreeSet<T>),
    before: (&BTreeSet<T>, &BTreeSet<T>),
    after: (&BTreeSet<T>, &BTreeSet<T>),
) {
    for item in before.0.union(before.1) {
        let was_present = present.remove(item);
        if !(missing.remove(item) || was_present) {
            continue;
        }
        if after.0.contains(item) {
            present.insert(item.clone());
        } else if after.1.contains(item) {
            missing.insert(item.clone());
        }
    }
}

/// Returns the number of backups in `seen`, the state at another location, that this store lacks.
/// Backups that the log of this store removes or accepts as lost do not count.
pub(super) fn behind(seen: &SeenProject, project: &Project) -> Result<usize, RepoError> {
    Ok(Missing::find(seen, project)?.backups.len())
}

/// The objects that were seen and that the store lacks.
struct Missing {
    /// Backups that no entry of the log removes, and whose loss no entry accepts.
    backups: HashSet<ObjectHash>,
    /// Log entries whose loss no other entry accepts.
    entries: HashSet<ObjectHash>,
    /// All other missing backups and entries: the log removes them or accepts their loss.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_was_noticed_is_recorded_and_changes_by_others_stay() {
        let set = |items: &[i32]| -> BTreeSet<i32> { items.iter().copied().collect() };
        // 1 is missing now, 2 exists again, and 3 was forgotten.
        let before = (&set(&[1, 3]), &set(&[2]));
        let after = (&set(&[2]), &set(&[1]));
        for (now, expected) in [
            ((set(&[1, 3]), set(&[2])), (set(&[2]), set(&[1]))),
            // Another process has added 4, and no longer remembers 1.
            ((set(&[3, 4]), set(&[2])), (set(&[2, 4]), set(&[]))),
        ] {
            let (mut present, mut missing) = now;
            move_all((&mut present, &mut missing), before, after);
            assert_eq!((present, missing), expected);
        }
    }
}
