//! Reads an object or a range of one. A large read uses all connections at once.

use std::slice::ChunksMut;
use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use crate::base::lock;

use super::connection::{Attributes, Connection, File};
use super::error::SftpError;
use super::options::WINDOW;
use super::pace::Pace;
use super::pool::{Pool, PooledConnection};
use super::window::{Window, all};
use crate::storage::error::StorageErrorKind;

/// A read of this number of bytes or more uses all connections.
const SPREAD_FROM: usize = 2 << 20;

/// Returns the whole object. Fails if it is longer than `limit` bytes. Uses one connection.
pub(super) async fn get(
    connection: &Arc<Connection>,
    pace: &Pace<'_>,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, SftpError> {
    let file = connection.open_read(path).await?;
    let (size, head) = begin(connection, &file, limit).await?;
    let size = within(size, limit)?;
    let mut bytes = zeroed(size)?;
    let known = head.len().min(size);
    bytes[..known].copy_from_slice(&head[..known]);
    let blocks = Blocks::new(&mut bytes[known..], known as u64, connection.block);
    fill_by(connection, pace, &file, &blocks).await?;
    Ok(bytes)
}

/// Returns the whole object like [`get`], through all connections if it is large.
pub(super) async fn get_spread(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    pace: &Pace<'_>,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, SftpError> {
    let file = first.open_read(path).await?;
    let (size, head) = begin(first, &file, limit).await?;
    let size = within(size, limit)?;
    let mut bytes = zeroed(size)?;
    let known = head.len().min(size);
    bytes[..known].copy_from_slice(&head[..known]);
    let source = Source { file, path };
    fill(pool, first, pace, source, &mut bytes[known..], known as u64).await?;
    Ok(bytes)
}

/// Fills `buf` with the bytes of the object from `offset` on.
pub(super) async fn get_range(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    pace: &Pace<'_>,
    path: &str,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), SftpError> {
    let file = first.open_read(path).await?;
    let end = offset.checked_add(buf.len() as u64);
    let beyond = end.is_none_or(|end| i64::try_from(end).is_err());
    if buf.is_empty() || beyond {
        require_regular(&file).await?;
        return if beyond && !buf.is_empty() {
            Err(truncated())
        } else {
            Ok(())
        };
    }
    fill(pool, first, pace, Source { file, path }, buf, offset).await
}

/// Returns the size of a file and its first bytes: at most `limit` bytes, and at most one block.
/// Both are requested at the same time.
async fn begin(
    connection: &Connection,
    file: &File,
    limit: u64,
) -> Result<(u64, Vec<u8>), SftpError> {
    let mut requests: Window<'_, Result<Answer, SftpError>> = Window::new();
    requests
        .begin(async { file.attributes().await.map(Answer::Attributes) })
        .await;
    let first = limit.min(connection.block as u64);
    if let Ok(first @ 1..) = u32::try_from(first) {
        requests
            .begin(async move { file.read(0, first).await.map(Answer::Head) })
            .await;
    }
    let mut size = 0;
    let mut head = Vec::new();
    while let Some(answer) = requests.next().await {
        match answer {
            Ok(Answer::Attributes(found)) if !found.is_file() => return Err(not_regular()),
            Ok(Answer::Attributes(found)) => size = found.size,
            Ok(Answer::Head(bytes)) => head = bytes,
            // The file is empty.
            Err(error) if error.is(StatusCode::Eof) => {}
            Err(error) => return Err(error.while_reading()),
        }
    }
    Ok((size, head))
}

enum Answer {
    Attributes(Attributes),
    Head(Vec<u8>),
}

fn within(size: u64, limit: u64) -> Result<usize, SftpError> {
    match usize::try_from(size) {
        Ok(len) if size <= limit => Ok(len),
        _ => {
            let text = format!("{size} bytes, where at most {limit} were expected");
            Err(SftpError::known(StorageErrorKind::TooLarge, text))
        }
    }
}

fn zeroed(size: usize) -> Result<Vec<u8>, SftpError> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size)
        .map_err(|error| SftpError::known(StorageErrorKind::Io, error.to_string()))?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Fails unless this is a regular file. A server may open directories like files.
async fn require_regular(file: &File) -> Result<(), SftpError> {
    if file.attributes().await?.is_file() {
        Ok(())
    } else {
        Err(not_regular())
    }
}

fn not_regular() -> SftpError {
    SftpError::known(StorageErrorKind::NotFound, "it is not a regular file")
}

fn truncated() -> SftpError {
    SftpError::known(
        StorageErrorKind::Truncated,
        "it ends before the requested range does",
    )
}

/// A file that the first connection has opened, and its path for the other connections.
struct Source<'a> {
    file: File,
    path: &'a str,
}

async fn fill(
    pool: &Arc<Pool>,
    first: &PooledConnection,
    pace: &Pace<'_>,
    source: Source<'_>,
    buf: &mut [u8],
    offset: u64,
) -> Result<(), SftpError> {
    let Source { file, path } = source;
    if buf.len() < SPREAD_FROM {
        let blocks = Blocks::new(buf, offset, first.block);
        return fill_by(first, pace, &file, &blocks).await;
    }
    let connections = pool.with_others(first);
    let least = connections.iter().map(|connection| connection.block).min();
    let blocks = Blocks::new(buf, offset, least.unwrap_or(first.block));
    let blocks = &blocks;
    let mut file = Some(file);
    let readers = connections.iter().map(|connection| {
        let file = file.take();
        async move {
            let file = match file {
                Some(file) => file,
                None => connection.open_read(path).await?,
            };
            fill_by(connection, pace, &file, blocks).await
        }
    });
    all(readers).await.into_iter().collect()
}

/// Takes blocks and reads them until none is left.
async fn fill_by(
    connection: &Arc<Connection>,
    pace: &Pace<'_>,
    file: &File,
    blocks: &Blocks<'_>,
) -> Result<(), SftpError> {
    let most = (WINDOW / connection.block).max(1);
    let mut window = Window::new();
    while let Some((offset, block)) = blocks.take() {
        let pause = pace.pause(block.len());
        let keep = if pace.is_long(pause) { 0 } else { most - 1 };
        drain(&mut window, keep, file).await?;
        pace.wait(pause).await;
        window.begin(read_block(file, offset, block)).await;
    }
    drain(&mut window, 0, file).await
}

/// Waits for answers until at most `keep` of them are outstanding.
async fn drain(
    window: &mut Window<'_, Result<(), SftpError>>,
    keep: usize,
    file: &File,
) -> Result<(), SftpError> {
    while window.len() > keep {
        match window.next().await {
            // Some servers open a directory like a file, but cannot read it.
            Some(Err(error)) if error.is(StatusCode::Failure) => {
                let not_regular = require_regular(file).await.err();
                return Err(not_regular.unwrap_or_else(|| error.while_reading()));
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(())) | None => {}
        }
    }
    Ok(())
}

async fn read_block(file: &File, mut offset: u64, mut into: &mut [u8]) -> Result<(), SftpError> {
    while !into.is_empty() {
        let len = u32::try_from(into.len()).unwrap_or(u32::MAX);
        let bytes = match file.read(offset, len).await {
            Err(error) if error.is(StatusCode::Eof) => return Err(truncated()),
            bytes => bytes?,
        };
        let (filled, rest) = into.split_at_mut(bytes.len());
        filled.copy_from_slice(&bytes);
        offset += bytes.len() as u64;
        into = rest;
    }
    Ok(())
}

/// A buffer that several connections fill. Each takes the next block when it is ready for one.
struct Blocks<'a>(Mutex<(u64, ChunksMut<'a, u8>)>);

impl<'a> Blocks<'a> {
    fn new(buf: &'a mut [u8], offset: u64, block: usize) -> Self {
        Self(Mutex::new((offset, buf.chunks_mut(block.max(1)))))
    }

    fn take(&self) -> Option<(u64, &'a mut [u8])> {
        let mut rest = lock(&self.0);
        let block = rest.1.next()?;
        let offset = rest.0;
        rest.0 += block.len() as u64;
        Some((offset, block))
    }
}
