//! Lists objects and directories.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::directory;
use crate::storage::backend::ObjectInfo;
use crate::storage::name::Name;

/// Adds the objects below the directory `path` in `at`, or nothing if there is no such directory.
/// If the directory disappears meanwhile, only the objects found until then are added. `prefix` is
/// the path from the root of the store. The number of parts that a [`Name`] can have limits the
/// depth. An entry that has the name of an object but is not a file is listed with a size of 0.
pub(super) fn add_objects(
    objects: &mut Vec<ObjectInfo>,
    at: &OwnedFd,
    path: &str,
    prefix: &str,
) -> Result<(), Errno> {
    let opened = match directory::open_below(at, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        opened => opened?,
    };
    for entry in Dir::read_from(&opened)? {
        let entry = match entry {
            // The directory was removed while it was read.
            Err(Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        let Ok(last) = entry.file_name().to_str() else {
            continue;
        };
        let path = match prefix {
            "" => last.to_owned(),
            prefix => format!("{prefix}/{last}"),
        };
        let Ok(name) = Name::new(path) else { continue };
        let is_object = name.is_of_object();
        if entry.file_type() == FileType::Directory && !is_object {
            add_objects(objects, &opened, last, name.as_str())?;
            continue;
        }
        let (size, modified) = match rustix::fs::statat(&opened, last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => (
                    u64::try_from(stat.st_size).unwrap_or(0),
                    directory::modified(&stat),
                ),
                // An entry that is not a file cannot be read. List it, so that the object does not
                // count as missing.
                _ if is_object => (0, directory::modified(&stat)),
                // Some file systems do not include types in a listing.
                FileType::Directory => {
                    add_objects(objects, &opened, last, name.as_str())?;
                    continue;
                }
                _ => continue,
            },
            Err(Errno::NOENT) => continue,
            // The inode is damaged. The time of the file is unknown, so the file counts as new.
            Err(Errno::IO | Errno::BADMSG | Errno::UCLEAN) => (0, SystemTime::now()),
            Err(error) => return Err(error),
        };
        objects.push(ObjectInfo {
            name,
            size,
            modified,
        });
    }
    Ok(())
}

/// Returns the names of a directory's direct subdirectories, without those that are not valid in a
/// [`Name`]. Returns an empty list if there is no such directory.
pub(super) fn directories(at: &OwnedFd, path: &str) -> Result<Vec<String>, Errno> {
    let opened = match directory::open_below(at, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|n| Name::new(n).ok())
        else {
            continue;
        };
        // Some file systems do not include types in a listing.
        let is_directory = match entry.file_type() {
            FileType::Unknown => directory::open_below(&opened, name.as_str()).is_ok(),
            known => known == FileType::Directory,
        };
        if is_directory {
            names.push(name.as_str().to_owned());
        }
    }
    Ok(names)
}
