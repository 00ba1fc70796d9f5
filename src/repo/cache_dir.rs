//! The directory on this host that caches a project: its index, and copies of small objects.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::{ProjectId, RepositoryId};

/// The cache directory of one project.
pub struct CacheDir(PathBuf);

impl CacheDir {
    /// The directory of this project below `caches`. Creates nothing.
    #[must_use]
    pub fn new(repository: RepositoryId, project: ProjectId, caches: &Path) -> Self {
        Self(
            caches
                .join(repository.to_string())
                .join(project.to_string()),
        )
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of the directory in it that holds copies of objects.
    pub(super) fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// Returns the bytes that its files take, copies of objects included; 0 if it does not exist.
    pub fn size(&self) -> io::Result<u64> {
        Ok(size_of_files(&self.0)? + size_of_files(&self.objects())?)
    }

    /// Deletes it. A process that has files in it open can still use them.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Returns the bytes of the files in a directory, without its subdirectories.
fn size_of_files(directory: &Path) -> io::Result<u64> {
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
