//! Keeps regular files out of the directories of devices.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};
use super::mounts::mounts;

/// The directory of devices.
const DEVICES: &str = "/dev";
/// The only directory below [`DEVICES`] that is meant for regular files. These files hold memory
/// that programs share.
const SHARED_MEMORY: &str = "/dev/shm";

/// Fails with [`VolumeErrorKind::NoDevice`] if `path` is in the directory of devices, and does not
/// exist or is a regular file. Either the name is wrong, or the device does not exist yet. A new
/// file would have the name of the device.
pub(super) fn refuse_file_among_devices(
    path: &Path,
    operation: VolumeOperation,
) -> Result<(), VolumeError> {
    let existing = path.metadata();
    let is_file = existing.as_ref().is_ok_and(std::fs::Metadata::is_file);
    // The caller decides about devices and files of other kinds.
    if (existing.is_ok() && !is_file) || !is_among_devices(path) {
        return Ok(());
    }
    let kind = VolumeErrorKind::NoDevice { is_file };
    Err(VolumeError::new(kind, operation, path.display()))
}

/// Returns whether the directory of a path, or the nearest one above it that exists, is for
/// devices.
fn is_among_devices(path: &Path) -> bool {
    // Follow a symbolic link to the file.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let nearest = path.ancestors().skip(1).find_map(|above| {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        above.canonicalize().ok()
    });
    nearest.is_some_and(|directory| holds_devices(&directory).unwrap_or(false))
}

fn holds_devices(directory: &Path) -> io::Result<bool> {
    let file_system = |path: &Path| path.metadata().map(|metadata| metadata.dev());
    let here = file_system(directory)?;
    let devices = file_system(Path::new(DEVICES)).ok();
    if directory.starts_with(SHARED_MEMORY) && Some(here) != devices {
        return Ok(false);
    }
    // The directory of devices may also be mounted at another path, for example in a container.
    let has_its_own = devices != file_system(Path::new("/")).ok();
    let number = format!("{}:{}", major(here), minor(here));
    Ok(directory.starts_with(DEVICES)
        || (has_its_own && Some(here) == devices)
        || mounts()
            .iter()
            .any(|mount| mount.kind == "devtmpfs" && mount.device == number))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_path_into_the_directory_of_devices_is_recognized() {
        let directory = tempfile::TempDir::new().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev", &link).unwrap();
        for path in [
            PathBuf::from("/dev/sdz1"),
            "/dev/vg0/web1".into(),
            "/dev/vg0/../sdz1".into(),
            "/dev/./sdz1".into(),
            "/proc/../dev/sdz1".into(),
            "/../dev/mapper/none/at/all".into(),
            link.join("sdz1"),
        ] {
            assert!(is_among_devices(&path), "{}", path.display());
        }
        for path in [
            directory.path().join("dev"),
            directory.path().join("dev/sdz1"),
            "/device".into(),
            "sdz1".into(),
        ] {
            assert!(!is_among_devices(&path), "{}", path.display());
        }
    }
}
