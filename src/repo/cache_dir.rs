//! The directory on this host that caches a project: its index, and copies of objects.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::{
    ProjectId, RepositoryId, create_private_dir, remove_unless_private, replace_file,
};
use crate::crypto::object_hash;

/// The cache directory of one project.
pub struct CacheDir {
    /// The directory of all caches.
    caches: PathBuf,
    path: PathBuf,
}

impl CacheDir {
    /// Returns the directory of this project below `caches`. Creates nothing.
    #[must_use]
    pub fn new(repository: RepositoryId, project: ProjectId, caches: &Path) -> Self {
        let repository = caches.join(repository.to_string());
        Self {
            caches: caches.to_owned(),
            path: repository.join(project.to_string()),
        }
    }

    /// Returns the directory for the copy of the repository at this location, which is a path or
    /// the address of a server. A copy at another location may have other segments and other
    /// damage, so each copy has a cache of its own.
    #[must_use]
    pub fn at(self, location: &str) -> Self {
        let resolved = Path::new(location)
            .is_absolute()
            .then(|| fs::canonicalize(location));
        let resolved = resolved.and_then(Result::ok).map(PathBuf::into_os_string);
        let hash = match &resolved {
            Some(path) => object_hash(&[path.as_bytes()]),
            None => object_hash(&[location.as_bytes()]),
        };
        let mut path = self.path.into_os_string();
        path.push(format!("-{}", &hash.to_string()[..16]));
        Self {
            path: path.into(),
            ..self
        }
    }

    /// Creates the directory. Fails if other users may write to it: see `create_private_dir`.
    pub fn create(&self) -> io::Result<()> {
        create_private_dir(&self.caches, &self.path)
    }

    /// Creates the subdirectory for copies of objects, and returns its path. Fails in the same
    /// cases as [`create`](Self::create).
    pub(super) fn create_objects(&self) -> io::Result<PathBuf> {
        let objects = self.objects();
        create_private_dir(&self.caches, &objects)?;
        Ok(objects)
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the subdirectory for copies of objects.
    fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The path of the file that states which leases and marks of other processes this host saw.
    fn seen(&self) -> PathBuf {
        self.path.join("seen")
    }

    /// The path of the file that names damaged parts of packs.
    pub(super) fn damaged(&self) -> PathBuf {
        self.path.join("damaged")
    }

    /// Returns the text that [`replace_seen`](Self::replace_seen) stored. `None` if its file does
    /// not exist or has more than `len_max` bytes. If another user may have made the file, deletes
    /// the file and returns `None`.
    pub(super) fn read_seen(&self, len_max: u64) -> io::Result<Option<String>> {
        let file = self.seen();
        self.create()?;
        remove_unless_private(&file)?;
        match fs::metadata(&file) {
            Ok(metadata) if metadata.len() <= len_max => fs::read_to_string(&file).map(Some),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }

    /// Stores the text that states which leases and marks of other processes this host saw.
    pub(super) fn replace_seen(&self, text: &str) -> io::Result<()> {
        self.create()?;
        replace_file(&self.seen(), &[text.as_bytes()])
    }

    /// Returns the sum of the lengths of its files in bytes, copies of objects included; 0 if it
    /// does not exist.
    pub fn size(&self) -> io::Result<u64> {
        Ok(size_of_files(&self.path)? + size_of_files(&self.objects())?)
    }

    /// Deletes the directory with its files. A process that has some of them open can still use
    /// them. In the cases in which [`create`](Self::create) fails, deletes nothing and fails, too.
    pub fn clear(&self) -> io::Result<()> {
        if self.path.symlink_metadata().is_ok() {
            self.create()?;
        }
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Returns the sum of the lengths of the files in a directory, without its subdirectories, in
/// bytes; 0 if it does not exist.
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
