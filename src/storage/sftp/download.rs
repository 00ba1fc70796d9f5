//! Getting an object or a range of one, by all connections at once if it is large.

use std::slice::ChunksMut;
use std::sync::{Arc, Mutex};

use russh_sftp::protocol::StatusCode;

use crate::base::lock;

use super::super::ErrorKind;
use super::connection::{Connection, File};
use super::fault::Fault;
use super::pool::{Lease, Pool};
use super::window::{Window, all};
use super::{SftpOptions, WINDOW, pace};

/// From this size on, a read is worth all connections.
const SPREAD_FROM: usize = 2 << 20;

/// The whole object, if it is at most `limit` bytes long.
pub(super) async fn get(
    connection: &Arc<Connection>,
    options: &SftpOptions,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, Fault> {
    let file = connection.open_read(path).await?;
    let (size, head) = begin(connection, &file, limit).await?;
    let size = within(size, limit)?;
    let mut bytes = zeroed(size)?;
    let known = head.len().min(size);
    bytes[..known].copy_from_slice(&head[..known]);
    let blocks = Blocks::new(&mut bytes[known..], known as u64, connection.block);
    fill_by(connection, options, &file, &blocks).await?;
    Ok(bytes)
}

/// As [`get`], by all connections if it is worth that.
pub(super) async fn get_spread(
    pool: &Arc<Pool>,
    lead: &Lease,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, Fault> {
    let file = lead.open_read(path).await?;
    let (size, head) = begin(lead, &file, limit).await?;
    let size = within(size, limit)?;
    let mut bytes = zeroed(size)?;
    let known = head.len().min(size);
    bytes[..known].copy_from_slice(&head[..known]);
    fill(pool, lead, file, path, &mut bytes[known..], known as u64).await?;
    Ok(bytes)
}

/// Fills `buf` from `offset` on.
pub(super) async fn get_range(
    pool: &Arc<Pool>,
    lead: &Lease,
    path: &str,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), Fault> {
    let file = lead.open_read(path).await?;
    let end = offset.checked_add(buf.len() as u64);
    let beyond = end.is_none_or(|end| i64::try_from(end).is_err());
    if buf.is_empty() || beyond {
        regular(&file).await?;
        return if beyond && !buf.is_empty() {
            Err(truncated())
        } else {
            Ok(())
        };
    }
    fill(pool, lead, file, path, buf, offset).await
}

/// The size, and the first bytes of what is there, asked for at the same time.
async fn begin(connection: &Connection, file: &File, limit: u64) -> Result<(u64, Vec<u8>), Fault> {
    let mut both: Window<'_, Result<Answer, Fault>> = Window::new();
    both.begin(async { file.look().await.map(Answer::Look) })
        .await;
    let first = limit.min(connection.block as u64);
    if let Ok(first @ 1..) = u32::try_from(first) {
        both.begin(async move { file.read(0, first).await.map(Answer::Head) })
            .await;
    }
    let mut size = 0;
    let mut head = Vec::new();
    while let Some(answer) = both.next().await {
        match answer {
            Ok(Answer::Look(found)) if !found.is_file() => return Err(no_object()),
            Ok(Answer::Look(found)) => size = found.size,
            Ok(Answer::Head(bytes)) => head = bytes,
            // Empty.
            Err(fault) if fault.is(StatusCode::Eof) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok((size, head))
}

enum Answer {
    Look(super::connection::Attributes),
    Head(Vec<u8>),
}

fn within(size: u64, limit: u64) -> Result<usize, Fault> {
    match usize::try_from(size) {
        Ok(len) if size <= limit => Ok(len),
        _ => {
            let text = format!("{size} bytes, where at most {limit} were expected");
            Err(Fault::known(ErrorKind::TooLarge, text))
        }
    }
}

fn zeroed(size: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size)
        .map_err(|error| Fault::known(ErrorKind::Io, error.to_string()))?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// That this is no directory or the like, which can be opened too.
async fn regular(file: &File) -> Result<(), Fault> {
    if file.look().await?.is_file() {
        Ok(())
    } else {
        Err(no_object())
    }
}

fn no_object() -> Fault {
    Fault::known(ErrorKind::NotFound, "it is not a regular file")
}

fn truncated() -> Fault {
    Fault::known(ErrorKind::Truncated, "it ends before that")
}

async fn fill(
    pool: &Arc<Pool>,
    lead: &Lease,
    file: File,
    path: &str,
    buf: &mut [u8],
    offset: u64,
) -> Result<(), Fault> {
    let options = pool.options();
    if buf.len() < SPREAD_FROM {
        let blocks = Blocks::new(buf, offset, lead.block);
        return fill_by(lead, options, &file, &blocks).await;
    }
    let connections = pool.with_others(lead);
    let least = connections.iter().map(|connection| connection.block).min();
    let blocks = Blocks::new(buf, offset, least.unwrap_or(lead.block));
    let blocks = &blocks;
    let mut file = Some(file);
    let readers = connections.iter().map(|connection| {
        let file = file.take();
        async move {
            let file = match file {
                Some(file) => file,
                None => connection.open_read(path).await?,
            };
            fill_by(connection, options, &file, blocks).await
        }
    });
    all(readers).await.into_iter().collect()
}

/// Takes blocks and reads them as long as there are some.
async fn fill_by(
    connection: &Arc<Connection>,
    options: &SftpOptions,
    file: &File,
    blocks: &Blocks<'_>,
) -> Result<(), Fault> {
    let most = (WINDOW / connection.block).max(1);
    let mut window = Window::new();
    while let Some((offset, block)) = blocks.take() {
        let pause = options.limits.download.pause(block.len() as u64);
        let keep = if options.is_long(pause) { 0 } else { most - 1 };
        drain(&mut window, keep, file).await?;
        pace(pause, &options.cancel).await;
        window.begin(read_block(file, offset, block)).await;
    }
    drain(&mut window, 0, file).await
}

/// Takes answers until no more than `keep` are outstanding.
async fn drain(
    window: &mut Window<'_, Result<(), Fault>>,
    keep: usize,
    file: &File,
) -> Result<(), Fault> {
    while window.len() > keep {
        match window.next().await {
            // A directory can be opened, but not read.
            Some(Err(fault)) if fault.is(StatusCode::Failure) => {
                return Err(regular(file).await.err().unwrap_or(fault));
            }
            Some(Err(fault)) => return Err(fault),
            Some(Ok(())) | None => {}
        }
    }
    Ok(())
}

async fn read_block(file: &File, mut offset: u64, mut into: &mut [u8]) -> Result<(), Fault> {
    while !into.is_empty() {
        let len = u32::try_from(into.len()).unwrap_or(u32::MAX);
        let bytes = match file.read(offset, len).await {
            Err(fault) if fault.is(StatusCode::Eof) => return Err(truncated()),
            bytes => bytes?,
        };
        let (filled, rest) = into.split_at_mut(bytes.len());
        filled.copy_from_slice(&bytes);
        offset += bytes.len() as u64;
        into = rest;
    }
    Ok(())
}

/// A buffer, dealt out in blocks to whoever has room for one.
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
