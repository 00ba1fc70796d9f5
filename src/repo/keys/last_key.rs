//! Remembers which key opened a repository last on this host, so that this key is tried first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::{ObjectHash, create_private_dir, replace_file};
use crate::crypto::hash;

/// The file in the cache directory that names the last key. A wrong or missing name only costs
/// time.
#[derive(Debug, Clone)]
pub struct LastKey {
    caches: PathBuf,
    path: PathBuf,
}

impl LastKey {
    /// Names the file below `caches` for the repository at this location. Creates nothing.
    #[must_use]
    pub fn new(caches: &Path, location: &str) -> Self {
        let name = ObjectHash::from_bytes(hash(&[location.as_bytes()]));
        Self {
            caches: caches.to_owned(),
            path: caches.join("keys").join(name.to_string()),
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

    fn replace(&self, key: ObjectHash) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(&self.caches);
        create_private_dir(&self.caches, directory)?;
        replace_file(&self.path, &[key.to_string().as_bytes()])
    }
}
