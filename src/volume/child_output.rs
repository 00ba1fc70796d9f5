//! The standard output of a child process. The child process is killed when the value that reads
//! the output is dropped, or when this process must exit at once.

use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::stdin::Stdin;
use crate::base::ChildGroup;

/// The size in bytes of a pipe after [`ChildOutput::widen`]: the maximum for users without
/// privileges.
const PIPE_LEN: usize = 1 << 20;
/// The time that a program may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The maximum time between two tests whether the program has ended.
pub(super) const STEP: Duration = Duration::from_millis(20);

/// A running program and its standard output.
///
/// The program runs in its own process group. A read returns 0 bytes only after the program has
/// ended. Then [`status`](Self::status) returns how it ended. A read fails with
/// [`ErrorKind::WouldBlock`] if no bytes arrive for 0.2 s, or if the output has ended and the
/// program still runs. Such a read may be repeated. Dropping this value before the program has
/// ended kills the whole group and reaps the program.
///
/// If the command has a pipe for standard error, processes that the program leaves behind are
/// killed, too, so that this pipe ends.
pub(super) struct ChildOutput {
    child: Child,
    /// Has the group killed if this process must exit at once. Set to `None` just before the
    /// program is reaped.
    ends_with_us: Option<ChildGroup>,
    /// `None` after the output has ended.
    output: Option<Stdin>,
    /// `None` until the program has ended and was reaped.
    status: Option<ExitStatus>,
    /// Whether to kill the rest of the group after the program has ended.
    kills_rest: bool,
}

impl ChildOutput {
    /// Starts the program. The caller decides where its standard error goes.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Self::start_with(command, Stdio::null())
    }

    /// Like [`start`](Self::start), with this standard input.
    pub(super) fn start_with(command: &mut Command, input: Stdio) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = command.stdin(input).stdout(writer).process_group(0).spawn();
        // Drop the command's end of the pipe. Otherwise the output would never end.
        command.stdout(Stdio::null());
        let child = child?;
        let kills_rest = child.stderr.is_some();
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            child,
            ends_with_us: group.map(ChildGroup::new),
            output: Some(Stdin::new(reader.into())),
            status: None,
            kills_rest,
        })
    }

    /// Makes the pipe of the output larger, so that the program seldom waits for its reader.
    pub(super) fn widen(&self) {
        if let Some(output) = &self.output {
            // If the system refuses, the pipe stays as it is.
            let _ = fcntl_setpipe_size(output, PIPE_LEN);
        }
    }

    /// Returns how the program ended; `None` until it was reaped.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Returns the program's standard error, if the command has a pipe for it; `None` the second
    /// time.
    pub(super) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Returns the pipe to the program's standard input, if it has one; `None` the second time.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Returns whether the program has ended. Does not reap it, so that its group keeps its number.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = self.group() else {
            return Ok(true);
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(pid), look)?.is_some())
    }

    /// Waits until the program has ended, but at most for [`STEP`].
    fn wait_shortly(&self) {
        let opened = self.group().map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match opened {
            Some(Ok(program)) => {
                let wait = Timespec::try_from(STEP).ok();
                // The caller tests whether the program has ended.
                let _ = poll(&mut [PollFd::new(&program, PollFlags::IN)], wait.as_ref());
            }
            // The kernel is old, or too many files are open.
            _ => thread::sleep(STEP),
        }
    }

    /// Sends SIGTERM to the program and to all processes of its group. When the program has ended
    /// or [`GRACE`] has passed, sends SIGKILL. Then reaps the program.
    fn end(&mut self) -> io::Result<()> {
        let signal = |signal| {
            // Fails if all processes of the group have ended.
            self.group().map(|group| kill_process_group(group, signal))
        };
        signal(Signal::TERM);
        let begun = Instant::now();
        while !self.has_ended()? && begun.elapsed() < GRACE {
            self.wait_shortly();
        }
        signal(Signal::KILL);
        self.reap()
    }

    fn reap(&mut self) -> io::Result<()> {
        self.ends_with_us = None;
        self.status = Some(self.child.wait()?);
        Ok(())
    }
}

impl Read for ChildOutput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(output) = &mut self.output
            && !into.is_empty()
        {
            let read = output.read(into)?;
            if read > 0 {
                return Ok(read);
            }
            self.output = None;
        }
        if self.status.is_some() || into.is_empty() {
            return Ok(0);
        }
        if !self.has_ended()? {
            self.wait_shortly();
        }
        if !self.has_ended()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.kills_rest
            && let Some(group) = self.group()
        {
            // Fails if there is no other process in the group.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.reap()?;
        Ok(0)
    }
}

impl Drop for ChildOutput {
    fn drop(&mut self) {
        // After the output has ended, the program may have been reaped, and its process id reused.
        let reaped = self.ends_with_us.is_none();
        if self.output.is_some() || !reaped {
            // Ignore the error of a program that cannot be ended.
            let _ = self.end();
        }
    }
}
