//! The files of the client memory, in which this host remembers the repositories that it saw.
//!
//! There is one file for each location, below `locations/` in the directory for the state of this
//! program. Files are replaced as a whole, so a reader never reads half of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::app::environment::Environment;
use crate::app::state_dir::{file_name, state_dir};
use crate::base::{
    ObjectHash, ProjectId, RepositoryId, SignerId, create_private_dir, replace_file_durably,
};

/// The version of the file's format.
const VERSION: u32 = 1;
/// The maximum length of a file, in bytes.
const LEN_MAX: u64 = 64 << 20;

/// The maximum number of other repositories to remember at a location.
const OTHERS_MAX: usize = 16;
/// The maximum number of attempts to lock the files, and the pause before the next attempt. A
/// process holds the lock only while it reads and replaces a file.
const LOCK_ATTEMPTS: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The repositories that this host saw at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenLocation {
    version: u32,
    /// The location in its canonical form.
    pub(super) location: String,
    /// The repository that was seen last.
    #[serde(flatten)]
    pub(super) last: SeenRepository,
    /// Other repositories that were seen there, the most recently seen first. There are some if,
    /// for example, several disks are mounted there in turn.
    #[serde(default)]
    others: Vec<SeenRepository>,
}

/// The state of a repository that this host saw at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenRepository {
    pub(super) repository: RepositoryId,
    /// When the repository was seen last, as in RFC 3339.
    pub(super) time: String,
    /// The projects, by name.
    pub(super) projects: BTreeMap<String, SeenProject>,
}

/// The state of a project that this host saw at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenProject {
    pub(super) id: ProjectId,
    /// The project's own public key. All full keys sign with its private half.
    pub(super) authority: SignerId,
    /// The highest revision of the settings that was seen.
    pub(super) settings_revision: u64,
    /// The backups that no record of a full key names. All other backups can be reached from them.
    pub(super) backups: BTreeSet<SeenBackup>,
    /// The entries of the log that no other entry names.
    pub(super) log: BTreeSet<ObjectHash>,
    /// Backups that were in `backups` and are missing now, although the log neither removes them
    /// nor accepts their loss.
    #[serde(default)]
    pub(super) lost_backups: BTreeSet<SeenBackup>,
    /// Entries that were in `log` and are missing now, although no entry accepts their loss.
    #[serde(default)]
    pub(super) lost_log: BTreeSet<ObjectHash>,
}

/// A backup that was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SeenBackup {
    pub(crate) id: ObjectHash,
    pub(crate) volume: String,
    /// The time of the backup, as in RFC 3339.
    pub(crate) time: String,
    /// Whether a full key signed the record of the backup.
    #[serde(default)]
    pub(crate) is_full: bool,
}

impl SeenLocation {
    /// Returns the state of a location at which no project was seen yet.
    pub(super) fn new(location: &str, repository: RepositoryId) -> Self {
        Self {
            version: VERSION,
            location: location.to_owned(),
            last: SeenRepository::new(repository),
            others: Vec::new(),
        }
    }

    /// Makes a repository the one that was seen last, if it was seen here before.
    pub(super) fn select(&mut self, repository: RepositoryId) {
        let mut found = self.others.iter();
        let found = found.position(|other| other.repository == repository);
        if let Some(at) = found.filter(|_| self.last.repository != repository) {
            let found = self.others.remove(at);
            self.others
                .insert(0, std::mem::replace(&mut self.last, found));
        }
    }

    /// Makes a repository the one that was seen last, even if it was not seen here before.
    pub(super) fn accept(&mut self, repository: RepositoryId) {
        self.select(repository);
        if self.last.repository != repository {
            let new = SeenRepository::new(repository);
            self.others
                .insert(0, std::mem::replace(&mut self.last, new));
            self.others.truncate(OTHERS_MAX);
        }
    }
}

impl SeenRepository {
    fn new(repository: RepositoryId) -> Self {
        Self {
            repository,
            time: now(),
            projects: BTreeMap::new(),
        }
    }
}

/// Returns the current time, as in RFC 3339.
pub(super) fn now() -> String {
    text_of(Timestamp::now())
}

/// Returns a time in whole seconds, as in RFC 3339.
pub(super) fn text_of(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// The directories of the files of the client memory.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The directory for the state of this program.
    state: PathBuf,
    /// `locations/` in that directory.
    directory: PathBuf,
}

impl Files {
    /// Returns the directories; `None` if the environment names no directory. Creates nothing.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let state = state_dir(environment)?;
        let directory = state.join("locations");
        Some(Self { state, directory })
    }

    fn path(&self, location: &str) -> PathBuf {
        let name = file_name(location.as_bytes());
        self.directory.join(format!("{name}.json"))
    }

    /// Locks all files against changes by other processes, until the returned file is closed.
    /// Returns `None` if locking fails or takes too long. A change without the lock may overwrite a
    /// change by another process.
    pub(super) fn lock(&self) -> Option<File> {
        create_private_dir(&self.state, &self.directory).ok()?;
        let path = self.state.join("locations.lock");
        // If somebody put a FIFO here, opening it must not wait.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .ok()?;
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Some(file),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }

    /// Reads the state that was seen at a location; `None` if no repository was seen there. Fails
    /// if the file cannot be read, is malformed, or is not a file of this version.
    pub(super) fn read(
        &self,
        location: &str,
    ) -> Result<Option<SeenLocation>, (PathBuf, io::Error)> {
        let path = self.path(location);
        match read(&path) {
            // Two long locations may have the same file name.
            Ok(seen) => Ok(Some(seen).filter(|seen| seen.location == location)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err((path, error)),
        }
    }

    /// Reads the states that were seen at all other locations. Ignores files that cannot be read.
    pub(super) fn others(&self, location: &str) -> Vec<SeenLocation> {
        let files = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        let paths = files.map(|file| file.path());
        let named = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let seen = named.filter_map(|path| read(&path).ok());
        seen.filter(|seen| seen.location != location).collect()
    }

    /// Replaces the state of a location.
    pub(super) fn write(&self, seen: &SeenLocation) -> Result<(), (PathBuf, io::Error)> {
        let path = self.path(&seen.location);
        let text = serde_json::to_vec_pretty(seen).map_err(io::Error::other);
        let written = text.and_then(|text| {
            // Do not use a directory that another user has made.
            create_private_dir(&self.state, &self.directory)?;
            replace_file_durably(&path, &[&text])
        });
        written.map_err(|error| (path, error))
    }
}

fn read(path: &Path) -> io::Result<SeenLocation> {
    // If somebody put a FIFO here, opening it must not wait.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LEN_MAX {
        return Err(io::Error::other("it is not a file of this program"));
    }
    let mut text = Vec::new();
    file.take(LEN_MAX).read_to_end(&mut text)?;
    let seen: SeenLocation = serde_json::from_slice(&text)?;
    if seen.version != VERSION {
        let version = seen.version;
        return Err(io::Error::other(format!(
            "it has the unknown version {version}"
        )));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn changes_at_the_same_time_are_made_one_after_the_other() {
        let top = tempfile::tempdir().unwrap();
        let state = top.path().join("state");
        let directory = state.join("locations");
        let files = Files { state, directory };
        let repository = RepositoryId::from_bytes([1; 16]);
        thread::scope(|scope| {
            for thread in 0..4 {
                let files = &files;
                scope.spawn(move || {
                    for round in 0..5 {
                        let lock = files.lock().unwrap();
                        let seen = files.read("/mnt").unwrap();
                        let mut seen =
                            seen.unwrap_or_else(|| SeenLocation::new("/mnt", repository));
                        let name = format!("{thread} {round}");
                        seen.last.projects.insert(name, project());
                        files.write(&seen).unwrap();
                        drop(lock);
                    }
                });
            }
        });
        let seen = files.read("/mnt").unwrap().unwrap();
        assert_eq!(seen.last.projects.len(), 20);
    }

    #[test]
    fn locking_does_not_wait_for_a_pipe() {
        let top = tempfile::tempdir().unwrap();
        let state = top.path().to_owned();
        let directory = state.join("locations");
        let pipe = state.join("locations.lock");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let (here, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(here, pipe, kind, mode, 0).unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(Files { state, directory }.lock().is_some()));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(false));
    }

    fn project() -> SeenProject {
        SeenProject {
            id: ProjectId::from_bytes([9; 16]),
            authority: SignerId::from_bytes([8; 32]),
            settings_revision: 7,
            backups: BTreeSet::new(),
            log: BTreeSet::new(),
            lost_backups: BTreeSet::new(),
            lost_log: BTreeSet::new(),
        }
    }

    #[test]
    fn repositories_that_are_mounted_at_a_place_in_turn_are_all_remembered() {
        let [a, b, c] = [1, 2, 3].map(|id| RepositoryId::from_bytes([id; 16]));
        let mut seen = SeenLocation::new("/mnt", a);
        let name = "p".to_owned();
        let project = project();
        seen.last.projects.insert(name.clone(), project.clone());
        seen.select(b);
        assert_eq!(seen.last.repository, a, "b was not seen there before");
        seen.accept(b);
        assert_eq!((seen.last.repository, seen.last.projects.len()), (b, 0));
        seen.accept(c);
        seen.select(a);
        assert_eq!(seen.last.projects.get(&name), Some(&project));
        seen.select(b);
        assert_eq!(seen.last.repository, b);
        for id in 4..100 {
            seen.accept(RepositoryId::from_bytes([id; 16]));
        }
        assert_eq!(seen.others.len(), OTHERS_MAX);
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<SeenLocation>(&text).unwrap(), seen);
    }
}
