//! The client memory: the state in which this host last saw a repository. A command first compares
//! the repository with this memory, and later updates the memory.

use std::collections::BTreeSet;
use std::fs::File;

use jiff::Timestamp;

use super::compare::{behind, note_again, note_missing, replaced};
use super::file::{Files, SeenBackup, SeenLocation, SeenProject, now, text_of};
use super::lost::Lost;
use crate::app::session::Session;
use crate::app::settings::RepositorySettings;
use crate::base::{Notice, ObjectHash, RepositoryId, Role};
use crate::repo::{Backup, HistoryEnds, Project, RepoError};

/// The maximum number of backups to remember of a project. Beyond it, backups of write keys are not
/// remembered. [`ClientMemory::remember`] exceeds it for backups of full keys.
const BACKUPS_MAX: usize = 10_000;

/// The maximum number of characters of a volume's name to remember.
const VOLUME_MAX: usize = 200;

/// The memory of the location in the settings. It remembers nothing if there is no directory for
/// the state of this program, or if this directory cannot be written.
pub(crate) struct ClientMemory<'a> {
    session: &'a Session,
    location: String,
    files: Option<Files>,
}

impl<'a> ClientMemory<'a> {
    /// Makes the memory without reading its file.
    pub(crate) fn new(session: &'a Session, settings: &RepositorySettings) -> Self {
        Self {
            session,
            location: settings.location.canonical(),
            files: Files::of(&session.environment),
        }
    }

    /// Returns the repository that was last seen here, and the time; `None` if none was seen.
    pub(crate) fn repository(&self) -> Option<(RepositoryId, String)> {
        let seen = self.read()?;
        Some((seen.last.repository, seen.last.time))
    }

    /// Compares the project with this memory. Returns what this host saw here and is missing now.
    /// If another repository or project is here, returns only that loss. Otherwise, records the
    /// missing backups and log entries, until they exist again or their loss is accepted. Also
    /// sends a notice if this host saw backups of this project at another location and they are
    /// missing here.
    pub(crate) fn compare(&self, project: &Project) -> Result<Vec<Lost>, RepoError> {
        self.compare_with_others(project)?;
        let Some(mut location) = self.read() else {
            return Ok(Vec::new());
        };
        location.select(project.repository);
        if let Some(replaced) = replaced(&location.last, project) {
            return Ok(vec![replaced]);
        }
        let name = &project.settings.name;
        let Some(before) = location.last.projects.get(name).cloned() else {
            return Ok(Vec::new());
        };
        let mut seen = before.clone();
        note_missing(&mut seen, project)?;
        if seen != before {
            self.change(project, |now| note_again(now, &before, &seen));
        }
        Ok(losses(&seen, project))
    }

    /// Returns the losses that [`compare`](Self::compare) recorded, without reading the records.
    pub(crate) fn recorded(&self, project: &Project) -> Vec<Lost> {
        let Some(mut location) = self.read() else {
            return Vec::new();
        };
        location.select(project.repository);
        if let Some(replaced) = replaced(&location.last, project) {
            return vec![replaced];
        }
        let seen = location.last.projects.get(&project.settings.name);
        seen.map_or_else(Vec::new, |seen| losses(seen, project))
    }

    fn compare_with_others(&self, project: &Project) -> Result<(), RepoError> {
        let others = self
            .files
            .iter()
            .flat_map(|files| files.others(&self.location));
        for other in others {
            let mut seen = other.last.projects.values();
            let Some(seen) = seen.find(|seen| seen.id == project.id) else {
                continue;
            };
            let backups = behind(seen, project)?;
            if backups > 0 {
                self.session.observer().notice(Notice::Behind {
                    location: other.location,
                    backups,
                });
            }
        }
        Ok(())
    }

    /// Returns a backup of this volume that [`compare`](Self::compare) recorded as lost; `None` if
    /// there is none.
    pub(crate) fn lost_of_volume(&self, project: &Project, volume: &str) -> Option<SeenBackup> {
        let mut location = self.read()?;
        location.select(project.repository);
        let seen = location.last.projects.remove(&project.settings.name)?;
        let volume = shortened(volume);
        let mut lost = seen.lost_backups.into_iter();
        lost.find(|lost| lost.volume == volume)
    }

    /// Remembers the newest backups and log entries of a history that was read and verified. Keeps
    /// the recorded losses.
    pub(crate) fn remember(&self, project: &Project, ends: &HistoryEnds) {
        self.change(project, |seen| {
            // Keep what was not read: a damaged record, or one that was made meanwhile.
            seen.backups.retain(|seen| !ends.read.contains(&seen.id));
            // Someone who stole a write key can add many backups to this list, but no backups by
            // full keys. So all backups by full keys are remembered, and others only while there is
            // space.
            let (full, others): (Vec<_>, Vec<_>) = ends.backups.iter().partition(|b| b.is_full);
            let left = BACKUPS_MAX.saturating_sub(seen.backups.len() + full.len());
            let others = others.into_iter().take(left);
            seen.backups
                .extend(full.into_iter().chain(others).map(seen_backup));
            seen.log.retain(|entry| !ends.log_read.contains(entry));
            seen.log.extend(&ends.log);
            seen.settings_revision = seen.settings_revision.max(project.settings.revision);
        });
    }

    /// Remembers a backup of this volume that was stored just now. `time` is the time of its
    /// content, which is long ago for a copy of an old backup.
    pub(crate) fn remember_backup(
        &self,
        project: &Project,
        id: ObjectHash,
        volume: &str,
        time: Timestamp,
    ) {
        let backup = SeenBackup {
            id,
            volume: shortened(volume),
            time: text_of(time),
            is_full: project.role() == Role::Full,
        };
        self.change(project, |seen| {
            // This backup may name earlier ones, which then need not be remembered. They stay until
            // a later command reads the records.
            make_room(&mut seen.backups, BACKUPS_MAX);
            seen.backups.insert(backup);
        });
    }

    /// Accepts the current state: drops the recorded losses, and remembers `ends`.
    pub(crate) fn accept(&self, project: &Project, ends: &HistoryEnds) {
        {
            let _lock = self.lock();
            let new = || SeenLocation::new(&self.location, project.repository);
            let mut location = self.read().unwrap_or_else(new);
            location.accept(project.repository);
            location.last.projects.remove(&project.settings.name);
            self.write(&location);
        }
        self.remember(project, ends);
    }

    /// Notes that a new repository was created at this location. Does nothing if no repository was
    /// seen there before.
    pub(crate) fn begin(&self, repository: RepositoryId) {
        let _lock = self.lock();
        if let Some(mut location) = self.read() {
            location.accept(repository);
            self.write(&location);
        }
    }

    /// Notes that a repository exists at this location. Does nothing if one was seen there before.
    pub(crate) fn note(&self, repository: RepositoryId) {
        let _lock = self.lock();
        if self.read().is_none() {
            self.write(&SeenLocation::new(&self.location, repository));
        }
    }

    fn change(&self, project: &Project, change: impl FnOnce(&mut SeenProject)) {
        let _lock = self.lock();
        let new = || SeenLocation::new(&self.location, project.repository);
        let mut location = self.read().unwrap_or_else(new);
        location.select(project.repository);
        if replaced(&location.last, project).is_some() {
            return;
        }
        let seen = location.last.projects.entry(project.settings.name.clone());
        let seen = seen.or_insert_with(|| SeenProject {
            id: project.id,
            authority: *project.keys.authority(),
            settings_revision: project.settings.revision,
            backups: [].into(),
            log: [].into(),
            lost_backups: [].into(),
            lost_log: [].into(),
        });
        change(seen);
        location.last.time = now();
        self.write(&location);
    }

    /// Locks the files against changes by other processes. Returns `None` if that is not possible.
    fn lock(&self) -> Option<File> {
        self.files.as_ref()?.lock()
    }

    /// Reads the file. Returns `None` if no repository was seen at this location. If reading fails,
    /// also returns `None`, and sends a notice: the next change replaces the file.
    fn read(&self) -> Option<SeenLocation> {
        match self.files.as_ref()?.read(&self.location) {
            Ok(seen) => seen,
            Err((path, error)) => {
                let problem = error.to_string();
                self.notice(Notice::MemoryDamaged { path, problem });
                None
            }
        }
    }

    /// Writes the file. If that fails, sends a notice: the program can work without its memory.
    fn write(&self, seen: &SeenLocation) {
        if let Some(Err((path, error))) = self.files.as_ref().map(|files| files.write(seen)) {
            let problem = error.to_string();
            self.notice(Notice::MemoryUnusable { path, problem });
        }
    }

    fn notice(&self, notice: Notice) {
        self.session.observer().notice(notice);
    }
}

fn seen_backup(backup: &Backup) -> SeenBackup {
    SeenBackup {
        id: backup.id,
        volume: shortened(&backup.record.volume.name),
        time: text_of(backup.time),
        is_full: backup.is_full,
    }
}

/// Makes room for one more backup if there are `most` or more: drops the oldest one of a write key.
/// If there is none, drops the oldest one of a full key: of these, newer ones name the older ones.
fn make_room(backups: &mut BTreeSet<SeenBackup>, most: usize) {
    while backups.len() >= most
        && let Some(oldest) = backups.iter().min_by_key(|b| (b.is_full, &b.time)).cloned()
    {
        backups.remove(&oldest);
    }
}

/// Returns the beginning of a volume's name. The holder of a write key can make very long names.
fn shortened(name: &str) -> String {
    name.chars().take(VOLUME_MAX).collect()
}

/// Returns the recorded losses of a project.
fn losses(seen: &SeenProject, project: &Project) -> Vec<Lost> {
    let mut lost = Vec::new();
    let found = project.settings.revision;
    if seen.settings_revision > found {
        let seen = seen.settings_revision;
        lost.push(Lost::Settings { seen, found });
    }
    lost.extend(seen.lost_backups.iter().cloned().map(Lost::Backup));
    lost.extend(seen.lost_log.iter().copied().map(Lost::LogEntry));
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(number: u8, time: &str, is_full: bool) -> SeenBackup {
        SeenBackup {
            id: ObjectHash::from_bytes([number; 32]),
            volume: "v".to_owned(),
            time: time.to_owned(),
            is_full,
        }
    }

    #[test]
    fn new_backups_take_the_room_of_the_oldest_one_and_of_full_keys_last() {
        let old_full = backup(9, "2027-01-01T00:00:00Z", true);
        let new_full = backup(8, "2027-01-05T00:00:00Z", true);
        let old = backup(7, "2027-01-02T00:00:00Z", false);
        let new = backup(1, "2027-01-03T00:00:00Z", false);
        let mut left = BTreeSet::from([&old_full, &new_full, &old, &new].map(Clone::clone));
        make_room(&mut left, 5);
        assert_eq!(left.len(), 4);
        for dropped in [&old, &new, &old_full, &new_full] {
            let most = left.len();
            assert!(left.contains(dropped));
            make_room(&mut left, most);
            assert_eq!(left.len(), most - 1);
            assert!(!left.contains(dropped), "{left:?}");
        }
    }
}
