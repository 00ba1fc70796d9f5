//! One connection: requests and answers, what the server can do, and a watch that ends it when nothing moves.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::client::{Config, RawSftpSession, error::Error};
use russh_sftp::extensions::Statvfs;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use tokio::runtime::Handle;

use crate::base::{Cancel, lock};

use super::super::ErrorKind;
use super::SftpOptions;
use super::fault::Fault;
use super::ssh::Ssh;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
/// What every server takes in one request (section 3 of the draft).
const BLOCK_DEFAULT: u64 = 32 << 10;
/// The most that one request carries, if the server allows it: OpenSSH allows 255 KiB.
const BLOCK_MAX: u64 = 255 << 10;
/// For how long a user may think about a passphrase. A server (`LoginGraceTime`) rarely gives as much.
const ASKING: Duration = Duration::from_mins(3);
/// How long a connection may still stall once somebody has asked to stop.
const PATIENCE_WHEN_CANCELLED: Duration = Duration::from_secs(3);
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const TYPE_MASK: u32 = 0o170_000;

/// What a server offers beyond version 3 of the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extensions {
    pub(super) posix_rename: bool,
    pub(super) hardlink: bool,
    pub(super) fsync: bool,
    pub(super) statvfs: bool,
}

/// A session with a server.
pub(super) struct Connection {
    session: RawSftpSession,
    ssh: Arc<Ssh>,
    state: Arc<State>,
    pub(super) extensions: Extensions,
    /// Bytes that one read or write carries.
    pub(super) block: usize,
    /// Operations that use it now.
    pub(super) users: AtomicUsize,
}

#[derive(Default)]
struct State {
    lost: AtomicBool,
    /// Why, where that is known here.
    why: Mutex<Option<String>>,
}

impl State {
    fn lose(&self, why: String) {
        let mut known = lock(&self.why);
        known.get_or_insert(why);
        self.lost.store(true, Ordering::SeqCst);
    }
}

impl Connection {
    /// Connects. `may_ask` lets ssh ask the user on the terminal.
    pub(super) async fn open(options: &SftpOptions, may_ask: bool) -> Result<Arc<Self>, Fault> {
        let (ssh, pipes) = Ssh::start(options, may_ask)
            .map_err(|error| Fault::known(ErrorKind::NoProgram, format!("/bin/sh: {error}")))?;
        let config = Config {
            // The watch below sees whether bytes move; time alone says nothing on a slow link.
            request_timeout_secs: u64::MAX,
            ..Config::default()
        };
        let session = RawSftpSession::new_with_config(pipes, config);
        let limit = if may_ask {
            options.connecting().max(ASKING)
        } else {
            options.connecting()
        };
        let version = match within(limit, &options.cancel, ssh.answer(session.init())).await {
            Ok(Ok(version)) => version,
            Ok(Err(_)) => return Err(not_connected(&ssh).await),
            Err(late) => {
                ssh.kill();
                return Err(Fault::Lost(match late {
                    Late::Cancelled => "interrupted".to_owned(),
                    Late::Timeout => format!("no connection within {} s", limit.as_secs()),
                }));
            }
        };
        let has = |name: &str| version.extensions.contains_key(name);
        let mut connection = Self {
            extensions: Extensions {
                posix_rename: has(POSIX_RENAME),
                hardlink: has("hardlink@openssh.com"),
                fsync: has("fsync@openssh.com"),
                statvfs: has("statvfs@openssh.com"),
            },
            block: 0,
            session,
            ssh,
            state: Arc::default(),
            users: AtomicUsize::new(0),
        };
        tokio::spawn(watch(
            Arc::downgrade(&connection.ssh),
            Arc::downgrade(&connection.state),
            options.patience,
            options.cancel.clone(),
        ));
        let mut block = BLOCK_DEFAULT;
        if has("limits@openssh.com") {
            let limits = connection.ask(connection.session.limits()).await?;
            let least = [limits.max_read_len, limits.max_write_len];
            let least = least.into_iter().filter(|limit| *limit > 0).min();
            block = least.unwrap_or(block).clamp(1 << 10, BLOCK_MAX);
        }
        connection.block = usize::try_from(block).unwrap_or(32 << 10);
        Ok(Arc::new(connection))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::SeqCst)
    }

    async fn ask<T>(&self, request: impl Future<Output = SftpResult<T>>) -> Result<T, Fault> {
        let waiting = self.ssh.wait();
        let answer = self.ssh.answer(request).await;
        drop(waiting);
        match answer {
            Ok(answer) => Ok(answer),
            Err(Error::Status(status)) => {
                Err(Fault::Refused(status.status_code, status.error_message))
            }
            Err(error) => Err(self.lost(&error).await),
        }
    }

    /// The connection is of no more use. Says why.
    async fn lost(&self, error: &Error) -> Fault {
        if !self.is_lost() {
            let status = self.ssh.end(Duration::from_millis(500)).await;
            let words = self.ssh.words();
            self.state.lose(match status {
                _ if !words.is_empty() => words,
                Some(status) => format!("ssh has ended ({status})"),
                None => error.to_string(),
            });
        }
        let why = lock(&self.state.why);
        Fault::Lost(why.clone().unwrap_or_default())
    }

    /// A new file, to be written. Fails if there is one.
    pub(super) async fn open_new(self: &Arc<Self>, path: &str) -> Result<File, Fault> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        self.open_file(path, flags, mode(0o600)).await
    }

    /// A file that is there, to be written.
    pub(super) async fn open_write(self: &Arc<Self>, path: &str) -> Result<File, Fault> {
        self.open_file(path, OpenFlags::WRITE, FileAttributes::empty())
            .await
    }

    /// A file, or on some servers a directory.
    pub(super) async fn open_read(self: &Arc<Self>, path: &str) -> Result<File, Fault> {
        self.open_file(path, OpenFlags::READ, FileAttributes::empty())
            .await
    }

    async fn open_file(
        self: &Arc<Self>,
        path: &str,
        flags: OpenFlags,
        attributes: FileAttributes,
    ) -> Result<File, Fault> {
        let opened = self.ask(self.session.open(path, flags, attributes)).await?;
        File::new(self, opened.handle)
    }

    pub(super) async fn open_directory(self: &Arc<Self>, path: &str) -> Result<File, Fault> {
        let opened = self.ask(self.session.opendir(path)).await?;
        File::new(self, opened.handle)
    }

    /// What is there, whatever a symbolic link may point to.
    pub(super) async fn look(&self, path: &str) -> Result<Attributes, Fault> {
        let found = self.ask(self.session.lstat(path)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    /// What is there, behind symbolic links.
    pub(super) async fn look_through(&self, path: &str) -> Result<Attributes, Fault> {
        let found = self.ask(self.session.stat(path)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    pub(super) async fn make_directory(&self, path: &str) -> Result<(), Fault> {
        let made = self.ask(self.session.mkdir(path, mode(0o700))).await;
        made.map(drop)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), Fault> {
        self.ask(self.session.remove(path)).await.map(drop)
    }

    /// Fails if the new name is taken, as the protocol has it.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        self.ask(self.session.rename(from, to)).await.map(drop)
    }

    /// Replaces what has the new name.
    pub(super) async fn rename_over(&self, from: &str, to: &str) -> Result<(), Fault> {
        let mut both = Vec::with_capacity(8 + from.len() + to.len());
        for path in [from, to] {
            both.extend(u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes());
            both.extend_from_slice(path.as_bytes());
        }
        match self.ask(self.session.extended(POSIX_RENAME, both)).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(Fault::Refused(status.status_code, status.error_message)),
            _ => Err(Fault::known(
                ErrorKind::Io,
                "the server's answer makes no sense",
            )),
        }
    }

    /// Fails if the new name is taken.
    pub(super) async fn link(&self, from: &str, to: &str) -> Result<(), Fault> {
        self.ask(self.session.hardlink(from, to)).await.map(drop)
    }

    pub(super) async fn space(&self, path: &str) -> Result<Statvfs, Fault> {
        self.ask(self.session.statvfs(path)).await
    }

    /// Removes a file that may be there, without waiting for it.
    pub(super) fn remove_later(self: &Arc<Self>, path: String) {
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            // It is a leftover at worst, and those are looked for.
            let _ = connection.remove(&path).await;
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // All that was promised is done, and nobody waits for the rest.
        self.ssh.kill();
    }
}

fn mode(bits: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(bits),
        ..FileAttributes::empty()
    }
}

/// What a server says of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) size: u64,
    /// Seconds since 1970, by the server's clock.
    pub(super) modified: u64,
    mode: Option<u32>,
}

impl Attributes {
    pub(super) fn of(attributes: &FileAttributes) -> Self {
        Self {
            size: attributes.size.unwrap_or(0),
            modified: attributes.mtime.unwrap_or(0).into(),
            mode: attributes.permissions,
        }
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode.is_none_or(|mode| mode & TYPE_MASK == REGULAR)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK == DIRECTORY)
    }

    pub(super) fn is_known(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK != 0)
    }
}

/// An open file or directory. Dropped, it is closed without waiting for it.
pub(super) struct File {
    connection: Arc<Connection>,
    handle: String,
    closed: AtomicBool,
}

impl File {
    fn new(connection: &Arc<Connection>, handle: String) -> Result<Self, Fault> {
        // The library takes handles for text. OpenSSH counts up from 0 and reuses them, so that it is below 128 as
        // long as there are fewer open.
        if handle.contains('\u{fffd}') {
            let text = "the server's handles of open files cannot be used: they are not text";
            return Err(Fault::known(ErrorKind::Io, text));
        }
        Ok(Self {
            connection: Arc::clone(connection),
            handle,
            closed: AtomicBool::new(false),
        })
    }

    pub(super) async fn write(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Fault> {
        let session = &self.connection.session;
        let written = self
            .connection
            .ask(session.write(&self.handle, offset, bytes));
        written.await.map(drop)
    }

    /// At most `len` bytes; fewer if the server likes, and [`StatusCode::Eof`] at the end.
    pub(super) async fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        let session = &self.connection.session;
        let read = self.connection.ask(session.read(&self.handle, offset, len));
        let data = read.await?.data;
        if data.is_empty() || data.len() > len as usize {
            return Err(Fault::known(
                ErrorKind::Io,
                "the server's answer makes no sense",
            ));
        }
        Ok(data)
    }

    pub(super) async fn look(&self) -> Result<Attributes, Fault> {
        let session = &self.connection.session;
        let found = self.connection.ask(session.fstat(&self.handle)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    /// Nobody is to write it again.
    pub(super) async fn protect(&self) -> Result<(), Fault> {
        let session = &self.connection.session;
        let set = session.fsetstat(&self.handle, mode(0o400));
        self.connection.ask(set).await.map(drop)
    }

    /// Waits for the server's disk, where the server can be told to.
    pub(super) async fn sync(&self) -> Result<(), Fault> {
        if !self.connection.extensions.fsync {
            return Ok(());
        }
        let session = &self.connection.session;
        self.connection
            .ask(session.fsync(&self.handle))
            .await
            .map(drop)
    }

    /// The next names in a directory; [`StatusCode::Eof`] behind the last one.
    pub(super) async fn names(&self) -> Result<Vec<(String, Attributes)>, Fault> {
        let session = &self.connection.session;
        let names = self.connection.ask(session.readdir(&self.handle)).await?;
        let files = names.files.into_iter();
        Ok(files
            .map(|file| {
                let attributes = Attributes::of(&file.attrs);
                (file.filename, attributes)
            })
            .collect())
    }

    pub(super) async fn close(&self) -> Result<(), Fault> {
        self.closed.store(true, Ordering::SeqCst);
        let close = self.connection.session.close(&self.handle);
        self.connection.ask(close).await.map(drop)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.closed.load(Ordering::SeqCst) || self.connection.is_lost() {
            return;
        }
        let connection = Arc::clone(&self.connection);
        let handle = std::mem::take(&mut self.handle);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { connection.ask(connection.session.close(handle)).await });
        }
    }
}

/// Ends ssh once a request has waited for too long without a byte moving.
async fn watch(ssh: Weak<Ssh>, state: Weak<State>, patience: Duration, cancel: Cancel) {
    let pause = (patience / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        tokio::time::sleep(pause).await;
        let (Some(ssh), Some(state)) = (ssh.upgrade(), state.upgrade()) else {
            return;
        };
        if state.lost.load(Ordering::SeqCst) {
            return;
        }
        let cancelled = cancel.check().is_err();
        let patience = if cancelled {
            patience.min(PATIENCE_WHEN_CANCELLED)
        } else {
            patience
        };
        if ssh.stalled_for() > patience {
            let seconds = patience.as_secs_f32();
            state.lose(format!("the server has not answered for {seconds:.0} s"));
            ssh.kill();
            return;
        }
    }
}

enum Late {
    Timeout,
    Cancelled,
}

/// Waits for a future, but not longer than `limit`, nor when somebody asks to stop.
async fn within<T>(
    limit: Duration,
    cancel: &Cancel,
    future: impl Future<Output = T>,
) -> Result<T, Late> {
    let mut future = pin!(future);
    let until = Instant::now() + limit;
    loop {
        let slice = Duration::from_millis(100);
        if let Ok(output) = tokio::time::timeout(slice, future.as_mut()).await {
            return Ok(output);
        }
        if cancel.check().is_err() {
            return Err(Late::Cancelled);
        }
        if Instant::now() >= until {
            return Err(Late::Timeout);
        }
    }
}

/// Why ssh has ended before the server spoke. Only its words tell.
async fn not_connected(ssh: &Ssh) -> Fault {
    let status = ssh.end(Duration::from_secs(5)).await;
    let words = ssh.words();
    let code = status.and_then(|status| status.code());
    let said = |what: &str| words.contains(what);
    if let Some(126 | 127) = code {
        return Fault::known(ErrorKind::NoProgram, words);
    }
    if said("Host key verification failed")
        || said("Permission denied (")
        || said("Too many authentication failures")
        || said("REMOTE HOST IDENTIFICATION HAS CHANGED")
    {
        return Fault::known(ErrorKind::Login, words);
    }
    if said("subsystem request failed") {
        return Fault::known(
            ErrorKind::Login,
            format!("{words}: the server offers no SFTP"),
        );
    }
    let usage = code.is_some_and(|code| code != 255);
    match status {
        _ if words.is_empty() && !usage => Fault::Lost("ssh has ended without a word".to_owned()),
        // Not ssh's own code: it does not understand what it was called with, or is something else.
        Some(status) if usage => {
            let said = if words.is_empty() {
                "it ended without a word"
            } else {
                &words
            };
            Fault::known(ErrorKind::NoProgram, format!("{said} ({status})"))
        }
        _ => Fault::Lost(words),
    }
}

/// The best guess at what a server means by “Failure”.
pub(super) async fn diagnose(
    connection: &Connection,
    path: &str,
    fault: Fault,
    wanted: u64,
) -> Fault {
    const READ_ONLY: u64 = 1;
    if !fault.is(StatusCode::Failure) || !connection.extensions.statvfs {
        return fault;
    }
    let Ok(space) = connection.space(path).await else {
        return fault;
    };
    let bytes = |blocks: u64| crate::base::ByteSize(blocks.saturating_mul(space.fragment_size));
    let free = bytes(space.blocks_avail);
    if space.flags & READ_ONLY != 0 {
        Fault::known(
            ErrorKind::ReadOnly,
            "the file system is mounted read-only there",
        )
    } else if free.0 <= wanted || (space.inodes > 0 && space.inodes_avail == 0) {
        let total = bytes(space.blocks);
        Fault::known(ErrorKind::Full, format!("{free} free of {total} there"))
    } else {
        fault
    }
}
