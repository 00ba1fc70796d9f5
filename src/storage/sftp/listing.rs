//! Reads directories, many at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use crate::base::lock;

use super::connection::{Attributes, Connection};
use super::error::SftpError;
use super::paths::{Paths, join};
use super::pool::{Pool, PooledConnection};
use super::window::{Window, all};
use crate::storage::error::StorageErrorKind;
use crate::storage::name::Name;
use crate::storage::temporary;

/// The maximum number of directories read at the same time on one connection. Each takes a handle.
/// The crate russh-sftp reads OpenSSH's handles only while fewer than 128 are open: it requires
/// text, and numbers below 128 are valid text.
const AT_ONCE: usize = 32;
/// The number of requests for names in the first round for a directory. The first request gets
/// names, the second the answer that there are no more. OpenSSH answers each request with at most a
/// hundred names. So each further round sends [`AHEAD_MORE`] times as many requests, at most
/// [`AHEAD_MAX`].
const AHEAD: usize = 2;
const AHEAD_MORE: usize = 4;
const AHEAD_MAX: usize = 64;
/// The maximum number of bytes that the names of one listing may take in memory, in all its
/// directories. An endless listing from a server must not fill the memory. The maximum is enough
/// for 4 million packs, or some 100 TiB.
const BYTES_MAX: usize = 512 << 20;
/// The number of bytes that each name takes in memory, in addition to its length.
const NAME_COST: usize = 64;
/// The maximum length of a name, in bytes. No file system has longer names.
const NAME_LEN_MAX: usize = 255;

/// The bytes that the names of a listing may still take.
pub(super) struct Allowance(AtomicUsize);

impl Allowance {
    /// Returns the allowance of one listing: [`BYTES_MAX`].
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(BYTES_MAX))
    }

    /// Counts a name. Fails if the name is too long, or the listing has too many names.
    fn take(&self, name: &str) -> Result<(), SftpError> {
        let too_large = |why| Err(SftpError::known(StorageErrorKind::TooLarge, why));
        if name.len() > NAME_LEN_MAX {
            return too_large("the server lists a name that is too long");
        }
        let cost = name.len() + NAME_COST;
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(cost)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(_) => too_large("the server lists too many names"),
        }
    }
}

/// Returns the names in a directory with their attributes. Returns an empty list if there is no
/// such directory. Counts the names in `allowance`.
pub(super) async fn read_directory(
    connection: &Arc<Connection>,
    path: &str,
    allowance: &Allowance,
) -> Result<Vec<(String, Attributes)>, SftpError> {
    let directory = match connection.open_directory(path).await {
        Err(error) if error.is(StatusCode::NoSuchFile) => return Ok(Vec::new()),
        // For a file, some servers answer only with this general status.
        Err(error) if error.is(StatusCode::Failure) => {
            return match connection.attributes(path).await {
                Ok(found) if found.is_known() && !found.is_directory() => Ok(Vec::new()),
                _ => Err(error),
            };
        }
        directory => directory?,
    };
    let mut names = Vec::new();
    let mut ahead = AHEAD;
    let mut more = true;
    while more {
        let mut window = Window::new();
        for _ in 0..ahead {
            window.begin(directory.names()).await;
        }
        while let Some(answer) = window.next().await {
            match answer {
                // Some servers end a listing with an answer without names.
                Ok(next) if next.is_empty() => more = false,
                Ok(next) => {
                    next.iter().try_for_each(|(name, _)| allowance.take(name))?;
                    names.extend(next);
                }
                Err(error) if error.is(StatusCode::Eof) => more = false,
                // The directory was removed meanwhile.
                Err(error) if error.is(StatusCode::NoSuchFile) => more = false,
                Err(error) => return Err(error),
            }
        }
        ahead = AHEAD_MAX.min(ahead * AHEAD_MORE);
    }
    for (name, attributes) in &mut names {
        if !attributes.is_known() && name != "." && name != ".." {
            match connection.attributes(&join(path, name)).await {
                Err(error) if error.is(StatusCode::NoSuchFile) => {}
                found => *attributes = found?,
            }
        }
    }
    Ok(names)
}

/// Returns the path in the store and the attributes of every object and temporary file below a
/// directory, at any depth. Reads one level of directories after the other, and up to [`AT_ONCE`]
/// directories of a level at the same time on each connection. A directory takes two round trips,
/// or more if it has many names.
async fn walk(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    paths: &Paths,
    directory: &str,
) -> Result<Vec<(String, Attributes)>, SftpError> {
    let found = Mutex::new(Vec::new());
    let allowance = Allowance::new();
    let mut level = vec![directory.to_owned()];
    while !level.is_empty() {
        let deeper = Mutex::new(Vec::new());
        let connections = if level.len() > 1 {
            pool.with_others(first)
        } else {
            Vec::new()
        };
        let connection = |worker: usize| match connections.len() {
            0 => Arc::clone(first),
            n => Arc::clone(&connections[worker % n]),
        };
        let next = AtomicUsize::new(0);
        let workers = level.len().min(AT_ONCE * connections.len().max(1));
        let (level_, next, deeper_, found_) = (&level, &next, &deeper, &found);
        let allowance = &allowance;
        let results = all((0..workers).map(|worker| {
            let connection = connection(worker);
            async move {
                while let Some(directory) = level_.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let names =
                        read_directory(&connection, &paths.at(directory), allowance).await?;
                    for (last, attributes) in names {
                        let path = join(directory, &last);
                        if attributes.is_directory() {
                            if Name::new(path.as_str()).is_ok() {
                                lock(deeper_).push(path);
                            }
                        } else if attributes.is_file()
                            && (temporary::is_name(last.as_bytes())
                                || Name::new(path.as_str()).is_ok())
                        {
                            lock(found_).push((path, attributes));
                        }
                    }
                }
                Ok(())
            }
        }));
        results
            .await
            .into_iter()
            .collect::<Result<(), SftpError>>()?;
        level = std::mem::take(&mut *lock(&deeper));
    }
    Ok(std::mem::take(&mut *lock(&found)))
}

/// Returns all objects below a directory.
pub(super) async fn objects(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    paths: &Paths,
    directory: &str,
) -> Result<Vec<(Name, Attributes)>, SftpError> {
    let found = walk(pool, first, paths, directory).await?;
    let named = found.into_iter();
    Ok(named
        .filter_map(|(path, attributes)| Some((Name::new(path).ok()?, attributes)))
        .collect())
}

/// Removes temporary files below a directory that were last written `age` seconds ago or earlier.
/// Returns the number of removed files.
pub(super) async fn remove_leftovers(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    paths: &Paths,
    directory: &str,
    age: u64,
) -> Result<u64, SftpError> {
    let mut found = walk(pool, first, paths, directory).await?;
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    found.retain(|(path, _)| temporary::is_name(last(path).as_bytes()));
    if found.is_empty() {
        return Ok(0);
    }
    let now = clock(first, paths).await?;
    found.retain(|(_, attributes)| {
        attributes.is_file() && now.saturating_sub(attributes.modified) >= age
    });
    let next = AtomicUsize::new(0);
    let (found, next) = (&found, &next);
    let removers = (0..found.len().min(AT_ONCE)).map(|_| async move {
        let mut removed = 0;
        while let Some((path, _)) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            match first.remove(&paths.at(path)).await {
                // The upload was still running, and has finished just now.
                Err(error) if error.is(StatusCode::NoSuchFile) => {}
                done => {
                    done?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    });
    all(removers).await.into_iter().sum()
}

/// Returns the time by the server's clock, in seconds since 1970-01-01 UTC: the time of a new file.
async fn clock(first: &PooledConnection, paths: &Paths) -> Result<u64, SftpError> {
    let name =
        temporary::new_name().map_err(|e| SftpError::known(StorageErrorKind::Io, e.to_string()))?;
    let path = paths.at(&name);
    let probe = first.open_new(&path).await?;
    let found = probe.attributes().await;
    let removed = first.remove(&path).await;
    let now = found?.modified;
    removed?;
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_fails_at_a_long_name_or_at_too_many_names() {
        let allowance = Allowance::new();
        allowance.take(&"x".repeat(NAME_LEN_MAX)).unwrap();
        allowance.take(&"x".repeat(NAME_LEN_MAX + 1)).unwrap_err();
        let name = "x".repeat(NAME_COST);
        let mut names = 1;
        while allowance.take(&name).is_ok() {
            names += 1;
        }
        assert_eq!(names, BYTES_MAX / (2 * NAME_COST) - 2);
    }
}
