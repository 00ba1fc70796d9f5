//! Where the caches lie on a host.

use std::fs;
use std::io;
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

    /// Where the copies of objects lie in it.
    pub(in crate::repo) fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// Bytes that it takes, with the copies of objects; 0 if there is none.
    pub fn size(&self) -> io::Result<u64> {
        Ok(size(&self.0)? + size(&self.objects())?)
    }

    /// Deletes it. A process that uses it goes on with what it has open.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// The bytes of the files in a directory.
fn size(directory: &Path) -> io::Result<u64> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        listed => listed?,
    };
    let mut sum = 0;
    for entry in listed {
        let metadata = entry?.metadata()?;
        if metadata.is_file() {
            sum += metadata.len();
        }
    }
    Ok(sum)
}
