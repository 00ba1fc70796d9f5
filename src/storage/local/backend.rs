//! The store in a directory.
//!
//! An object is written under a temporary name in its own directory, made durable, and then
//! renamed. Before an object is put into a new directory, the entry of this directory in its parent
//! is made durable. Temporary names begin with `.`, and a [`Name`] never does, so files that a
//! crash leaves behind are never listed.
//!
//! All work is relative to the directory of the store as it was opened. If this directory is moved,
//! or another file system is mounted over it, new objects are still stored with the existing ones.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::owner::{Owner, give};
use super::temporary_file::{IfTaken, TemporaryFile};
use super::writer::Writer;
use super::{directory, free_space, leftovers, listing};
use crate::base::{ByteSize, lock, sync_directory};
use crate::storage::backend::{Backend, ObjectInfo};
use crate::storage::error::{StorageError, StorageErrorKind, StorageOperation};
use crate::storage::name::Name;

/// A store in a directory. Files get the mode 0400, those that may be replaced (leases) 0600, and
/// directories 0700. If root stores them in the directory of another user, that user owns them.
///
/// No operation follows symbolic links below the directory.
#[derive(Debug)]
pub struct LocalBackend {
    root: OwnedFd,
    owner: Option<Owner>,
    path: PathBuf,
    location: String,
    /// Directories that are known to be durable, so that a put need not make them durable again.
    durable: Mutex<HashSet<String>>,
    writer: Writer,
}

impl LocalBackend {
    /// Opens the store in this directory. Fails with [`StorageErrorKind::NotFound`] if there is no
    /// such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        Self::try_open(path).map_err(|source| failed_to_open(path, source))
    }

    /// Opens the store like [`open`](Self::open), but first creates the directory, and those above
    /// it, as needed, and makes them durable. An existing directory is used as it is, empty or not.
    /// A failure may leave some of the directories created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        std::path::absolute(path)
            .and_then(|absolute| directory::create_all(&absolute))
            .and_then(|()| Self::try_open(path))
            .map_err(|source| failed_to_open(path, source))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let canonical = fs::canonicalize(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&canonical, flags, Mode::empty())?;
        Ok(Self {
            owner: Owner::of(&root)?,
            root,
            path: canonical,
            location: path.display().to_string(),
            durable: Mutex::default(),
            writer: Writer::default(),
        })
    }

    fn store(&self, name: &Name, parts: &[&[u8]], if_taken: IfTaken) -> io::Result<()> {
        // Fail early, to avoid writing the file. If the name gets taken later, `publish` fails.
        if if_taken == IfTaken::Fail && self.stat(name).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let directory = self.directory_for_writing(name.directory())?;
        let mode = if name.is_replaced() {
            // Some file systems refuse to replace a file that is read-only.
            Mode::RUSR | Mode::WUSR
        } else {
            Mode::RUSR
        };
        let temporary = TemporaryFile::create(&directory, mode, self.owner)?;
        self.writer.write_durably(temporary.file(), parts)?;
        temporary.publish(name.last(), if_taken)?;
        sync_directory(&directory)
    }

    /// Returns the directory. Creates it if needed, and makes it durable.
    fn directory_for_writing(&self, directory: &str) -> io::Result<OwnedFd> {
        if directory.is_empty() {
            return Ok(directory::open_below(&self.root, "")?);
        }
        if lock(&self.durable).contains(directory) {
            match directory::open_below(&self.root, directory) {
                // Someone has removed the directory while it was empty.
                Err(Errno::NOENT) => {}
                opened => return Ok(opened?),
            }
        }
        let mut opened = directory::open_below(&self.root, "")?;
        for part in directory.split('/') {
            let made = rustix::fs::mkdirat(&opened, part, Mode::RWXU);
            let deeper = match made {
                Ok(()) | Err(Errno::EXIST) => directory::open(&opened, part)?,
                Err(error) => return Err(error.into()),
            };
            if made.is_ok() {
                give(&deeper, self.owner)?;
            }
            // The process that created `part` may not have made it durable yet, or may have been
            // killed before it did so.
            sync_directory(&opened)?;
            opened = deeper;
        }
        lock(&self.durable).insert(directory.to_owned());
        Ok(opened)
    }

    fn open_object(&self, name: &Name) -> io::Result<File> {
        // With NONBLOCK, opening a FIFO with this name does not wait.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let directory = directory::open_below(&self.root, name.directory())?;
        let file = rustix::fs::openat(&directory, name.last(), flags, Mode::empty())?;
        Ok(File::from(file))
    }

    /// Returns the attributes of the directory entry with the name of an object. The entry need not
    /// be a file.
    fn stat_any(&self, name: &Name) -> io::Result<Stat> {
        let directory = directory::open_below(&self.root, name.directory())?;
        let stat = rustix::fs::statat(&directory, name.last(), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(stat)
    }

    fn read(&self, name: &Name, limit: u64) -> io::Result<Vec<u8>> {
        let too_large = |size: u64| {
            let text = format!("{size} bytes or more, where at most {limit} were expected");
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        };
        let file = self.open_object(name)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Errno::NOENT.into());
        }
        if metadata.len() > limit {
            return Err(too_large(metadata.len()));
        }
        let len = usize::try_from(metadata.len()).map_err(|_| too_large(metadata.len()))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len)?;
        // The file may have grown since its length was read.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Fills `buf` from `offset` on. Opens the file each time. A cache of open files would save 1
    /// to 2 µs for each read. But reading 64 KiB takes at least 3 µs, and decrypting and
    /// decompressing it takes 100 µs. And such a cache would return objects that another process
    /// has deleted.
    fn read_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = self.open_object(name)?;
        let end = offset.checked_add(buf.len() as u64);
        if buf.is_empty() {
            // Test the type, since reading 0 bytes would succeed for a directory, too.
            let is_file = file.metadata()?.is_file();
            return is_file.then_some(()).ok_or(Errno::NOENT.into());
        }
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.read_exact_at(buf, offset)
    }

    fn stat(&self, name: &Name) -> io::Result<Stat> {
        let stat = self.stat_any(name)?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            Ok(stat)
        } else {
            Err(Errno::NOENT.into())
        }
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        let directory = directory::open_below(&self.root, name.directory())?;
        let unlink = || rustix::fs::unlinkat(&directory, name.last(), AtFlags::empty());
        match unlink() {
            // Some file systems, such as SMB, refuse to remove a file that is read-only.
            Err(refused @ (Errno::ACCESS | Errno::PERM)) => {
                // Unlike `chmodat`, this never follows a symbolic link with the object's name.
                let file = self.open_object(name).map_err(|_| refused)?;
                if file.metadata()?.is_file() {
                    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
                }
                unlink()?;
            }
            removed => removed?,
        }
        sync_directory(&directory)
    }

    /// Returns the error of a put. If the disk is full, adds the size of the object to the text.
    /// Since the temporary file was removed, the free space alone does not explain the failure.
    fn failed_to_put(&self, name: &Name, parts: &[&[u8]], source: io::Error) -> StorageError {
        let mut error = self.failed(StorageOperation::Put, name.as_str(), source);
        if error.kind == StorageErrorKind::Full {
            let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
            error.location = format!("{}, {} needed", error.location, ByteSize(size));
        }
        error
    }

    /// Returns the error of a get. If something other than a file has the name, for example a FIFO,
    /// the error says so. If the name [is that of an object](Name::is_of_object), the object
    /// does not count as missing.
    fn failed_to_get(&self, name: &Name, source: io::Error) -> StorageError {
        let is_other = self.stat_any(name);
        let is_other = is_other.is_ok_and(|stat| !FileType::from_raw_mode(stat.st_mode).is_file());
        let mut error = self.failed(StorageOperation::Get, name.as_str(), source);
        if is_other {
            error.kind = if name.is_of_object() {
                StorageErrorKind::NotAFile
            } else {
                StorageErrorKind::NotFound
            };
            error.source = Some(io::Error::other("it is not a regular file"));
        }
        error
    }

    fn failed(&self, operation: StorageOperation, object: &str, source: io::Error) -> StorageError {
        let mut kind = StorageErrorKind::from_io(operation, &source);
        // A directory or link of that name is not an object.
        if operation != StorageOperation::Put
            && let Some(Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) = Errno::from_io_error(&source)
        {
            kind = StorageErrorKind::NotFound;
        }
        let location = if kind == StorageErrorKind::Full {
            let directory = object
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            let space = free_space::describe(&self.path, directory);
            format!("{} ({space})", self.location)
        } else {
            self.location.clone()
        };
        StorageError {
            kind,
            operation,
            object: object.to_owned(),
            location,
            is_remote: false,
            source: Some(source),
        }
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, IfTaken::Replace)
            .map_err(|source| self.failed_to_put(name, parts, source))
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, IfTaken::Fail)
            .map_err(|source| self.failed_to_put(name, parts, source))
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.read(name, limit)
            .map_err(|source| self.failed_to_get(name, source))
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.read_range(name, offset, buf)
            .map_err(|source| self.failed_to_get(name, source))
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.stat(name)
            .map(|stat| u64::try_from(stat.st_size).unwrap_or(0))
            .map_err(|source| self.failed(StorageOperation::Size, name.as_str(), source))
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut objects = Vec::new();
        let path = if directory.is_empty() { "." } else { directory };
        if directory.is_empty() || Name::new(directory).is_ok() {
            listing::add_objects(&mut objects, &self.root, path, directory)
                .map_err(|error| self.failed(StorageOperation::List, directory, error.into()))?;
        }
        Ok(objects)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        let path = if directory.is_empty() { "." } else { directory };
        if directory.is_empty() || Name::new(directory).is_ok() {
            listing::directories(&self.root, path)
                .map_err(|error| self.failed(StorageOperation::List, directory, error.into()))
        } else {
            Ok(Vec::new())
        }
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.remove(name)
            .map_err(|source| self.failed(StorageOperation::Delete, name.as_str(), source))
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(0);
        }
        leftovers::remove(&self.root, directory, age)
            .map_err(|source| self.failed(StorageOperation::RemoveLeftovers, directory, source))
    }
}

fn failed_to_open(path: &Path, source: io::Error) -> StorageError {
    let kind = match source.kind() {
        io::ErrorKind::NotADirectory => StorageErrorKind::NotFound,
        _ => StorageErrorKind::from_io(StorageOperation::Open, &source),
    };
    StorageError {
        kind,
        operation: StorageOperation::Open,
        object: "the repository".to_owned(),
        location: path.display().to_string(),
        is_remote: false,
        source: Some(source),
    }
}
