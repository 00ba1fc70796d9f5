//! One connection: requests and answers, the server's extensions, and a timeout that ends the
//! connection when no byte moves.

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

use super::error::SftpError;
use super::options::SftpOptions;
use super::ssh::{Processes, Ssh};
use super::ssh_failure::not_connected;
use super::window::Window;
use crate::base::{Cancel, lock};
use crate::storage::error::StorageErrorKind;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
/// The number of bytes that every server accepts in one request (section 3 of the draft of the
/// protocol).
const BLOCK_DEFAULT: u64 = 32 << 10;
/// The maximum number of bytes in one request, even if the server accepts more. OpenSSH accepts 255
/// KiB.
const BLOCK_MAX: u64 = 255 << 10;
/// The time limit for connecting if ssh may ask the user for a passphrase. Servers rarely allow
/// more time for a login (`LoginGraceTime`).
const ASK_TIMEOUT: Duration = Duration::from_mins(3);
/// The time that requests may wait without a byte moving, after the operation was cancelled.
const TIMEOUT_WHEN_CANCELLED: Duration = Duration::from_secs(3);
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const FIFO: u32 = 0o010_000;
const TYPE_MASK: u32 = 0o170_000;

/// The extensions to version 3 of the protocol that a server offers.
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
    /// The maximum number of bytes of one read or write.
    pub(super) block: usize,
    /// The number of operations that use the connection.
    pub(super) users: AtomicUsize,
}

#[derive(Default)]
struct State {
    lost: AtomicBool,
    /// The reason why the connection was lost, if known.
    reason: Mutex<Option<String>>,
}

impl State {
    fn lose(&self, reason: String) {
        lock(&self.reason).get_or_insert(reason);
        self.lost.store(true, Ordering::SeqCst);
    }
}

impl Connection {
    /// Connects. `may_ask` lets ssh ask the user on the terminal.
    pub(super) async fn open(
        options: &SftpOptions,
        processes: &Processes,
        may_ask: bool,
    ) -> Result<Arc<Self>, SftpError> {
        let (ssh, pipes) = Ssh::start(options, may_ask).map_err(|error| {
            SftpError::known(StorageErrorKind::NoProgram, format!("/bin/sh: {error}"))
        })?;
        processes.add(&ssh);
        let config = Config {
            // `watch` tests whether bytes move. On a slow link, an answer may take any time.
            request_timeout_secs: u64::MAX,
            ..Config::default()
        };
        let session = RawSftpSession::new_with_config(pipes, config);
        let limit = if may_ask {
            options.connect_timeout().max(ASK_TIMEOUT)
        } else {
            options.connect_timeout()
        };
        let version = match within(limit, &options.cancel, ssh.answer(session.init())).await {
            Ok(Ok(version)) => version,
            failed => {
                if let Some(greeting) = ssh.greeting() {
                    ssh.kill();
                    let text = format!("the server sent “{greeting}” in place of SFTP");
                    return Err(SftpError::known(StorageErrorKind::Greeting, text));
                }
                let Err(late) = failed else {
                    return Err(not_connected(&ssh).await);
                };
                ssh.kill();
                return Err(SftpError::Lost(match late {
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
            options.timeout,
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

    async fn ask<T>(&self, request: impl Future<Output = SftpResult<T>>) -> Result<T, SftpError> {
        let pending = self.ssh.begin_request();
        let answer = self.ssh.answer(request).await;
        drop(pending);
        match answer {
            Ok(answer) => Ok(answer),
            Err(Error::Status(status)) => {
                Err(SftpError::Refused(status.status_code, status.error_message))
            }
            Err(error) => Err(self.lost(&error).await),
        }
    }

    /// Marks the connection as lost and returns the reason.
    async fn lost(&self, error: &Error) -> SftpError {
        if !self.is_lost() {
            let status = self.ssh.end(Duration::from_millis(500)).await;
            let messages = self.ssh.messages();
            self.state.lose(match status {
                _ if !messages.is_empty() => messages,
                Some(status) => format!("ssh has ended ({status})"),
                None => error.to_string(),
            });
        }
        let reason = lock(&self.state.reason).clone();
        SftpError::Lost(reason.unwrap_or_default())
    }

    /// Creates a file for writing. Fails if it exists.
    pub(super) async fn open_new(self: &Arc<Self>, path: &str) -> Result<File, SftpError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        self.open_file(path, flags, mode(0o600)).await
    }

    /// Opens an existing file for writing.
    pub(super) async fn open_write(self: &Arc<Self>, path: &str) -> Result<File, SftpError> {
        self.open_file(path, OpenFlags::WRITE, FileAttributes::empty())
            .await
    }

    /// Opens a file for reading, or on some servers a directory.
    ///
    /// A server that opens a FIFO waits until a process opens the FIFO for writing, and answers
    /// nothing meanwhile. So this function also requests the attributes. To save a round trip, it
    /// sends both requests before an answer arrives. If the file is a FIFO, the function ends the
    /// connection, since a request cannot be withdrawn.
    pub(super) async fn open_read(self: &Arc<Self>, path: &str) -> Result<File, SftpError> {
        enum Answer {
            Attributes(Result<Attributes, SftpError>),
            Opened(Result<File, SftpError>),
        }
        let mut requests = Window::new();
        requests
            .begin(async { Answer::Attributes(self.target_attributes(path).await) })
            .await;
        requests
            .begin(async {
                let opened = self.open_file(path, OpenFlags::READ, FileAttributes::empty());
                Answer::Opened(opened.await)
            })
            .await;
        while let Some(answer) = requests.next().await {
            match answer {
                Answer::Attributes(Ok(found)) if found.is_fifo() => {
                    self.state
                        .lose("the server waits for the writer of a FIFO".to_owned());
                    self.ssh.kill();
                    let text = "a FIFO is in its place";
                    return Err(SftpError::known(StorageErrorKind::NotAFile, text));
                }
                // The answer to the request to open the file says more.
                Answer::Attributes(_) => {}
                Answer::Opened(opened) => return opened,
            }
        }
        Err(SftpError::Lost(String::new()))
    }

    async fn open_file(
        self: &Arc<Self>,
        path: &str,
        flags: OpenFlags,
        attributes: FileAttributes,
    ) -> Result<File, SftpError> {
        let opened = self.ask(self.session.open(path, flags, attributes)).await?;
        File::new(self, opened.handle)
    }

    pub(super) async fn open_directory(self: &Arc<Self>, path: &str) -> Result<File, SftpError> {
        let opened = self.ask(self.session.opendir(path)).await?;
        File::new(self, opened.handle)
    }

    /// Returns the attributes of a file, directory or symbolic link. Does not follow the link.
    pub(super) async fn attributes(&self, path: &str) -> Result<Attributes, SftpError> {
        let found = self.ask(self.session.lstat(path)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    /// Returns the attributes of a file or directory. Follows symbolic links.
    pub(super) async fn target_attributes(&self, path: &str) -> Result<Attributes, SftpError> {
        let found = self.ask(self.session.stat(path)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    pub(super) async fn make_directory(&self, path: &str) -> Result<(), SftpError> {
        let made = self.ask(self.session.mkdir(path, mode(0o700))).await;
        made.map(drop)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), SftpError> {
        self.ask(self.session.remove(path)).await.map(drop)
    }

    /// Renames a file. Fails if the new name is taken, as the protocol requires.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.ask(self.session.rename(from, to)).await.map(drop)
    }

    /// Renames a file. Replaces a file of the new name. The server must offer `posix_rename`.
    pub(super) async fn rename_over(&self, from: &str, to: &str) -> Result<(), SftpError> {
        let mut names = Vec::with_capacity(8 + from.len() + to.len());
        for path in [from, to] {
            let len = u32::try_from(path.len()).map_err(|_| path_too_long())?;
            names.extend(len.to_be_bytes());
            names.extend_from_slice(path.as_bytes());
        }
        match self.ask(self.session.extended(POSIX_RENAME, names)).await? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => {
                Err(SftpError::Refused(status.status_code, status.error_message))
            }
            _ => Err(SftpError::known(
                StorageErrorKind::Io,
                "the server's answer is invalid",
            )),
        }
    }

    /// Adds a hard link. Fails if the new name is taken. The server must offer `hardlink`.
    pub(super) async fn link(&self, from: &str, to: &str) -> Result<(), SftpError> {
        self.ask(self.session.hardlink(from, to)).await.map(drop)
    }

    pub(super) async fn space(&self, path: &str) -> Result<Statvfs, SftpError> {
        self.ask(self.session.statvfs(path)).await
    }

    /// Removes a file, which may not exist, without waiting for the answer.
    pub(super) fn remove_later(self: &Arc<Self>, path: String) {
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            // If this fails, `remove_leftovers` finds the file later.
            let _ = connection.remove(&path).await;
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // All operations have ended, so nothing waits for answers to the remaining requests.
        self.ssh.kill();
    }
}

fn path_too_long() -> SftpError {
    SftpError::known(StorageErrorKind::Io, "the path is too long")
}

fn mode(bits: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(bits),
        ..FileAttributes::empty()
    }
}

/// The attributes of a file as a server reports them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) size: u64,
    /// Seconds since 1970-01-01 UTC, by the server's clock.
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

    /// Reports whether this is a regular file. An entry for which the server stated no mode counts
    /// as a regular file.
    pub(super) fn is_file(&self) -> bool {
        !self.is_known() || self.mode.is_some_and(|mode| mode & TYPE_MASK == REGULAR)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK == DIRECTORY)
    }

    fn is_fifo(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK == FIFO)
    }

    /// Reports whether the server stated the type.
    pub(super) fn is_known(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE_MASK != 0)
    }
}

/// An open file or directory. When dropped, it is closed without waiting for the answer.
pub(super) struct File {
    connection: Arc<Connection>,
    handle: String,
    closed: AtomicBool,
}

impl File {
    fn new(connection: &Arc<Connection>, handle: String) -> Result<Self, SftpError> {
        // The library treats handles as text. OpenSSH's handles are numbers, counted from 0 and
        // reused. As long as fewer than 128 files are open, they are valid text.
        if handle.contains('\u{fffd}') {
            let text = "the server's handles of open files cannot be used: they are not text";
            return Err(SftpError::known(StorageErrorKind::Io, text));
        }
        Ok(Self {
            connection: Arc::clone(connection),
            handle,
            closed: AtomicBool::new(false),
        })
    }

    pub(super) async fn write(&self, offset: u64, bytes: Vec<u8>) -> Result<(), SftpError> {
        let session = &self.connection.session;
        let written = self
            .connection
            .ask(session.write(&self.handle, offset, bytes));
        written.await.map(drop)
    }

    /// Reads at most `len` bytes. The server may return fewer. Fails with [`StatusCode::Eof`] at
    /// the end of the file.
    pub(super) async fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, SftpError> {
        let session = &self.connection.session;
        let read = self.connection.ask(session.read(&self.handle, offset, len));
        let data = read.await?.data;
        if data.is_empty() || data.len() > len as usize {
            return Err(SftpError::known(
                StorageErrorKind::Io,
                "the server's answer is invalid",
            ));
        }
        Ok(data)
    }

    pub(super) async fn attributes(&self) -> Result<Attributes, SftpError> {
        let session = &self.connection.session;
        let found = self.connection.ask(session.fstat(&self.handle)).await?;
        Ok(Attributes::of(&found.attrs))
    }

    /// Makes the file read-only.
    pub(super) async fn protect(&self) -> Result<(), SftpError> {
        let session = &self.connection.session;
        let set = session.fsetstat(&self.handle, mode(0o400));
        self.connection.ask(set).await.map(drop)
    }

    /// Waits until the server's disk has the data, if the server supports that.
    pub(super) async fn sync(&self) -> Result<(), SftpError> {
        if !self.connection.extensions.fsync {
            return Ok(());
        }
        let session = &self.connection.session;
        self.connection
            .ask(session.fsync(&self.handle))
            .await
            .map(drop)
    }

    /// Returns the next names in a directory. Fails with [`StatusCode::Eof`] after the last one.
    pub(super) async fn names(&self) -> Result<Vec<(String, Attributes)>, SftpError> {
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

    pub(super) async fn close(&self) -> Result<(), SftpError> {
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

/// Ends ssh when requests have waited for `timeout` without a byte moving.
async fn watch(ssh: Weak<Ssh>, state: Weak<State>, timeout: Duration, cancel: Cancel) {
    let pause = (timeout / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        tokio::time::sleep(pause).await;
        let (Some(ssh), Some(state)) = (ssh.upgrade(), state.upgrade()) else {
            return;
        };
        if state.lost.load(Ordering::SeqCst) {
            return;
        }
        let cancelled = cancel.check().is_err();
        let timeout = if cancelled {
            timeout.min(TIMEOUT_WHEN_CANCELLED)
        } else {
            timeout
        };
        if ssh.stalled_for() > timeout {
            let seconds = timeout.as_secs_f32();
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

/// Waits for a future until `limit` has passed or `cancel` is set.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_stated_type_counts_as_a_file() {
        let with = |mode| Attributes {
            size: 0,
            modified: 0,
            mode,
        };
        for mode in [None, Some(0), Some(0o644), Some(REGULAR | 0o644)] {
            assert!(with(mode).is_file(), "{mode:?}");
        }
        for mode in [DIRECTORY, FIFO, 0o120_000] {
            assert!(!with(Some(mode | 0o755)).is_file(), "{mode:o}");
        }
    }
}
