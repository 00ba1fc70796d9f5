//! Private directories and files, in which this program keeps its cache and its state on this host.
//! Only the user of this process may write to them.
//!
//! If other users could write to such a directory, they could make links in it. Through these
//! links, this process would change other files of its user. The other users could also store files
//! there that this process would rely on.

use std::fmt;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The bits of a mode that let the group and all other users write.
const WRITABLE: u32 = 0o022;
/// The sticky bit: in a directory with this bit, users can remove only their own files.
const STICKY: u32 = 0o1000;

/// Creates `directory`, which is `base` or a directory below it, with mode 0700. Fails unless
/// `directory` is private.
///
/// The user chose `base`, so `base` may be a link. A `base` without the sticky bit must belong to
/// this user, and other users must not be able to write to it. With the sticky bit, as in `/tmp`,
/// it may belong to anyone.
///
/// Each directory below `base` on the path must belong to this user and must not be a link. If
/// other users can write to such a directory, its mode is set to 0700.
pub(crate) fn create_private_dir(base: &Path, directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(base)?;
    let metadata = base.metadata()?;
    let mode = metadata.mode();
    if mode & STICKY == 0 {
        is_ours(base, &metadata)?;
        if mode & WRITABLE != 0 {
            return Err(refused(base, "other users may write to it"));
        }
    }
    let mut path = base.to_owned();
    for part in directory.strip_prefix(base).map_err(io::Error::other)? {
        path.push(part);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            return Err(refused(&path, "it is a symbolic link"));
        }
        if !metadata.is_dir() {
            return Err(refused(&path, "it is not a directory"));
        }
        is_ours(&path, &metadata)?;
        if metadata.mode() & WRITABLE != 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        }
    }
    Ok(())
}

/// Removes a file in a private directory, unless it is a regular file that belongs to this user and
/// has no second hard link. Succeeds if there is no file. Afterwards, writing to this path changes
/// no file elsewhere.
pub(crate) fn remove_unless_private(file: &Path) -> io::Result<()> {
    let metadata = match file.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if metadata.is_file() && metadata.nlink() == 1 && is_ours(file, &metadata).is_ok() {
        return Ok(());
    }
    fs::remove_file(file)
}

fn is_ours(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() == user {
        return Ok(());
    }
    let owner = metadata.uid();
    Err(refused(
        path,
        format_args!("it belongs to user {owner}, and this process runs as user {user}"),
    ))
}

fn refused(path: &Path, why: impl fmt::Display) -> io::Error {
    let text = format!("{} is not private: {why}", path.display());
    io::Error::new(ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_are_created_for_their_owner_alone() {
        let top = tempfile::tempdir().unwrap();
        let base = top.path().join("a/b");
        let directory = base.join("c/d");
        create_private_dir(&base, &directory).unwrap();
        create_private_dir(&base, &directory).unwrap();
        for path in [&base, &base.join("c"), &directory] {
            assert_eq!(mode(path), 0o700);
        }
        create_private_dir(&base, &base).unwrap();
        assert!(create_private_dir(&base, top.path()).is_err());
    }

    #[test]
    fn below_the_base_a_link_or_file_in_place_of_a_directory_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let other = top.path().join("other");
        fs::create_dir(&other).unwrap();
        let base = top.path().join("base");
        fs::create_dir(&base).unwrap();
        symlink(&other, base.join("link")).unwrap();
        symlink(top.path().join("nothing"), base.join("dangling")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        for name in ["link", "dangling", "file", "link/below", "file/below"] {
            let refused = create_private_dir(&base, &base.join(name));
            assert!(refused.is_err(), "{name}");
        }
        assert!(fs::read_dir(&other).unwrap().next().is_none());
        // The base itself may be a link: the user may keep all caches elsewhere.
        let linked = top.path().join("linked");
        symlink(&other, &linked).unwrap();
        create_private_dir(&linked, &linked.join("x")).unwrap();
        assert!(other.join("x").is_dir());
    }

    #[test]
    fn a_base_that_others_may_write_to_is_refused_unless_it_is_sticky() {
        let top = tempfile::tempdir().unwrap();
        for (allowed, of_base) in [
            (true, 0o755),
            (false, 0o775),
            (false, 0o757),
            (true, 0o1777),
        ] {
            set_mode(top.path(), of_base);
            let made = create_private_dir(top.path(), &top.path().join("x"));
            assert_eq!(made.is_ok(), allowed, "{of_base:o}");
            assert_eq!(mode(top.path()), of_base, "the mode is unchanged");
        }
        set_mode(top.path(), 0o700);
        set_mode(&top.path().join("x"), 0o777);
        create_private_dir(top.path(), &top.path().join("x")).unwrap();
        assert_eq!(mode(&top.path().join("x")), 0o700);
    }

    #[test]
    fn a_file_is_removed_if_it_is_a_link_or_has_another_name() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        fs::write(path("plain"), "1").unwrap();
        fs::write(path("secret"), "2").unwrap();
        symlink(path("secret"), path("link")).unwrap();
        fs::hard_link(path("secret"), path("second name")).unwrap();
        for name in ["plain", "link", "second name", "missing"] {
            remove_unless_private(&path(name)).unwrap();
            assert_eq!(path(name).exists(), name == "plain", "{name}");
        }
        assert_eq!(fs::read_to_string(path("secret")).unwrap(), "2");
    }
}
