//! The handle of a freeze, in the process that makes the snapshots. Another process, the guard,
//! runs the commands that freeze and thaw.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, PipeReader, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::guard::{THAW_LIMIT, run_within};
use super::words::{FREEZING, FROZEN, LATE, NOT_FROZEN, NOT_THAWED, THAWED};
use crate::base::{Cancel, child_command};

/// The time between two tests whether the work was cancelled.
const STEP: Duration = Duration::from_millis(50);

/// The time that the guard has to answer after it was asked to thaw. The guard may try three times,
/// for up to a minute each.
const ANSWER_LIMIT: Duration = Duration::from_secs(200);

/// How to freeze and thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeOptions {
    /// The command that freezes; a shell runs it.
    pub before: Option<OsString>,
    /// The command that thaws. It also runs if `before` fails.
    pub after: Option<OsString>,
    /// The maximum time from the start of `before` to the start of `after`.
    pub limit: Duration,
    /// The program that runs [`guard_freeze`](super::guard_freeze), and its first arguments. Its
    /// further arguments are the limit in milliseconds and both commands. An empty argument stands
    /// for a missing command.
    pub guard: (PathBuf, Vec<OsString>),
}

/// The reason why a freeze failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant explains it")]
pub enum FreezeError {
    #[error("could not start the process that freezes and thaws: {0}")]
    NotStarted(String),
    #[error("the command before the snapshot failed: {0}")]
    NotFrozen(String),
    #[error("the snapshots were not complete within the time limit of the freeze")]
    Late,
    #[error(
        "the command after the snapshot failed, so users of the images may still be frozen: {0}"
    )]
    NotThawed(String),
    #[error("the process that freezes and thaws was killed")]
    GuardLost,
    #[error("interrupted")]
    Interrupted,
}

/// Proves that the thaw succeeded within the time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thaw;

/// A freeze that has begun. The freeze ends with [`thaw`](Self::thaw), when this value is dropped,
/// when its time limit passes, and when this process ends in any way.
#[derive(Debug)]
pub struct Freeze {
    guard: Child,
    /// A byte in this pipe, or the end of the pipe, asks for the thaw. `None` after that.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    late: Arc<AtomicBool>,
    after: Option<OsString>,
    /// The process group of the command that freezes, until it has ended.
    freezing: Option<Pid>,
}

impl Freeze {
    /// Freezes. If this fails after the command `before` was started, the command `after` has run.
    pub fn begin(options: &FreezeOptions, cancel: &Cancel) -> Result<Self, FreezeError> {
        let failed = |error: std::io::Error| FreezeError::NotStarted(error.to_string());
        let (program, words) = &options.guard;
        let mut command = child_command(program);
        command.args(words);
        command.arg(options.limit.as_millis().to_string());
        for part in [&options.before, &options.after] {
            command.arg(part.clone().unwrap_or_default());
        }
        // A signal to the group of this process must not reach the guard.
        command.process_group(0);
        let (output, stdout) = pipe().map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(stdout);
        let late = Arc::new(AtomicBool::new(false));
        let (sender, lines) = channel();
        let read = {
            let late = Arc::clone(&late);
            move || read_lines(output, &late, |line| sender.send(line).is_ok())
        };
        // Start the thread before the guard. If the thread cannot be started, nothing was frozen.
        thread::Builder::new().spawn(read).map_err(failed)?;
        let mut guard = command.spawn().map_err(failed)?;
        // Close this process's end of the pipe, so that the pipe ends when the guard ends.
        drop(command);
        let input = guard.stdin.take();
        let mut freeze = Self {
            guard,
            input,
            lines,
            late,
            after: options.after.clone(),
            freezing: None,
        };
        loop {
            match freeze.lines.recv_timeout(STEP) {
                Ok(line) if line == FROZEN => {
                    freeze.freezing = None;
                    return Ok(freeze);
                }
                Ok(line) if line.starts_with(FREEZING) => {
                    let group = line.strip_prefix(FREEZING).and_then(|id| id.parse().ok());
                    freeze.freezing = group.and_then(Pid::from_raw);
                }
                Ok(line) => {
                    freeze.freezing = None;
                    let reason = line.strip_prefix(NOT_FROZEN).unwrap_or(&line).to_owned();
                    let outcome = freeze.end();
                    // Report first that users may still be frozen: that is worse than a failed
                    // command.
                    outcome?;
                    return Err(FreezeError::NotFrozen(reason));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(freeze.lost()),
                Err(RecvTimeoutError::Timeout) if cancel.check().is_err() => {
                    freeze.end()?;
                    return Err(FreezeError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Returns a flag that is set when the time limit has passed. Then the thaw has begun.
    #[must_use]
    pub fn late(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.late)
    }

    /// Thaws, and waits until the thaw has ended. Fails if the time limit passed before, or if the
    /// thaw failed.
    pub fn thaw(mut self) -> Result<Thaw, FreezeError> {
        self.end()?;
        if self.late.load(Ordering::Relaxed) {
            return Err(FreezeError::Late);
        }
        Ok(Thaw)
    }

    /// Asks for the thaw, and waits for its result.
    fn end(&mut self) -> Result<(), FreezeError> {
        // The guard may have been suspended with SIGSTOP.
        self.signal(Signal::CONT);
        if let Some(mut input) = self.input.take() {
            // Fails if the guard was killed.
            let _ = input.write_all(b"t");
        }
        let begun = Instant::now();
        let mut outcome = None;
        loop {
            let left = ANSWER_LIMIT.saturating_sub(begun.elapsed());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.signal(Signal::KILL);
                    break;
                }
            };
            if line == THAWED {
                outcome = Some(Ok(()));
            } else if let Some(reason) = line.strip_prefix(NOT_THAWED) {
                outcome = Some(Err(FreezeError::NotThawed(reason.to_owned())));
            }
        }
        let _ = self.guard.wait();
        outcome.unwrap_or_else(|| Err(self.lost()))
    }

    /// Sends a signal to the guard. It has not been reaped, so no other process has its id.
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.guard.id()).ok().and_then(Pid::from_raw);
        let _ = id.map(|id| kill_process(id, signal));
    }

    /// Thaws, since the guard was killed. Returns the error.
    fn lost(&mut self) -> FreezeError {
        self.input = None;
        let _ = self.guard.wait();
        // A command that still freezes could end after the thaw.
        if let Some(group) = self.freezing.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if let Some(after) = self.after.take()
            && let Err(reason) = run_within(&after, true, THAW_LIMIT)
        {
            return FreezeError::NotThawed(reason);
        }
        FreezeError::GuardLost
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        if self.input.is_some() {
            let _ = self.end();
        }
    }
}

/// Reads the lines of the guard. Sets `late` if one of them is [`LATE`], and passes the other lines
/// to `send`, until `send` returns false.
fn read_lines(output: PipeReader, late: &AtomicBool, mut send: impl FnMut(String) -> bool) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if line == LATE {
            late.store(true, Ordering::Relaxed);
        } else if !send(line) {
            return;
        }
    }
}
