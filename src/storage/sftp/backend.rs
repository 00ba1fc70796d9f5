//! The store in a directory on a server.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use russh_sftp::protocol::StatusCode;
use tokio::runtime::Runtime;

use super::connection::{Attributes, Connection};
use super::diagnosis::diagnose;
use super::error::SftpError;
use super::options::SftpOptions;
use super::pace::Pace;
use super::paths::Paths;
use super::pool::{Pool, PooledConnection};
use super::upload::Upload;
use super::window::Window;
use super::{download, listing};
use crate::storage::backend::{Backend, ObjectInfo};
use crate::storage::error::{StorageError, StorageErrorKind, StorageOperation};
use crate::storage::name::Name;
use crate::storage::rate::Limits;
use crate::storage::runtime;

/// A store in a directory on a server. Directories get the mode 0700. Files get the mode 0400, or
/// 0600 if the server does not let a client change modes.
///
/// Operations follow symbolic links in the path of an object, unlike in a local directory. The
/// protocol has no other way to open a file.
pub struct SftpBackend {
    pool: Arc<Pool>,
    paths: Paths,
    location: String,
    limits: Limits,
    /// Paths of temporary files whose connection was lost before they could be removed.
    abandoned: Mutex<Vec<String>>,
    runtime: &'static Runtime,
}

impl fmt::Debug for SftpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = &self.location;
        f.debug_struct("SftpBackend")
            .field("location", location)
            .finish_non_exhaustive()
    }
}

impl Drop for SftpBackend {
    fn drop(&mut self) {
        // Tasks of the shared runtime may hold connections. Such a task ends after the ssh process
        // of its connection has ended. So end these processes.
        self.pool.close();
    }
}

impl SftpBackend {
    /// Connects to the store that `options` names. Fails with [`StorageErrorKind::NotFound`] if its
    /// path does not name a directory.
    pub fn open(options: SftpOptions) -> Result<Self, StorageError> {
        let backend = Self::new(options)?;
        let root = backend.paths.at("");
        backend.run(StorageOperation::Open, "the repository", async |first| {
            if first.target_attributes(&root).await?.is_directory() {
                Ok(())
            } else {
                Err(SftpError::known(
                    StorageErrorKind::NotFound,
                    "it is not a directory",
                ))
            }
        })?;
        Ok(backend)
    }

    /// Connects like [`open`](Self::open), but first creates the directory, and those above it, as
    /// needed. If this function fails, some of the new directories may stay.
    pub fn create(options: SftpOptions) -> Result<Self, StorageError> {
        let backend = Self::new(options)?;
        let root = backend.paths.at("");
        backend.run(StorageOperation::Open, "the repository", async |first| {
            create_all(&first, &root).await
        })?;
        Ok(backend)
    }

    fn new(options: SftpOptions) -> Result<Self, StorageError> {
        let runtime = runtime::shared().map_err(|source| StorageError {
            kind: StorageErrorKind::Io,
            operation: StorageOperation::Open,
            object: "the repository".to_owned(),
            location: options.location.clone(),
            is_remote: true,
            source: Some(source),
        })?;
        Ok(Self {
            paths: Paths::new(options.path.clone()),
            location: options.location.clone(),
            limits: Limits::default(),
            abandoned: Mutex::default(),
            pool: Pool::new(options),
            runtime,
        })
    }

    /// Runs an operation to its end in this thread. `work` gets the connection with the fewest
    /// users.
    fn run<T>(
        &self,
        operation: StorageOperation,
        object: &str,
        work: impl AsyncFnOnce(PooledConnection) -> Result<T, SftpError>,
    ) -> Result<T, StorageError> {
        let result = self.runtime.block_on(async {
            let first = self.pool.first().await?;
            work(first).await
        });
        result.map_err(|error| StorageError {
            kind: error.kind(),
            operation,
            object: object.to_owned(),
            location: self.location.clone(),
            is_remote: true,
            source: Some(error.into_source()),
        })
    }

    fn store(&self, name: &Name, parts: &[&[u8]], new: bool) -> Result<(), StorageError> {
        let upload = Upload {
            pool: &self.pool,
            paths: &self.paths,
            limits: &self.limits,
            abandoned: &self.abandoned,
            name: name.as_str(),
            directory: name.directory(),
            parts,
            new,
        };
        self.run(StorageOperation::Put, name.as_str(), async |first| {
            upload.run(&first).await
        })
    }

    fn download_pace(&self) -> Pace<'_> {
        Pace {
            rate: &self.limits.download,
            options: self.pool.options(),
        }
    }
}

impl Backend for SftpBackend {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, false)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store(name, parts, true)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        let path = self.paths.at(name.as_str());
        let pace = self.download_pace();
        self.run(StorageOperation::Get, name.as_str(), async |first| {
            download::get_spread(&self.pool, &first, &pace, &path, limit).await
        })
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let path = self.paths.at(name.as_str());
        let pace = self.download_pace();
        self.run(StorageOperation::Get, name.as_str(), async |first| {
            download::get_range(&self.pool, &first, &pace, &path, offset, buf).await
        })
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        let path = self.paths.at(name.as_str());
        self.run(StorageOperation::Size, name.as_str(), async |first| {
            let found = first.attributes(&path).await?;
            if found.is_file() {
                Ok(found.size)
            } else {
                Err(not_regular())
            }
        })
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(Vec::new());
        }
        self.run(StorageOperation::List, directory, async |first| {
            let found = listing::objects(&self.pool, &first, &self.paths, directory).await?;
            let info = |(name, found): (Name, Attributes)| ObjectInfo {
                name,
                size: found.size,
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(found.modified),
            };
            Ok(found.into_iter().map(info).collect())
        })
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(Vec::new());
        }
        let path = self.paths.at(directory);
        self.run(StorageOperation::List, directory, async |first| {
            let allowance = listing::Allowance::new();
            let names = listing::read_directory(&first, &path, &allowance).await?;
            let names = names.into_iter();
            Ok(names
                .filter(|(name, found)| found.is_directory() && Name::new(name.as_str()).is_ok())
                .map(|(name, _)| name)
                .collect())
        })
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.run(StorageOperation::Delete, name.as_str(), async |first| {
            delete(&first, &self.paths, name).await
        })
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(0);
        }
        // Times in the protocol are whole seconds.
        let age = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        self.run(
            StorageOperation::RemoveLeftovers,
            directory,
            async |first| {
                listing::remove_leftovers(&self.pool, &first, &self.paths, directory, age).await
            },
        )
    }

    fn limit_blocks(&mut self, limits: &Limits) -> bool {
        self.limits = limits.clone();
        true
    }
}

fn not_regular() -> SftpError {
    SftpError::known(StorageErrorKind::NotFound, "it is not a regular file")
}

/// Removes an object. Makes the removal durable if the server can sync directories.
async fn delete(first: &PooledConnection, paths: &Paths, name: &Name) -> Result<(), SftpError> {
    let path = paths.at(name.as_str());
    let directory = paths.at(name.directory());
    let mut opening = Window::new();
    if first.extensions.fsync {
        opening.begin(first.open_read(&directory)).await;
    }
    let removed = first.remove(&path).await;
    let opened = opening.next().await;
    match removed {
        Ok(()) => {}
        Err(error) if error.is(StatusCode::Failure) => {
            return Err(match first.attributes(&path).await {
                Ok(found) if found.is_known() && !found.is_file() => not_regular(),
                _ => diagnose(first, &directory, error, 0).await,
            });
        }
        Err(error) => return Err(error),
    }
    match opened {
        Some(Ok(directory)) => directory.sync().await,
        // A server that cannot open directories cannot make them durable on request either.
        Some(Err(SftpError::Refused(..))) | None => Ok(()),
        Some(Err(error)) => Err(error),
    }
}

/// Creates a directory, and those above it, as needed.
async fn create_all(connection: &Connection, path: &str) -> Result<(), SftpError> {
    let not_directory = || {
        let text = format!("{path} is not a directory");
        SftpError::known(StorageErrorKind::NotFound, text)
    };
    let mut missing = vec![path];
    while let Some(&deepest) = missing.last() {
        match connection.target_attributes(deepest).await {
            Ok(found) if found.is_directory() => break,
            Ok(_) => return Err(not_directory()),
            Err(error) if error.is(StatusCode::NoSuchFile) => {}
            Err(error) => return Err(error),
        }
        match deepest.trim_end_matches('/').rsplit_once('/') {
            Some((above, _)) if !above.is_empty() => missing.push(above),
            _ => break,
        }
    }
    while let Some(path) = missing.pop() {
        match connection.make_directory(path).await {
            // The directory may exist, or another process may have just created it.
            Err(error @ SftpError::Refused(..)) => match connection.target_attributes(path).await {
                Ok(found) if found.is_directory() => {}
                _ => return Err(diagnose(connection, ".", error, 0).await),
            },
            created => created?,
        }
    }
    Ok(())
}
