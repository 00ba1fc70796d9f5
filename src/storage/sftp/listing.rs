//! What is in directories: many of them at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use crate::base::lock;

use super::super::{ErrorKind, Name, temporary};
use super::connection::{Attributes, Connection};
use super::fault::Fault;
use super::pool::{Lease, Pool};
use super::upload::is_leftover;
use super::window::{Window, all};
use super::{Paths, below};

/// Directories that are read at the same time on one connection. Each takes a handle, see
/// [`File`](super::connection::File).
const AT_ONCE: usize = 32;
/// Requests for names of one directory that are sent at first: one for names, one to hear that there are no more. They
/// become more by the same factor each time, since OpenSSH answers with no more than a hundred names.
const AHEAD: usize = 2;
const AHEAD_MORE: usize = 4;
const AHEAD_MOST: usize = 64;
/// Names that a directory may have. What a server goes on telling without end must not fill the memory.
const NAMES_MAX: usize = 10 << 20;

/// What is in a directory; nothing if there is none.
pub(super) async fn read_directory(
    connection: &Arc<Connection>,
    path: &str,
) -> Result<Vec<(String, Attributes)>, Fault> {
    let directory = match connection.open_directory(path).await {
        Err(fault) if fault.is(StatusCode::NoSuchFile) => return Ok(Vec::new()),
        // Some servers say no more of what is no directory.
        Err(fault) if fault.is(StatusCode::Failure) => {
            return match connection.look(path).await {
                Ok(found) if found.is_known() && !found.is_directory() => Ok(Vec::new()),
                _ => Err(fault),
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
                // Some servers end it so.
                Ok(next) if next.is_empty() => more = false,
                Ok(next) => names.extend(next),
                Err(fault) if fault.is(StatusCode::Eof) => more = false,
                // It was removed meanwhile.
                Err(fault) if fault.is(StatusCode::NoSuchFile) => more = false,
                Err(fault) => return Err(fault),
            }
            if names.len() > NAMES_MAX {
                return Err(Fault::known(ErrorKind::TooLarge, "it has too many names"));
            }
        }
        ahead = AHEAD_MOST.min(ahead * AHEAD_MORE);
    }
    for (name, attributes) in &mut names {
        if !attributes.is_known() && name != "." && name != ".." {
            match connection.look(&below(path, name)).await {
                Err(fault) if fault.is(StatusCode::NoSuchFile) => {}
                found => *attributes = found?,
            }
        }
    }
    Ok(names)
}

/// Every file below a directory that could be an object or on its way to be one, at any depth: its path in the
/// store, and what it is. A level at a time, since each costs two round trips however many there are.
async fn walk(
    pool: &Arc<Pool>,
    lead: &Lease,
    paths: &Paths,
    directory: &str,
) -> Result<Vec<(String, Attributes)>, Fault> {
    let found = Mutex::new(Vec::new());
    let mut level = vec![directory.to_owned()];
    while !level.is_empty() {
        let deeper = Mutex::new(Vec::new());
        let connections = if level.len() > 1 {
            pool.with_others(lead)
        } else {
            Vec::new()
        };
        let connection = |worker: usize| match connections.len() {
            0 => Arc::clone(lead),
            n => Arc::clone(&connections[worker % n]),
        };
        let next = AtomicUsize::new(0);
        let workers = level.len().min(AT_ONCE * connections.len().max(1));
        let (level_, next, deeper_, found_) = (&level, &next, &deeper, &found);
        let results = all((0..workers).map(|worker| {
            let connection = connection(worker);
            async move {
                while let Some(directory) = level_.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let names = read_directory(&connection, &paths.at(directory)).await?;
                    for (last, attributes) in names {
                        let path = below(directory, &last);
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
        results.await.into_iter().collect::<Result<(), Fault>>()?;
        level = std::mem::take(&mut *lock(&deeper));
    }
    Ok(std::mem::take(&mut *lock(&found)))
}

/// All objects below a directory.
pub(super) async fn objects(
    pool: &Arc<Pool>,
    lead: &Lease,
    paths: &Paths,
    directory: &str,
) -> Result<Vec<(Name, Attributes)>, Fault> {
    let found = walk(pool, lead, paths, directory).await?;
    let named = found.into_iter();
    Ok(named
        .filter_map(|(path, attributes)| Some((Name::new(path).ok()?, attributes)))
        .collect())
}

/// Removes what uploads have left that were last written `age` seconds ago or earlier.
pub(super) async fn remove_leftovers(
    pool: &Arc<Pool>,
    lead: &Lease,
    paths: &Paths,
    directory: &str,
    age: u64,
) -> Result<u64, Fault> {
    let mut found = walk(pool, lead, paths, directory).await?;
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    found.retain(|(path, _)| temporary::is_name(last(path).as_bytes()));
    if found.is_empty() {
        return Ok(0);
    }
    let now = clock(lead, paths).await?;
    found.retain(|(path, attributes)| is_leftover(&last(path), attributes, now, age));
    let next = AtomicUsize::new(0);
    let (found, next) = (&found, &next);
    let removers = (0..found.len().min(AT_ONCE)).map(|_| async move {
        let mut removed = 0;
        while let Some((path, _)) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            match lead.remove(&paths.at(path)).await {
                // Its upload lives, and has come to its end.
                Err(fault) if fault.is(StatusCode::NoSuchFile) => {}
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

/// The time by the server's clock, as it is written beside files.
async fn clock(lead: &Lease, paths: &Paths) -> Result<u64, Fault> {
    let name = temporary::new_name().map_err(|e| Fault::known(ErrorKind::Io, e.to_string()))?;
    let path = paths.at(&name);
    let probe = lead.open_new(&path).await?;
    let found = probe.look().await;
    let removed = lead.remove(&path).await;
    let now = found?.modified;
    removed?;
    Ok(now)
}
