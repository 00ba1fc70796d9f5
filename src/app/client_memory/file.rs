//! The files of the client memory: one for each location, below `locations/` in the directory for
//! the state of this program. Files are replaced as a whole, so a reader never reads half of a
//! file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// The repository that this host saw at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenLocation {
    version: u32,
    /// The location in its canonical form.
    pub(super) location: String,
    pub(super) repository: RepositoryId,
    /// When it was seen last, as in RFC 3339.
    pub(super) time: String,
    /// The projects, by name.
    pub(super) projects: BTreeMap<String, SeenProject>,
}

/// The state of a project that this host saw at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenProject {
    pub(super) id: ProjectId,
    /// The key that signs for the project.
    pub(super) authority: SignerId,
    pub(super) settings_revision: u64,
    /// The backups that no other one names: all others can be reached from them.
    pub(super) backups: BTreeSet<SeenBackup>,
    /// The entries of the log that no other one names.
    pub(super) log: BTreeSet<ObjectHash>,
    /// Backups in `backups` that were missing later, although the log does not remove them.
    #[serde(default)]
    pub(super) lost_backups: BTreeSet<SeenBackup>,
    /// Entries in `log` that were missing later.
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
}

impl SeenLocation {
    /// Returns the state of a location at which no project was seen yet.
    pub(super) fn new(location: &str, repository: RepositoryId) -> Self {
        Self {
            version: VERSION,
            location: location.to_owned(),
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

/// The directories of these files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The directory for the state of this program.
    state: PathBuf,
    directory: PathBuf,
}

impl Files {
    /// Returns the directory, unless the environment names none. Creates nothing.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let state = state_dir(environment)?;
        let directory = state.join("locations");
        Some(Self { state, directory })
    }

    fn path(&self, location: &str) -> PathBuf {
        let name = file_name(location.as_bytes());
        self.directory.join(format!("{name}.json"))
    }

    /// Reads the state that was seen at a location; `None` if no repository was seen there. Fails
    /// if the file cannot be read or is malformed.
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

    /// Forgets a location.
    pub(super) fn remove(&self, location: &str) -> Result<(), (PathBuf, io::Error)> {
        let path = self.path(location);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((path, error)),
            _ => Ok(()),
        }
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
