//! The user's own `ssh`, as a child process with pipes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use russh_sftp::client::error::Error;
use russh_sftp::client::rawsession::SftpResult;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::base::{child_command, lock};

use super::options::SftpOptions;

/// The number of bytes of ssh's messages that are kept: a quarter from the beginning, the rest from
/// the end.
const STDERR_KEPT: usize = 4 << 10;
/// The time to wait for the last messages after ssh has ended. A process that ssh leaves behind,
/// such as the master of a shared connection, may keep the pipe open for ever.
const STDERR_WAIT: Duration = Duration::from_secs(2);
/// The number of bytes of the first answer that are kept, to show a greeting: text that the server
/// sends in place of SFTP.
const FIRST_KEPT: usize = 200;
/// The type of the first packet that a server sends.
const VERSION: u8 = 2;
/// The size of the buffer for answers, in bytes. Several small packets are read in one system call.
const READ_BUFFER: usize = 64 << 10;

/// Makes ssh ignore `SIGINT` and `SIGHUP`, which a terminal also sends to ssh: running operations
/// must be able to finish. Ignored signals stay ignored across `exec`. A process group of its own
/// would also protect ssh from the signals, but then ssh could not ask for a passphrase.
const IGNORE_SIGNALS: &str = r#"trap "" INT HUP; exec "$@""#;

/// A running ssh, its messages, and whether bytes move.
#[derive(Debug)]
pub(super) struct Ssh {
    child: Mutex<Child>,
    stderr: Mutex<Vec<u8>>,
    /// The first bytes that the server sent.
    first: Mutex<Vec<u8>>,
    /// Closed when all messages of ssh have been read.
    stderr_open: watch::Receiver<()>,
    /// Closed when no further answer can arrive.
    answers_open: watch::Receiver<()>,
    started: Instant,
    /// The time at which a byte last moved, or at which a request was sent while none was pending,
    /// whichever is later. In milliseconds after `started`.
    moved: AtomicU64,
    pending: AtomicUsize,
}

impl Ssh {
    /// Starts ssh. If `may_ask` is false, ssh asks the user nothing, for example no passphrase.
    /// Must be called within the runtime.
    pub(super) fn start(options: &SftpOptions, may_ask: bool) -> io::Result<(Arc<Self>, Pipes)> {
        let mut child = command(options, may_ask).spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let stdin = OwnedFd::from(child.stdin.take().ok_or_else(missing)?);
        let stdout = OwnedFd::from(child.stdout.take().ok_or_else(missing)?);
        let stderr = OwnedFd::from(child.stderr.take().ok_or_else(missing)?);
        let (stderr_sender, stderr_open) = watch::channel(());
        let (answers_sender, answers_open) = watch::channel(());
        let ssh = Arc::new(Self {
            child: Mutex::new(child),
            stderr: Mutex::default(),
            first: Mutex::default(),
            stderr_open,
            answers_open,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
        });
        let pipes = Pipes {
            ssh: Arc::clone(&ssh),
            from: BufReader::with_capacity(READ_BUFFER, pipe::Receiver::from_owned_fd(stdout)?),
            to: pipe::Sender::from_owned_fd(stdin)?,
            _open: answers_sender,
        };
        tokio::spawn(collect_messages(
            Arc::clone(&ssh),
            pipe::Receiver::from_owned_fd(stderr)?,
            stderr_sender,
        ));
        Ok((ssh, pipes))
    }

    /// Kills ssh. Does nothing if it has ended already.
    pub(super) fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        // This returns at once, since the process was killed.
        let _ = child.wait();
    }

    /// Waits until ssh has ended and its messages have been read, and returns its exit status. If
    /// ssh still runs after `timeout`, kills it and returns `None`.
    pub(super) async fn end(&self, timeout: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + timeout;
        loop {
            let status = self.child().try_wait().ok().flatten();
            let late = Instant::now() >= until;
            if status.is_none() && late {
                self.kill();
            }
            if status.is_some() || late {
                // At the end of the messages, the sender is dropped, and `changed` fails.
                let _ = tokio::time::timeout(STDERR_WAIT, self.stderr_open.clone().changed()).await;
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns ssh's first message and its last three, joined. One of them gives the reason why ssh
    /// ended.
    pub(super) fn messages(&self) -> String {
        let stderr = lock(&self.stderr);
        let text = String::from_utf8_lossy(&stderr);
        let lines: Vec<_> = text
            .lines()
            // Some warnings have a frame of `@`.
            .map(|line| line.trim_matches(|c: char| c == '@' || c.is_whitespace()))
            .filter(|l| !l.is_empty())
            .collect();
        let joined = match &lines[..] {
            [first, .., a, b, c] if lines.len() > 4 => [*first, "…", a, b, c].join("; "),
            few => few.join("; "),
        };
        joined.chars().filter(|c| !c.is_control()).collect()
    }

    /// Records the first bytes that the server sends.
    fn note_first(&self, new: &[u8]) {
        let mut first = lock(&self.first);
        let missing = FIRST_KEPT.saturating_sub(first.len());
        first.extend_from_slice(&new[..new.len().min(missing)]);
    }

    /// Returns whether the first line that is not blank is complete, or too long to be recorded.
    fn has_greeting_line(&self) -> bool {
        let first = lock(&self.first);
        first.len() >= FIRST_KEPT || first.trim_ascii_start().contains(&b'\n')
    }

    /// Returns the first line that the server sent in place of SFTP. Returns `None` if all bytes so
    /// far can be SFTP.
    pub(super) fn greeting(&self) -> Option<String> {
        let first = lock(&self.first);
        if begins_as_sftp(&first) {
            return None;
        }
        let text = String::from_utf8_lossy(&first);
        let shown = text.lines().find(|line| !line.trim().is_empty());
        let shown = shown.unwrap_or_default().trim();
        Some(shown.chars().filter(|c| !c.is_control()).collect())
    }

    /// Returns the answer to a request, or an error as soon as no answer can arrive. The crate
    /// russh-sftp drops the pending requests before it stops accepting new ones. So it would wait
    /// for ever for the answer to a request that is sent while the connection ends.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = SftpResult<T>>,
    ) -> SftpResult<T> {
        let mut answers_open = self.answers_open.clone();
        tokio::select! {
            biased;
            answer = request => answer,
            _ = answers_open.changed() => {
                Err(Error::UnexpectedBehavior("the connection has ended".to_owned()))
            }
        }
    }

    /// Counts a pending request until the returned value is dropped.
    pub(super) fn begin_request(&self) -> PendingRequest<'_> {
        if self.pending.fetch_add(1, Ordering::SeqCst) == 0 {
            self.note_progress();
        }
        PendingRequest(self)
    }

    /// Returns for how long requests have been pending without a byte moving.
    pub(super) fn stalled_for(&self) -> Duration {
        if self.pending.load(Ordering::SeqCst) == 0 {
            return Duration::ZERO;
        }
        let moved = Duration::from_millis(self.moved.load(Ordering::SeqCst));
        self.started.elapsed().saturating_sub(moved)
    }

    fn note_progress(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::SeqCst);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        lock(&self.child)
    }
}

/// Returns whether these bytes can be the beginning of the first SFTP message: its length, which is
/// less than 16 MiB, and its type.
fn begins_as_sftp(first: &[u8]) -> bool {
    first.first().is_none_or(|byte| *byte == 0) && first.get(4).is_none_or(|byte| *byte == VERSION)
}

/// Counts a pending request.
pub(super) struct PendingRequest<'a>(&'a Ssh);

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The ssh processes of a store, which end with the store.
#[derive(Default)]
pub(super) struct Processes(Mutex<Started>);

#[derive(Default)]
struct Started {
    ssh: Vec<Weak<Ssh>>,
    closed: bool,
}

impl Processes {
    /// Adds a process. Kills it at once if the store is closed.
    pub(super) fn add(&self, ssh: &Arc<Ssh>) {
        let mut started = lock(&self.0);
        if started.closed {
            ssh.kill();
            return;
        }
        started.ssh.retain(|ssh| ssh.strong_count() > 0);
        started.ssh.push(Arc::downgrade(ssh));
    }

    /// Kills all processes, and those added later.
    pub(super) fn close(&self) {
        let mut started = lock(&self.0);
        started.closed = true;
        for ssh in started.ssh.drain(..).filter_map(|ssh| ssh.upgrade()) {
            ssh.kill();
        }
    }
}

/// Reports whether ssh can ask the user: there is a terminal, and this process is in its
/// foreground.
pub(super) fn can_ask() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    let foreground = rustix::termios::tcgetpgrp(&terminal);
    foreground.is_ok_and(|group| group == rustix::process::getpgrp())
}

fn command(options: &SftpOptions, may_ask: bool) -> Command {
    let mut command = child_command("/bin/sh");
    command.args(["-c", IGNORE_SIGNALS, "sh"]);
    command.args(&options.ssh).args(arguments(options, may_ask));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Returns the arguments that follow the user's own. If an option is given twice, ssh uses its
/// first value, so the user's own options win.
fn arguments(options: &SftpOptions, may_ask: bool) -> Vec<OsString> {
    let seconds = options.timeout.as_secs().max(1);
    let mut arguments: Vec<OsString> = Vec::new();
    let mut set = |option: &str| arguments.extend(["-o".into(), option.into()]);
    if !may_ask {
        set("BatchMode=yes");
    }
    set(&format!(
        "ConnectTimeout={}",
        options.connect_timeout().as_secs()
    ));
    // If this process has ended and the server or the link fails, these options end ssh.
    set(&format!("ServerAliveInterval={}", (seconds / 4).max(1)));
    set("ServerAliveCountMax=3");
    // Like sftp(1), disable features that a configuration may enable but that have no use here.
    for option in [
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "RemoteCommand=none",
        "RequestTTY=no",
    ] {
        set(option);
    }
    if let Some(port) = options.server.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = &options.server.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    let host = options.server.host.as_str().into();
    arguments.extend(["-s".into(), "--".into(), host, "sftp".into()]);
    arguments
}

/// Keeps ssh's messages for error reports. Drops `_open` at the end of the messages.
async fn collect_messages(ssh: Arc<Ssh>, mut stderr: pipe::Receiver, _open: watch::Sender<()>) {
    let mut bytes = [0; 1024];
    while let Ok(len @ 1..) = stderr.read(&mut bytes).await {
        let mut kept = lock(&ssh.stderr);
        kept.extend_from_slice(&bytes[..len]);
        if let Some(excess @ 1..) = kept.len().checked_sub(STDERR_KEPT) {
            let first = STDERR_KEPT / 4;
            kept.drain(first..first + excess);
        }
    }
}

/// Both directions of the connection. Notes when bytes move.
pub(super) struct Pipes {
    ssh: Arc<Ssh>,
    from: BufReader<pipe::Receiver>,
    to: pipe::Sender,
    _open: watch::Sender<()>,
}

impl Pipes {
    /// Reads the first line of a greeting, and then fails.
    fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut more = [0; FIRST_KEPT];
        while !self.ssh.has_greeting_line() {
            let mut more = ReadBuf::new(&mut more);
            match Pin::new(&mut self.from).poll_read(cx, &mut more) {
                Poll::Ready(Ok(())) if !more.filled().is_empty() => {
                    self.ssh.note_first(more.filled());
                }
                Poll::Ready(Ok(())) => break,
                other => return other,
            }
        }
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.ssh.greeting().is_none() {
            let polled = Pin::new(&mut self.from).poll_read(cx, buf);
            let new = &buf.filled()[before..];
            if new.is_empty() {
                return polled;
            }
            self.ssh.note_progress();
            self.ssh.note_first(new);
            if self.ssh.greeting().is_none() {
                return polled;
            }
            // Pass on no byte of the greeting. The reader would take its first bytes for the length
            // of an answer, and would wait for this answer forever.
            buf.set_filled(before);
        }
        self.poll_greeting(cx)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.to).poll_write(cx, buf);
        if let Poll::Ready(Ok(1..)) = polled {
            self.ssh.note_progress();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::super::options::SftpServer;
    use super::*;
    use crate::base::Cancel;

    fn options(ssh: &[&str]) -> SftpOptions {
        SftpOptions {
            server: SftpServer {
                user: None,
                host: "nowhere".to_owned(),
                port: None,
            },
            path: String::new(),
            location: "sftp:test".to_owned(),
            ssh: ssh.iter().map(Into::into).collect(),
            connections: NonZeroUsize::MIN,
            timeout: Duration::from_mins(1),
            cancel: Cancel::default(),
        }
    }

    #[tokio::test]
    async fn a_request_fails_after_ssh_has_ended() {
        let (ssh, pipes) = Ssh::start(&options(&["true"]), false).unwrap();
        drop(pipes);
        let never = std::future::pending::<SftpResult<()>>();
        assert!(ssh.answer(never).await.is_err());
    }

    #[tokio::test]
    async fn messages_written_after_ssh_has_ended_are_read() {
        let command = ["sh", "-c", "(sleep 0.1; echo why >&2) & exit 3", "sh"];
        let (ssh, _pipes) = Ssh::start(&options(&command), false).unwrap();
        let status = ssh.end(Duration::from_mins(1)).await.unwrap();
        assert_eq!((status.code(), ssh.messages().as_str()), (Some(3), "why"));
    }
}
