//! A directory of a mounted file system.
//!
//! An object is written under a temporary name beside its own, made durable, then renamed; a directory is
//! made durable through its parent before anything is put into it. Temporary names begin with `.`, which no
//! [`Name`] does, so that what a crash leaves behind is never listed.
//!
//! All work is relative to the directory as it was opened: if another file system is mounted over it
//! meanwhile, or it is moved, objects still go where the others are.

mod disk;
mod leftovers;
mod write;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::base::lock;

use super::{Backend, ErrorKind, Listed, Name, Operation, StorageError, temporary};

/// A store in a directory. Files get the mode 0400 and directories 0700.
///
/// Symbolic links below the directory are not followed: a store that reaches elsewhere would be listed
/// in part and filled in another. Objects behind one are not found, and putting one there fails.
#[derive(Debug)]
pub struct LocalBackend {
    root: OwnedFd,
    path: PathBuf,
    location: String,
    /// Directories that this process has seen durable, so that a put need not look again.
    durable: Mutex<HashSet<String>>,
    writer: write::Writer,
}

/// What becomes of an object that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Replace,
    Refuse,
}

impl LocalBackend {
    /// The store in this directory. That there is no such directory is [`ErrorKind::NotFound`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        Self::try_open(path).map_err(|source| failed_to_open(path, source))
    }

    /// As [`open`](Self::open), but makes the directory, and those above it, if need be; durable when
    /// it returns. A directory that exists is taken as it is, empty or not. After a failure some of
    /// the directories may have been made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        std::path::absolute(path)
            .and_then(|absolute| make_all(&absolute))
            .and_then(|()| Self::try_open(path))
            .map_err(|source| failed_to_open(path, source))
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let canonical = fs::canonicalize(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open(&canonical, flags, Mode::empty())?,
            path: canonical,
            location: path.display().to_string(),
            durable: Mutex::default(),
            writer: write::Writer::default(),
        })
    }

    fn store(&self, name: &Name, parts: &[&[u8]], taken: Taken) -> io::Result<()> {
        // Spares the writing; that nobody takes the name from here on is for `publish` to see to.
        if taken == Taken::Refuse && self.stat(name).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let directory = self.directory_for_writing(name.directory())?;
        let temporary = Temporary::create(&directory)?;
        self.writer.write_durably(&temporary.file, parts)?;
        temporary.publish(name.last(), taken)?;
        sync_directory(&directory)
    }

    /// The directory, made if need be, and certain to survive a crash.
    fn directory_for_writing(&self, directory: &str) -> io::Result<OwnedFd> {
        if directory.is_empty() {
            return Ok(open_directory(&self.root, ".")?);
        }
        if lock(&self.durable).contains(directory) {
            match open_directory(&self.root, directory) {
                // Somebody tidied away an empty directory.
                Err(Errno::NOENT) => {}
                opened => return Ok(opened?),
            }
        }
        let mut made = open_directory(&self.root, ".")?;
        for part in directory.split('/') {
            match rustix::fs::mkdirat(&made, part, Mode::RWXU) {
                // Whoever made it may not have come to the next line yet, or never will.
                Ok(()) | Err(Errno::EXIST) => sync_directory(&made)?,
                Err(error) => return Err(error.into()),
            }
            made = open_directory(&made, part)?;
        }
        lock(&self.durable).insert(directory.to_owned());
        Ok(made)
    }

    fn open_object(&self, name: &Name) -> io::Result<File> {
        // NONBLOCK: should something have put a FIFO there, opening it must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.root, name.as_str(), flags, Mode::empty())?;
        Ok(File::from(file))
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
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(metadata.len()).unwrap_or(usize::MAX))?;
        // It may have grown since.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// Opens the file each time. Keeping the last ones open would spare 1 to 2 µs a read, where reading
    /// 64 KiB takes 3 µs at best and opening what is in them a hundred; and it would serve what
    /// another process has deleted.
    fn read_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = self.open_object(name)?;
        let end = offset.checked_add(buf.len() as u64);
        if buf.is_empty() {
            // A read of nothing would not even notice a directory.
            let is_file = file.metadata()?.is_file();
            return is_file.then_some(()).ok_or(Errno::NOENT.into());
        }
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.read_exact_at(buf, offset)
    }

    fn stat(&self, name: &Name) -> io::Result<Stat> {
        let stat = rustix::fs::statat(&self.root, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            Ok(stat)
        } else {
            Err(Errno::NOENT.into())
        }
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        let directory = match name.directory() {
            "" => open_directory(&self.root, ".")?,
            directory => open_directory(&self.root, directory)?,
        };
        rustix::fs::unlinkat(&directory, name.last(), AtFlags::empty())?;
        sync_directory(&directory)
    }

    fn failed(&self, operation: Operation, object: &str, source: io::Error) -> StorageError {
        let mut kind = ErrorKind::of(&source);
        // What cannot be an object is not there, whatever else it may be.
        if operation != Operation::Put
            && let Some(Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) = Errno::from_io_error(&source)
        {
            kind = ErrorKind::NotFound;
        }
        let location = if kind == ErrorKind::Full {
            let directory = object
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            format!(
                "{} ({})",
                self.location,
                disk::describe(&self.path, directory)
            )
        } else {
            self.location.clone()
        };
        StorageError {
            kind,
            operation,
            object: object.to_owned(),
            location,
            source: Some(source),
        }
    }
}

impl Backend for LocalBackend {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, Taken::Replace)
            .map_err(|source| self.failed(Operation::Put, name.as_str(), source))
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, Taken::Refuse)
            .map_err(|source| self.failed(Operation::Put, name.as_str(), source))
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.read(name, limit)
            .map_err(|source| self.failed(Operation::Get, name.as_str(), source))
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.read_range(name, offset, buf)
            .map_err(|source| self.failed(Operation::Get, name.as_str(), source))
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.stat(name)
            .map(|stat| u64::try_from(stat.st_size).unwrap_or(0))
            .map_err(|source| self.failed(Operation::Size, name.as_str(), source))
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        let mut listed = Vec::new();
        let path = if directory.is_empty() { "." } else { directory };
        if directory.is_empty() || Name::new(directory).is_ok() {
            list_into(&mut listed, &self.root, path, directory)
                .map_err(|error| self.failed(Operation::List, directory, error.into()))?;
        }
        Ok(listed)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        let path = if directory.is_empty() { "." } else { directory };
        if directory.is_empty() || Name::new(directory).is_ok() {
            directories_in(&self.root, path)
                .map_err(|error| self.failed(Operation::List, directory, error.into()))
        } else {
            Ok(Vec::new())
        }
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.remove(name)
            .map_err(|source| self.failed(Operation::Delete, name.as_str(), source))
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(0);
        }
        leftovers::remove(&self.root, directory, age)
            .map_err(|source| self.failed(Operation::Tidy, directory, source))
    }
}

/// A file without a name of its own yet. Dropped before it is published, it is removed.
struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: String,
    file: File,
    published: bool,
}

impl<'a> Temporary<'a> {
    fn create(directory: &'a OwnedFd) -> io::Result<Self> {
        let name = temporary::new_name()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // Whoever makes a file may write it, whatever its mode; so it is never writable by its name,
        // and file systems that know no modes have nothing to refuse later.
        let file = rustix::fs::openat(directory, name.as_str(), flags, Mode::RUSR)?;
        Ok(Self {
            directory,
            name,
            file: File::from(file),
            published: false,
        })
    }

    /// Gives it its name, at once and whole.
    fn publish(mut self, name: &str, taken: Taken) -> io::Result<()> {
        let (at, from) = (self.directory, self.name.as_str());
        match taken {
            Taken::Replace => rustix::fs::renameat(at, from, at, name)?,
            Taken::Refuse => {
                match rustix::fs::renameat_with(at, from, at, name, RenameFlags::NOREPLACE) {
                    // Not every file system can (NFS cannot); all of these have hard links.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                        return self.publish_by_link(name);
                    }
                    renamed => renamed?,
                }
            }
        }
        self.published = true;
        Ok(())
    }

    /// A link is never made over another file. The temporary name goes when this is dropped.
    fn publish_by_link(self, name: &str) -> io::Result<()> {
        let (at, from) = (self.directory, self.name.as_str());
        Ok(rustix::fs::linkat(at, from, at, name, AtFlags::empty())?)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published {
            // Should this fail too, an invisible file stays; the first failure is what is told.
            let _ = rustix::fs::unlinkat(self.directory, &self.name, AtFlags::empty());
        }
    }
}

fn failed_to_open(path: &Path, source: io::Error) -> StorageError {
    let kind = match source.kind() {
        io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        _ => ErrorKind::of(&source),
    };
    StorageError {
        kind,
        operation: Operation::Open,
        object: "the repository".to_owned(),
        location: path.display().to_string(),
        source: Some(source),
    }
}

fn make_all(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_all(path.parent().ok_or(error)?)?;
            DirBuilder::new().mode(0o700).create(path)?;
        }
        Err(error) => return Err(error),
    }
    match path.parent() {
        Some(parent) => sync_directory(&File::open(parent)?.into()),
        None => Ok(()),
    }
}

fn open_directory(at: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some network file systems cannot be asked; their servers order it themselves.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Adds what lies below `path`. A directory that is not there, or no longer, has nothing below it.
/// The depth is bounded by the parts that a [`Name`] can have.
fn list_into(
    listed: &mut Vec<Listed>,
    at: &OwnedFd,
    path: &str,
    prefix: &str,
) -> Result<(), Errno> {
    let directory = match open_directory(at, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        opened => opened?,
    };
    for entry in Dir::read_from(&directory)? {
        let entry = match entry {
            // The directory was removed while it was read.
            Err(Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        let Ok(last) = entry.file_name().to_str() else {
            continue;
        };
        let path = match prefix {
            "" => last.to_owned(),
            prefix => format!("{prefix}/{last}"),
        };
        let Ok(name) = Name::new(path) else { continue };
        if entry.file_type() == FileType::Directory {
            list_into(listed, &directory, last, name.as_str())?;
            continue;
        }
        let stat = match rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => listed.push(Listed {
                name,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified: modified(&stat),
            }),
            // Not every file system tells the type in the listing.
            FileType::Directory => list_into(listed, &directory, last, name.as_str())?,
            _ => {}
        }
    }
    Ok(())
}

fn directories_in(at: &OwnedFd, path: &str) -> Result<Vec<String>, Errno> {
    let directory = match open_directory(at, path) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|n| Name::new(n).ok())
        else {
            continue;
        };
        // Not every file system tells the type in the listing.
        let is_directory = match entry.file_type() {
            FileType::Unknown => open_directory(&directory, name.as_str()).is_ok(),
            known => known == FileType::Directory,
        };
        if is_directory {
            names.push(name.as_str().to_owned());
        }
    }
    Ok(names)
}

fn modified(stat: &Stat) -> SystemTime {
    let whole = Duration::from_secs(stat.st_mtime.unsigned_abs());
    let part = Duration::from_nanos(stat.st_mtime_nsec);
    let second = if stat.st_mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    second
        .and_then(|second| second.checked_add(part))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_publishes_once_and_leaves_no_temporary_name() {
        let place = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(place.path()).unwrap();
        Temporary::create(&backend.root)
            .unwrap()
            .publish_by_link("a")
            .unwrap();
        let again = Temporary::create(&backend.root)
            .unwrap()
            .publish_by_link("a");
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["a"]);
    }
}
