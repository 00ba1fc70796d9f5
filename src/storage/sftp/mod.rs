//! A directory on a server, over SFTP, by way of the user's own `ssh`.
//!
//! Version 3 of the protocol (draft-ietf-secsh-filexfer-02) and, where the server offers them, OpenSSH's
//! extensions: replacing renames, hard links, waiting for the disk. Objects are laid out as in a local directory.
//!
//! Nothing here waits for ever. A watch beside each connection ends its ssh once requests have waited for
//! [`SftpOptions::patience`] without a byte moving in either direction; a slow link is not a dead one. What was
//! under way then fails, and is tried again on a new connection where repeating is safe:
//!
//! | operation | after a lost connection |
//! |---|---|
//! | `get`, `get_range`, `size`, `list`, `directories` | again |
//! | `put` | again, under a new temporary name; the object is whole either way |
//! | `put_new` | again, unless the name is taken now: then it was this one if the content is |
//! | `delete` | again, and that it is not there any more is success |
//! | `remove_leftovers` | again; only what was removed by the last attempt is counted |
//!
//! Why it is built so is in `docs/decisions/0011-sftp.md`.

mod connection;
mod download;
mod fault;
mod listing;
mod pool;
mod ssh;
mod upload;
mod window;

use std::collections::HashSet;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use russh_sftp::protocol::StatusCode;
use tokio::runtime::{Builder, Runtime};

use crate::base::{Cancel, lock};

use super::limit::Limits;
use super::{Backend, ErrorKind, Listed, Name, Operation, StorageError};

use connection::{Connection, diagnose};
use fault::Fault;
use pool::{Lease, Pool};
use upload::Upload;
use window::Window;

/// Bytes under way for one operation on one connection. An ssh channel takes 2 MiB at a time; the rest waits in
/// pipes, so that neither end ever idles.
const WINDOW: usize = 4 << 20;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpServer {
    /// Who logs in, if ssh is not to decide it. Must not begin with `-`.
    pub user: Option<String>,
    /// A host as ssh knows it. Must not begin with `-`.
    pub host: String,
    /// Its port, if ssh is not to decide it.
    pub port: Option<u16>,
}

/// Where a store lies, and how to get there.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// The server.
    pub server: SftpServer,
    /// The directory there; a relative one begins where the user is after logging in.
    pub path: String,
    /// As it is called in messages.
    pub location: String,
    /// The program that connects, and its first arguments: `ssh`. It must take OpenSSH's options.
    pub ssh: Vec<OsString>,
    /// How many connections to open at most.
    pub connections: NonZeroUsize,
    /// For how long nothing may move while something is waited for.
    pub patience: Duration,
    /// How fast bytes may go either way.
    pub limits: Limits,
    /// Once somebody asks to stop, a server that does not answer is not waited for.
    pub cancel: Cancel,
}

/// Connecting takes several processes and some ten round trips, so that it gets at least so long.
const CONNECTING_LEAST: Duration = Duration::from_secs(20);

impl SftpOptions {
    /// For how long ssh may take to connect, without asking the user.
    fn connecting(&self) -> Duration {
        self.patience.max(CONNECTING_LEAST)
    }

    /// Whether to hear all answers before such a pause: an answer that nobody takes looks like a stall.
    fn is_long(&self, pause: Duration) -> bool {
        pause > self.patience / 4
    }
}

/// Waits, unless somebody asks to stop: what is under way then is finished without a limit.
async fn pace(pause: Duration, cancel: &Cancel) {
    let until = Instant::now() + pause;
    while cancel.check().is_ok() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_millis(100))).await;
    }
}

/// A store in a directory on a server. Files get the mode 0400 and directories 0700.
///
/// Unlike in a local directory, symbolic links on the way to an object are followed: the protocol knows no other
/// way to open a file.
pub struct SftpBackend {
    pool: Arc<Pool>,
    paths: Paths,
    location: String,
    /// One thread that moves bytes between pipes and requests. Behind the pool: what uses it goes first.
    runtime: Runtime,
}

impl std::fmt::Debug for SftpBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let location = &self.location;
        f.debug_struct("SftpBackend")
            .field("location", location)
            .finish_non_exhaustive()
    }
}

impl SftpBackend {
    /// Connects to the store in this directory. That there is no such directory is [`ErrorKind::NotFound`].
    pub fn open(options: SftpOptions) -> Result<Self, StorageError> {
        let backend = Self::new(options)?;
        let root = backend.paths.at("");
        backend.run(Operation::Open, "the repository", async || {
            let found = backend
                .pool
                .again(async |lead, _| lead.look_through(&root).await);
            if found.await?.is_directory() {
                Ok(())
            } else {
                Err(Fault::known(ErrorKind::NotFound, "it is not a directory"))
            }
        })?;
        Ok(backend)
    }

    /// As [`open`](Self::open), but makes the directory, and those above it, if need be. After a failure some
    /// of the directories may have been made.
    pub fn create(options: SftpOptions) -> Result<Self, StorageError> {
        let backend = Self::new(options)?;
        let root = backend.paths.at("");
        backend.run(Operation::Open, "the repository", async || {
            let made = backend
                .pool
                .again(async |lead, _| make_all(&lead, &root).await);
            made.await
        })?;
        Ok(backend)
    }

    fn new(options: SftpOptions) -> Result<Self, StorageError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sftp")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|source| StorageError {
            kind: ErrorKind::Io,
            operation: Operation::Open,
            object: "the repository".to_owned(),
            location: options.location.clone(),
            source: Some(source),
        })?;
        Ok(Self {
            paths: Paths::new(options.path.clone()),
            location: options.location.clone(),
            pool: Pool::new(options),
            runtime,
        })
    }

    /// Runs an operation to its end in this thread.
    fn run<T>(
        &self,
        operation: Operation,
        object: &str,
        work: impl AsyncFnOnce() -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.runtime.block_on(work()).map_err(|fault| StorageError {
            kind: fault.kind(),
            operation,
            object: object.to_owned(),
            location: self.location.clone(),
            source: Some(fault.into_source()),
        })
    }

    fn store(&self, name: &Name, parts: &[&[u8]], new: bool) -> Result<(), StorageError> {
        let upload = Upload {
            pool: &self.pool,
            paths: &self.paths,
            name: name.as_str(),
            directory: name.directory(),
            parts,
            new,
        };
        self.run(Operation::Put, name.as_str(), async || upload.run().await)
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
        self.run(Operation::Get, name.as_str(), async || {
            let got = self
                .pool
                .again(async |lead, _| download::get_spread(&self.pool, &lead, &path, limit).await);
            got.await
        })
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let path = self.paths.at(name.as_str());
        self.run(Operation::Get, name.as_str(), async || {
            let got = self.pool.again(async |lead, _| {
                download::get_range(&self.pool, &lead, &path, offset, buf).await
            });
            got.await
        })
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        let path = self.paths.at(name.as_str());
        self.run(Operation::Size, name.as_str(), async || {
            let found = self.pool.again(async |lead, _| lead.look(&path).await);
            let found = found.await?;
            if found.is_file() {
                Ok(found.size)
            } else {
                Err(Fault::known(
                    ErrorKind::NotFound,
                    "it is not a regular file",
                ))
            }
        })
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(Vec::new());
        }
        self.run(Operation::List, directory, async || {
            let found = self.pool.again(async |lead, _| {
                listing::objects(&self.pool, &lead, &self.paths, directory).await
            });
            let listed = |(name, found): (Name, connection::Attributes)| Listed {
                name,
                size: found.size,
                modified: SystemTime::UNIX_EPOCH + Duration::from_secs(found.modified),
            };
            Ok(found.await?.into_iter().map(listed).collect())
        })
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(Vec::new());
        }
        let path = self.paths.at(directory);
        self.run(Operation::List, directory, async || {
            let found = self
                .pool
                .again(async |lead, _| listing::read_directory(&lead, &path).await);
            let names = found.await?.into_iter();
            Ok(names
                .filter(|(name, found)| found.is_directory() && Name::new(name.as_str()).is_ok())
                .map(|(name, _)| name)
                .collect())
        })
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.run(Operation::Delete, name.as_str(), async || {
            let deleted = self.pool.again(async |lead, attempt| {
                match delete(&lead, &self.paths, name).await {
                    // The answer to the last attempt was lost.
                    Err(fault) if attempt > 0 && fault.kind() == ErrorKind::NotFound => Ok(()),
                    deleted => deleted,
                }
            });
            deleted.await
        })
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        if !directory.is_empty() && Name::new(directory).is_err() {
            return Ok(0);
        }
        // The protocol tells whole seconds.
        let age = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        self.run(Operation::Tidy, directory, async || {
            let removed = self.pool.again(async |lead, _| {
                listing::remove_leftovers(&self.pool, &lead, &self.paths, directory, age).await
            });
            removed.await
        })
    }
}

/// Removes an object, and makes that durable.
async fn delete(lead: &Lease, paths: &Paths, name: &Name) -> Result<(), Fault> {
    let path = paths.at(name.as_str());
    let directory = paths.at(name.directory());
    let mut opening = Window::new();
    if lead.extensions.fsync {
        opening.begin(lead.open_read(&directory)).await;
    }
    let removed = lead.remove(&path).await;
    let place = opening.next().await;
    match removed {
        Ok(()) => {}
        Err(fault) if fault.is(StatusCode::Failure) => {
            return Err(match lead.look(&path).await {
                Ok(found) if found.is_known() && !found.is_file() => {
                    Fault::known(ErrorKind::NotFound, "it is not a regular file")
                }
                _ => diagnose(lead, &directory, fault, 0).await,
            });
        }
        Err(fault) => return Err(fault),
    }
    match place {
        Some(Ok(place)) => place.sync().await,
        _ => Ok(()),
    }
}

/// Makes a directory and those above it.
async fn make_all(connection: &Connection, path: &str) -> Result<(), Fault> {
    let not_directory = || Fault::known(ErrorKind::NotFound, format!("{path} is not a directory"));
    let mut missing = vec![path];
    while let Some(&deepest) = missing.last() {
        match connection.look_through(deepest).await {
            Ok(found) if found.is_directory() => break,
            Ok(_) => return Err(not_directory()),
            Err(fault) if fault.is(StatusCode::NoSuchFile) => {}
            Err(fault) => return Err(fault),
        }
        match deepest.trim_end_matches('/').rsplit_once('/') {
            Some((above, _)) if !above.is_empty() => missing.push(above),
            _ => break,
        }
    }
    while let Some(path) = missing.pop() {
        match connection.make_directory(path).await {
            // It may be there already, or somebody else has just made it.
            Err(fault @ Fault::Refused(..)) => match connection.look_through(path).await {
                Ok(found) if found.is_directory() => {}
                _ => return Err(diagnose(connection, ".", fault, 0).await),
            },
            made => made?,
        }
    }
    Ok(())
}

/// Paths on the server, and which directories are known to be there.
struct Paths {
    root: String,
    known: Mutex<HashSet<String>>,
}

impl Paths {
    fn new(root: String) -> Self {
        Self {
            root,
            known: Mutex::default(),
        }
    }

    /// Where something in the store is.
    fn at(&self, path: &str) -> String {
        below(&self.root, path)
    }

    fn is_known(&self, directory: &str) -> bool {
        directory.is_empty() || self.lock().contains(directory)
    }

    fn remember(&self, directory: &str) {
        self.lock().insert(directory.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.known)
    }
}

/// The path of something in a directory.
fn below(directory: &str, path: &str) -> String {
    match (directory, path) {
        (directory, "") => directory.to_owned(),
        ("", path) => path.to_owned(),
        (directory, path) if directory.ends_with('/') => format!("{directory}{path}"),
        (directory, path) => format!("{directory}/{path}"),
    }
}
