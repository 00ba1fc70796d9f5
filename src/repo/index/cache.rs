//! Where the caches lie on a host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::repo::open::Project;

/// A project's cache on this host, as a directory.
pub struct Cache(PathBuf);

impl Cache {
    /// The one below `caches` that belongs to this project.
    #[must_use]
    pub fn new(project: &Project, caches: &Path) -> Self {
        Self(
            caches
                .join(project.repository.to_string())
                .join(project.id.to_string()),
        )
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes that it takes; 0 if there is none.
    pub fn size(&self) -> std::io::Result<u64> {
        match fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            listed => listed?.map(|entry| Ok(entry?.metadata()?.len())).sum(),
        }
    }

    /// Deletes it. A process that uses it goes on with what it has open.
    pub fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}
