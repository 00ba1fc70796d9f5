//! Files in directories that belong to the user of this process alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::base::create_private_dir;
use crate::crypto::random;

/// Replaces a file in a private directory, which is `base` or below it and is created if it is
/// missing. At any time, the path names the old file or the new one. Never follows a link that
/// another user made at this path.
pub(super) fn replace_private_file(base: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_private_dir(base, directory)?;
    let number: [u8; 8] = random().map_err(io::Error::other)?;
    let number = u64::from_le_bytes(number);
    let temporary = directory.join(format!(".tmp-{number:016x}"));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}
