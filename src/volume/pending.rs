//! A new file that gets its name only when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::{lacks_links, sync_directory};

use super::device_directory::refuse_file_among_devices;
use super::error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
use super::sys::{ImageKind, image_kind};
use super::users::refuse_if_used;

/// The temporary name contains at most this many bytes of the final one, so that it stays below the
/// limit of 255 bytes.
const NAME_KEPT: usize = 200;

/// Whether to replace a file that already has the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collision {
    Refuse,
    Replace,
}

/// A file with a temporary name, in the directory of its final name. Dropping this value before
/// [`commit`](Self::commit) was called removes the file.
#[derive(Debug)]
pub(super) struct Pending {
    directory: File,
    temporary: OsString,
    path: PathBuf,
    name: OsString,
    collision: Collision,
    /// Whether the file stays if this value is dropped, since the content is complete.
    stays: bool,
    /// Whether the file has its final name.
    is_named: bool,
}

impl Pending {
    /// Creates an empty file that will be at `path`. If it replaces a file, it gets the owner and
    /// mode of that file. Otherwise only its owner can read it, since it will hold the content of
    /// an encrypted backup. Fails if `path` exists and must not be replaced, is in use, or is not a
    /// regular file.
    pub(super) fn create(path: &Path, collision: Collision) -> Result<(Self, File), VolumeError> {
        let refuse = |kind| VolumeError::new(kind, VolumeOperation::Create, path.display());
        refuse_file_among_devices(path, VolumeOperation::Create)?;
        let failed = VolumeError::on(VolumeOperation::Create, path);
        let directory = |of: &Path| match of.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let (path, replaced) = match path.symlink_metadata() {
            Ok(found) if collision == Collision::Refuse => {
                refuse_if_used(path, &path.metadata().unwrap_or(found))?;
                return Err(refuse(VolumeErrorKind::Exists));
            }
            Ok(_) => {
                // Replace the file, not a symbolic link to it.
                let path = path.canonicalize().map_err(&failed)?;
                let metadata = path.metadata().map_err(&failed)?;
                match image_kind(&metadata) {
                    Ok(ImageKind::File) => {}
                    Ok(ImageKind::Device) => {
                        return Err(refuse(VolumeErrorKind::Unsuitable(Unsuitable::BlockDevice)));
                    }
                    Err(what) => return Err(refuse(VolumeErrorKind::Unsuitable(what))),
                }
                // Programs that use the old file would continue to use a file without a name.
                refuse_if_used(&path, &metadata)?;
                (path, Some(metadata))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(failed(error)),
        };
        let name = path
            .file_name()
            .ok_or_else(|| refuse(VolumeErrorKind::Unsuitable(Unsuitable::Directory)))?
            .to_owned();
        let temporary = temporary_name(&name).map_err(&failed)?;
        let directory = fs::File::open(directory(&path)).map_err(&failed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(
            rustix::fs::openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
                .map_err(|error| failed(error.into()))?,
        );
        let pending = Self {
            directory,
            temporary,
            path,
            name,
            collision,
            stays: false,
            is_named: false,
        };
        if let Some(replaced) = replaced {
            let own = file.metadata().map_err(&failed)?;
            if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
                fchown(&file, Some(replaced.uid()), Some(replaced.gid())).map_err(&failed)?;
            }
            let mode = fs::Permissions::from_mode(replaced.mode() & 0o777);
            file.set_permissions(mode).map_err(&failed)?;
        }
        Ok((pending, file))
    }

    /// Returns the final path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name, and makes the name durable. The caller must sync the content
    /// first. If the file cannot be renamed, the content stays under the temporary name, which the
    /// error states. May be called again after an error.
    pub(super) fn commit(&mut self) -> Result<(), VolumeError> {
        self.stays = true;
        if !self.is_named {
            let named = match self.collision {
                Collision::Replace => rustix::fs::renameat(
                    &self.directory,
                    &self.temporary,
                    &self.directory,
                    &self.name,
                ),
                Collision::Refuse => {
                    rename_no_replace(&self.directory, &self.temporary, &self.name)
                }
            };
            named.map_err(|error| {
                let complete = self.path.with_file_name(&self.temporary);
                let (path, complete) = (self.path.display(), complete.display());
                let object = format!("{path} (its complete content is in {complete})");
                VolumeError::io(VolumeOperation::Finish, object, error)
            })?;
            self.is_named = true;
        }
        let synced = sync_directory(&self.directory);
        synced.map_err(VolumeError::on(VolumeOperation::Finish, &self.path))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.stays {
            // An error cannot be reported from here. The name of the file shows its origin.
            let _ = rustix::fs::unlinkat(&self.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// Returns `.NAME.cuttlebone-HEX`.
fn temporary_name(name: &OsStr) -> io::Result<OsString> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    let kept = name.as_bytes().get(..NAME_KEPT).unwrap_or(name.as_bytes());
    let mut temporary = OsString::from(".");
    temporary.push(OsStr::from_bytes(kept));
    temporary.push(format!(".cuttlebone-{number:016x}"));
    Ok(temporary)
}

/// Renames a file, unless the new name exists. The rename is atomic if the file system supports
/// that.
fn rename_no_replace(directory: impl AsFd, old: &OsStr, new: &OsStr) -> Result<(), Errno> {
    let directory = directory.as_fd();
    match rustix::fs::renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE) {
        // Some file systems, such as NFS, do not support this flag. A hard link also fails if the
        // new name exists.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return result,
    }
    match rustix::fs::linkat(directory, old, directory, new, AtFlags::empty()) {
        Ok(()) => {
            // The file has its new name now. If the removal fails, it also keeps the old name.
            let _ = rustix::fs::unlinkat(directory, old, AtFlags::empty());
            Ok(())
        }
        // Other file systems, such as FAT or a mount in user space, have no hard links either.
        Err(error) if lacks_links(error) => {
            match rustix::fs::statat(directory, new, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(directory, old, directory, new),
                found => Err(found.err().unwrap_or(Errno::EXIST)),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_has_at_most_255_bytes() {
        let name = temporary_name(OsStr::new("disk.raw")).expect("a name");
        let name = name.to_str().expect("plain");
        let digits = name
            .strip_prefix(".disk.raw.cuttlebone-")
            .expect("a prefix");
        assert_eq!(digits.len(), 16);
        let long = OsString::from("x".repeat(255));
        assert!(temporary_name(&long).expect("a name").len() <= 255);
    }
}
