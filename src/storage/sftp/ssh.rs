//! The user's own `ssh`, as a child with pipes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use russh_sftp::client::error::Error;
use russh_sftp::client::rawsession::SftpResult;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::base::lock;

use super::SftpOptions;

/// So many bytes are kept of what ssh says: a quarter of its first words, else its last.
const STDERR_KEPT: usize = 4 << 10;
/// How long its last words are waited for once it has ended: a process it leaves behind, such as the master of a
/// shared connection, may keep the pipe open for ever.
const LISTENING: Duration = Duration::from_secs(2);
/// A small packet costs no system call of its own.
const READ_BUFFER: usize = 64 << 10;

/// `SIGINT` and `SIGHUP` from the terminal go to ssh too. It must outlive them, since what is under way is to be
/// finished first; and a process group of its own would keep it from asking for a passphrase. What is ignored
/// stays so across `exec`.
const SHIELD: &str = r#"trap "" INT HUP; exec "$@""#;

/// A running ssh, and what can be told of it from outside.
#[derive(Debug)]
pub(super) struct Ssh {
    child: Mutex<Child>,
    said: Mutex<Vec<u8>>,
    /// Closed when all it says has been heard.
    heard: watch::Receiver<()>,
    /// Closed when no answer can come any more.
    answering: watch::Receiver<()>,
    began: Instant,
    /// Milliseconds after `began` when a byte last moved, or when the first of the requests was sent that are
    /// waited for.
    moved: AtomicU64,
    waiting: AtomicUsize,
}

impl Ssh {
    /// Starts it. Must be called within the runtime.
    pub(super) fn start(options: &SftpOptions, may_ask: bool) -> io::Result<(Arc<Self>, Pipes)> {
        let mut child = command(options, may_ask).spawn()?;
        let taken = || io::Error::other("a pipe is missing");
        let stdin = OwnedFd::from(child.stdin.take().ok_or_else(taken)?);
        let stdout = OwnedFd::from(child.stdout.take().ok_or_else(taken)?);
        let stderr = OwnedFd::from(child.stderr.take().ok_or_else(taken)?);
        let (hearing, heard) = watch::channel(());
        let (open, answering) = watch::channel(());
        let ssh = Arc::new(Self {
            child: Mutex::new(child),
            said: Mutex::default(),
            heard,
            answering,
            began: Instant::now(),
            moved: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        });
        let pipes = Pipes {
            ssh: Arc::clone(&ssh),
            from: BufReader::with_capacity(READ_BUFFER, pipe::Receiver::from_owned_fd(stdout)?),
            to: pipe::Sender::from_owned_fd(stdin)?,
            _open: open,
        };
        tokio::spawn(listen(
            Arc::clone(&ssh),
            pipe::Receiver::from_owned_fd(stderr)?,
            hearing,
        ));
        Ok((ssh, pipes))
    }

    /// Ends it at once. That it has ended already is fine.
    pub(super) fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        // Does not wait: a killed process is gone.
        let _ = child.wait();
    }

    /// How it ended, as long as that takes no longer than `patience`; then it is killed. What it said has been
    /// heard then: a process can be gone before its words are read.
    pub(super) async fn end(&self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            let status = self.child().try_wait().ok().flatten();
            let late = Instant::now() >= until;
            if status.is_none() && late {
                self.kill();
            }
            if status.is_some() || late {
                // An error is what it waits for: nobody speaks any more.
                let _ = tokio::time::timeout(LISTENING, self.heard.clone().changed()).await;
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it has said: the first line and the last ones, of which one or the other says why it ended.
    pub(super) fn words(&self) -> String {
        let said = lock(&self.said);
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<_> = text
            .lines()
            // Some are framed.
            .map(|line| line.trim_matches(|c: char| c == '@' || c.is_whitespace()))
            .filter(|l| !l.is_empty())
            .collect();
        let words = match &lines[..] {
            [first, .., a, b, c] if lines.len() > 4 => [*first, "…", a, b, c].join("; "),
            few => few.join("; "),
        };
        words.chars().filter(|c| !c.is_control()).collect()
    }

    /// The answer to a request; an error when none can come any more. russh-sftp alone would wait for ever for one
    /// that is sent while the connection ends: it drops those that wait before it takes no more.
    pub(super) async fn answer<T>(
        &self,
        request: impl Future<Output = SftpResult<T>>,
    ) -> SftpResult<T> {
        let mut answering = self.answering.clone();
        tokio::select! {
            biased;
            answer = request => answer,
            _ = answering.changed() => Err(Error::UnexpectedBehavior("the connection has ended".to_owned())),
        }
    }

    /// A request is waited for as long as this lives.
    pub(super) fn wait(&self) -> Waiting<'_> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == 0 {
            self.note_progress();
        }
        Waiting(self)
    }

    /// For how long something has been waited for without a byte moving.
    pub(super) fn stalled_for(&self) -> Duration {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Duration::ZERO;
        }
        let moved = Duration::from_millis(self.moved.load(Ordering::SeqCst));
        self.began.elapsed().saturating_sub(moved)
    }

    fn note_progress(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::SeqCst);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        lock(&self.child)
    }
}

/// Counts a request that is waited for.
pub(super) struct Waiting<'a>(&'a Ssh);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether ssh could ask the user something: there is a terminal, and we are in its foreground.
pub(super) fn can_ask() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    let foreground = rustix::termios::tcgetpgrp(&terminal);
    foreground.is_ok_and(|group| group == rustix::process::getpgrp())
}

fn command(options: &SftpOptions, may_ask: bool) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SHIELD, "sh"]);
    command.args(&options.ssh).args(arguments(options, may_ask));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Of an option that is given twice ssh takes the first: what the user has put into the command counts.
fn arguments(options: &SftpOptions, may_ask: bool) -> Vec<OsString> {
    let seconds = options.patience.as_secs().max(1);
    let mut arguments: Vec<OsString> = Vec::new();
    let mut set = |option: &str| arguments.extend(["-o".into(), option.into()]);
    if !may_ask {
        set("BatchMode=yes");
    }
    set(&format!(
        "ConnectTimeout={}",
        options.connecting().as_secs()
    ));
    // Should the server or the link die while we do too, this ends ssh.
    set(&format!("ServerAliveInterval={}", (seconds / 4).max(1)));
    set("ServerAliveCountMax=3");
    // What a configuration may ask for that has no place here, as sftp has it.
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

/// Takes down what ssh says, so that an error can tell. `_hearing` lives as long as there may be more.
async fn listen(ssh: Arc<Ssh>, mut stderr: pipe::Receiver, _hearing: watch::Sender<()>) {
    let mut piece = [0; 1024];
    while let Ok(len @ 1..) = stderr.read(&mut piece).await {
        let mut said = lock(&ssh.said);
        said.extend_from_slice(&piece[..len]);
        if let Some(excess @ 1..) = said.len().checked_sub(STDERR_KEPT) {
            let first = STDERR_KEPT / 4;
            said.drain(first..first + excess);
        }
    }
}

/// Both directions, with an eye on whether bytes move.
pub(super) struct Pipes {
    ssh: Arc<Ssh>,
    from: BufReader<pipe::Receiver>,
    to: pipe::Sender,
    _open: watch::Sender<()>,
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.from).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.ssh.note_progress();
        }
        polled
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

    use super::super::SftpServer;
    use super::*;
    use crate::base::Cancel;
    use crate::storage::Limits;

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
            patience: Duration::from_mins(1),
            limits: Limits::default(),
            cancel: Cancel::default(),
        }
    }

    #[tokio::test]
    async fn nothing_is_waited_for_once_it_has_ended() {
        let (ssh, pipes) = Ssh::start(&options(&["true"]), false).unwrap();
        drop(pipes);
        let never = std::future::pending::<SftpResult<()>>();
        assert!(ssh.answer(never).await.is_err());
    }

    #[tokio::test]
    async fn all_it_says_is_heard_when_it_has_ended() {
        let says = ["sh", "-c", "(sleep 0.1; echo why >&2) & exit 3", "sh"];
        let (ssh, _pipes) = Ssh::start(&options(&says), false).unwrap();
        let status = ssh.end(Duration::from_mins(1)).await.unwrap();
        assert_eq!((status.code(), ssh.words().as_str()), (Some(3), "why"));
    }
}
