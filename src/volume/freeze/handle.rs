//! The handle of a freeze, in the process that makes the snapshots.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::words::{FROZEN, LATE, NOT_FROZEN, NOT_THAWED, THAWED};
use crate::base::{Cancel, child_command};

/// The time between two tests whether the work was cancelled.
const STEP: Duration = Duration::from_millis(50);

/// How to freeze and thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeOptions {
    /// The command that freezes; a shell runs it.
    pub before: Option<OsString>,
    /// The command that thaws. It also runs if `before` fails.
    pub after: Option<OsString>,
    /// The maximum time from the start of `before` to the start of `after`.
    pub limit: Duration,
    /// The program that runs [`guard_freeze`](super::guard_freeze), and its first arguments. It
    /// gets the limit in milliseconds and both commands as further arguments, an empty one for
    /// none.
    pub guard: (PathBuf, Vec<OsString>),
}

/// A freeze failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FreezeError {
    #[error("could not start the process that freezes and thaws: {0}")]
    NotStarted(String),
    #[error("the command before the snapshot failed: {0}")]
    NotFrozen(String),
    #[error("the snapshots were not complete within the time limit of the freeze")]
    Late,
    #[error("the command after the snapshot failed, so that its users may still be frozen: {0}")]
    NotThawed(String),
    #[error("the process that freezes and thaws was killed")]
    GuardLost,
    #[error("interrupted")]
    Interrupted,
}

/// How a freeze ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thaw;

/// A freeze that has begun. It ends with [`thaw`](Self::thaw), when this is dropped, when its time
/// limit passes, and when this process ends in any way.
#[derive(Debug)]
pub struct Freeze {
    guard: Child,
    /// Dropped to ask for the thaw.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    late: Arc<AtomicBool>,
    after: Option<OsString>,
}

impl Freeze {
    /// Freezes. If this fails, the command `after` has run.
    pub fn begin(options: &FreezeOptions, cancel: &Cancel) -> Result<Self, FreezeError> {
        let failed = |error: std::io::Error| FreezeError::NotStarted(error.to_string());
        let (program, words) = &options.guard;
        let mut command = child_command(program);
        command.args(words);
        command.arg(options.limit.as_millis().to_string());
        for part in [&options.before, &options.after] {
            command.arg(part.clone().unwrap_or_default());
        }
        // A signal to the group of this process must not reach it.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = command.spawn().map_err(failed)?;
        let input = guard.stdin.take();
        let late = Arc::new(AtomicBool::new(false));
        let (sender, lines) = channel();
        if let Some(stdout) = guard.stdout.take() {
            let late = Arc::clone(&late);
            let read = move || read_lines(stdout, &late, |line| sender.send(line).is_ok());
            thread::Builder::new().spawn(read).map_err(failed)?;
        }
        let mut freeze = Self {
            guard,
            input,
            lines,
            late,
            after: options.after.clone(),
        };
        loop {
            match freeze.lines.recv_timeout(STEP) {
                Ok(line) if line == FROZEN => return Ok(freeze),
                Ok(line) => {
                    let reason = line.strip_prefix(NOT_FROZEN).unwrap_or(&line).to_owned();
                    let outcome = freeze.end();
                    // A user that may still be frozen is worse than a failed command.
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

    /// Returns a flag that is set once the time limit has passed, so that the thaw has begun.
    #[must_use]
    pub fn late(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.late)
    }

    /// Thaws, and waits until this is done. Fails if the time limit passed before, or if the thaw
    /// failed.
    pub fn thaw(mut self) -> Result<Thaw, FreezeError> {
        self.end()?;
        if self.late.load(Ordering::Relaxed) {
            return Err(FreezeError::Late);
        }
        Ok(Thaw)
    }

    /// Asks for the thaw, and waits for its result.
    fn end(&mut self) -> Result<(), FreezeError> {
        if let Some(mut input) = self.input.take() {
            // Fails if the guard was killed.
            let _ = input.write_all(b"t");
        }
        let mut outcome = None;
        while let Ok(line) = self.lines.recv() {
            if line == THAWED {
                outcome = Some(Ok(()));
            } else if let Some(reason) = line.strip_prefix(NOT_THAWED) {
                outcome = Some(Err(FreezeError::NotThawed(reason.to_owned())));
            }
        }
        let _ = self.guard.wait();
        outcome.unwrap_or_else(|| Err(self.lost()))
    }

    /// Thaws, since the guard was killed. Returns the error.
    fn lost(&mut self) -> FreezeError {
        self.input = None;
        let _ = self.guard.wait();
        if let Some(after) = self.after.take() {
            let mut shell = child_command("sh");
            shell.arg("-c").arg(after).stdin(Stdio::null());
            match shell.stdout(std::io::stderr()).status() {
                Ok(status) if !status.success() => {
                    return FreezeError::NotThawed(status.to_string());
                }
                Err(error) => return FreezeError::NotThawed(error.to_string()),
                Ok(_) => {}
            }
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

/// Reads the lines of the guard to their end.
fn read_lines(stdout: ChildStdout, late: &AtomicBool, mut send: impl FnMut(String) -> bool) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if line == LATE {
            late.store(true, Ordering::Relaxed);
        } else if !send(line) {
            return;
        }
    }
}
