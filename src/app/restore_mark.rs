//! Marks of restores that change a target in place. The mark says that the target holds a mixture
//! of old and restored data. It exists while a restore runs, after the restore was interrupted, and
//! after the restore left old content in place of damaged parts of the backup.
//!
//! The mark of a file is next to the file. The mark of a device, or of a file whose directory
//! cannot be written, is in the directory for the state of this program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::base::sync_directory;

use super::environment::Environment;
use super::state_dir::{file_name, state_dir};
use crate::base::create_private_dir;

/// The maximum length of a mark, in bytes. A mark holds only a few names.
const LEN_MAX: u64 = 64 << 10;

/// The content of a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreMark {
    /// The id of the backup that is restored.
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    /// When the restore began to write, in the format of RFC 3339.
    pub(crate) time: String,
    /// The target, as the user named it.
    pub(crate) target: String,
}

/// The paths at which the mark of a target can be, the preferred one first.
#[derive(Debug)]
pub(crate) struct MarkPlaces {
    /// The directory for the state of this program. `None` if the environment names none.
    state: Option<PathBuf>,
    places: Vec<PathBuf>,
}

impl MarkPlaces {
    /// Returns the paths for a target that exists.
    pub(crate) fn of(target: &Path, environment: &Environment) -> io::Result<Self> {
        let target = target.canonicalize()?;
        let metadata = target.metadata()?;
        let mut places = Vec::new();
        if !metadata.file_type().is_block_device()
            && let (Some(directory), Some(name)) = (target.parent(), target.file_name())
        {
            let name = &name.as_bytes()[..name.len().min(200)];
            let name = [b".", name, b".cuttlebone-restore"].concat();
            places.push(directory.join(std::ffi::OsStr::from_bytes(&name)));
        }
        let state = state_dir(environment);
        if let Some(state) = &state {
            places.push(state.join("restores").join(name_of(&target, &metadata)));
        }
        Ok(Self { state, places })
    }

    /// Returns the mark of the target. `None` if there is none, or none that can be read.
    pub(crate) fn read(&self) -> Option<RestoreMark> {
        // Anyone who may write to the directory can put a pipe at this path. Do not wait for it.
        let read = |path: &PathBuf| {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).ok()?;
            let mut options = OpenOptions::new();
            let file = options.read(true).custom_flags(flags).open(path).ok()?;
            let metadata = file.metadata().ok()?;
            if !metadata.is_file() || metadata.len() > LEN_MAX {
                return None;
            }
            let mark: RestoreMark = serde_json::from_reader(file.take(LEN_MAX)).ok()?;
            let is_id = mark.backup_id.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id.then_some(mark)
        };
        self.places.iter().find_map(read)
    }

    /// Stores a mark durably, in place of an older one. Uses the first path at which this succeeds.
    /// If all paths fail, returns the error of the first path. Fails if there is no path.
    pub(crate) fn write(&self, mark: &RestoreMark) -> io::Result<()> {
        let text = serde_json::to_vec(mark).map_err(io::Error::other)?;
        let mut failure = None;
        for place in &self.places {
            match self.write_to(place, &text) {
                Ok(()) => return Ok(()),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// Stores the mark at `place`. Fails if this path is in the directory for the state, and that
    /// directory is not private.
    fn write_to(&self, place: &Path, text: &[u8]) -> io::Result<()> {
        let directory = place.parent().unwrap_or(Path::new("/"));
        match &self.state {
            Some(state) if directory.starts_with(state) => create_private_dir(state, directory)?,
            _ => {}
        }
        write(place, directory, text)
    }

    /// Removes the mark from all paths. Succeeds if there is no mark.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.places
            .iter()
            .try_for_each(|place| match fs::remove_file(place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
    }
}

fn write(path: &Path, directory: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Fail if another user has put a file or a link at this path meanwhile.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    sync_directory(File::open(directory)?)
}

/// Returns a file name for a target. The name of a device can change when a machine starts again.
/// So the file name for a device contains a unique property that the kernel reports. Without such a
/// property, and for a regular file, it contains the path of the target.
fn name_of(target: &Path, metadata: &fs::Metadata) -> String {
    let (major, minor) = (
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev()),
    );
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let property = |name: &str| {
        let text = fs::read(device.join(name)).ok()?;
        let text = text.trim_ascii().to_vec();
        (!text.is_empty()).then_some(text)
    };
    let unique = ["dm/uuid", "loop/backing_file", "wwid", "device/wwid"];
    let is_device = metadata.file_type().is_block_device();
    let answer = is_device.then(|| unique.iter().find_map(|name| property(name)));
    let bytes = answer
        .flatten()
        .unwrap_or_else(|| target.as_os_str().as_bytes().to_vec());
    format!("restore-{}", file_name(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> RestoreMark {
        RestoreMark {
            backup_id: "abc".to_owned(),
            volume: "v".to_owned(),
            time: "2027-01-15T08:00:00Z".to_owned(),
            target: "disk".to_owned(),
        }
    }

    #[test]
    fn a_mark_is_read_by_every_name_of_its_target_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let environment = Environment::with(&[("HOME", at("home").to_str().unwrap())]);
        fs::write(at("disk"), "content").unwrap();
        std::os::unix::fs::symlink("disk", at("link")).unwrap();
        let places = |name: &str| MarkPlaces::of(&at(name), &environment).unwrap();
        assert_eq!(places("disk").read(), None);
        places("link").write(&mark()).unwrap();
        places("link").write(&mark()).unwrap();
        assert_eq!(places("disk").read(), Some(mark()));
        assert!(at(".disk.cuttlebone-restore").exists());
        places("disk").remove().unwrap();
        assert_eq!(places("link").read(), None);
        places("disk").remove().unwrap();
    }

    #[test]
    fn other_files_are_not_read_as_marks() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let beside = directory.path().join(".disk.cuttlebone-restore");
        fs::write(&target, "content").unwrap();
        let environment = Environment::with(&[]);
        let read = || MarkPlaces::of(&target, &environment).unwrap().read();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let (here, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(here, &beside, kind, mode, 0).unwrap();
        assert_eq!(read(), None, "reading does not wait for a pipe");
        fs::remove_file(&beside).unwrap();
        let text = serde_json::to_string(&mark()).unwrap();
        for other in ["", "{}", &text.replace("abc", "…abc…")] {
            fs::write(&beside, other).unwrap();
            assert_eq!(read(), None, "{other}");
        }
        fs::write(&beside, text).unwrap();
        assert_eq!(read(), Some(mark()));
    }

    #[test]
    fn without_a_place_next_to_the_target_the_state_directory_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().to_str().unwrap();
        let environment = Environment::with(&[("HOME", "/nowhere"), ("XDG_STATE_HOME", state)]);
        let places = MarkPlaces::of(Path::new("/proc/version"), &environment).unwrap();
        places.write(&mark()).unwrap();
        let path = directory
            .path()
            .join("cuttlebone/restores/restore-%2fproc%2fversion");
        assert!(path.is_file());
        assert_eq!(places.read(), Some(mark()));
    }
}
