//! The key that opened a repository last on this host, so that it is tried first.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::{ObjectHash, create_private_dir};
use crate::crypto::{hash, random};

/// The file in the cache directory that names the last key. A wrong or missing name only costs
/// time.
#[derive(Debug, Clone)]
pub struct LastKey {
    caches: PathBuf,
    directory: PathBuf,
    path: PathBuf,
}

impl LastKey {
    /// The file below `caches` for the repository at this location. Creates nothing.
    #[must_use]
    pub fn new(caches: &Path, location: &str) -> Self {
        let directory = caches.join("keys");
        let name = ObjectHash::from_bytes(hash(&[location.as_bytes()]));
        Self {
            caches: caches.to_owned(),
            path: directory.join(name.to_string()),
            directory,
        }
    }

    /// Returns the id of the key, if one is remembered.
    #[must_use]
    pub fn get(&self) -> Option<ObjectHash> {
        fs::read_to_string(&self.path).ok()?.trim().parse().ok()
    }

    /// Remembers a key. Ignores failures, since the key can be found without this file.
    pub fn set(&self, key: ObjectHash) {
        if self.get() != Some(key) {
            let _ = self.replace(key);
        }
    }

    /// Replaces the file. Never follows a link that another user made at this path.
    fn replace(&self, key: ObjectHash) -> io::Result<()> {
        create_private_dir(&self.caches, &self.directory)?;
        let number: [u8; 8] = random().map_err(io::Error::other)?;
        let number = u64::from_le_bytes(number);
        let temporary = self.directory.join(format!(".tmp-{number:016x}"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(key.to_string().as_bytes())?;
            fs::rename(&temporary, &self.path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}
