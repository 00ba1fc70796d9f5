//! Files that only the user of this process can read. Each file is replaced as a whole: its path
//! names either the old or the new content at any time, unless the system crashes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::directory::sync_directory;

/// Numbers the temporary files of this process, so that two threads never use the same file.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Replaces or creates the file at this path. Its content is the joined parts. The directory of the
/// file must exist, and only this user may write to that directory. After a crash of the system,
/// the file may be incomplete. A link at this path is replaced, not followed.
pub(crate) fn replace_file(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace(path, parts, |_| Ok(()))
}

/// Replaces a file like [`replace_file`], and makes it durable before it returns.
pub(crate) fn replace_file_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace(path, parts, File::sync_all)?;
    let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
    sync_directory(File::open(directory)?)
}

fn replace(
    path: &Path,
    parts: &[&[u8]],
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let process = u64::from(std::process::id()) << 32;
    let number = process | NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".tmp-{number:016x}"));
    // An earlier process with the same id may have left this file.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        sync(&file)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_replaced_and_a_link_is_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let [path, other] = ["file", "other"].map(|name| top.path().join(name));
        fs::write(&other, "other").unwrap();
        symlink(&other, &path).unwrap();
        replace_file(&path, &[b"1"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1");
        replace_file_durably(&path, &[b"2", b"3"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"23");
        assert_eq!(fs::read(&other).unwrap(), b"other");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("directory");
        fs::create_dir_all(path.join("full")).unwrap();
        replace_file(&path, &[b"1"]).unwrap_err();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
