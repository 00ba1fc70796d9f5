//! Runs the programs `rbd` and `ceph`.

use std::io::{self, ErrorKind, Read};
use std::process::{ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::{RbdError, RbdErrorKind};
use crate::base::Cancel;
use crate::volume::child_output::ChildOutput;

/// The maximum length of an answer, in bytes: enough for more than 100,000 images or snapshots.
pub(super) const ANSWER_MAX: u64 = 64 << 20;
/// The number of bytes that are kept for an error, from the end of standard error.
const ERRORS_KEPT: usize = 8 << 10;

/// A run of a program, with its standard output and its last error messages.
pub(super) struct Run {
    output: ChildOutput,
    errors: Option<JoinHandle<Vec<u8>>>,
    /// The request, for errors.
    request: String,
}

impl Run {
    /// Starts the program without standard input.
    pub(super) fn start(command: Command, request: String) -> Result<Self, RbdError> {
        Self::start_with(command, request, Stdio::null())
    }

    /// Starts the program with a pipe as its standard input.
    pub(super) fn start_with_input(command: Command, request: String) -> Result<Self, RbdError> {
        Self::start_with(command, request, Stdio::piped())
    }

    fn start_with(mut command: Command, request: String, input: Stdio) -> Result<Self, RbdError> {
        command.stderr(Stdio::piped());
        let failed = |error| RbdError::io(RbdErrorKind::NotStarted, &request, error);
        let mut output = ChildOutput::start_with(&mut command, input).map_err(failed)?;
        let errors = match output.take_stderr() {
            Some(pipe) => Some(
                thread::Builder::new()
                    .spawn(|| last_of(pipe))
                    .map_err(failed)?,
            ),
            None => None,
        };
        Ok(Self {
            output,
            errors,
            request,
        })
    }

    /// Returns the pipe to the program. `None` if it was returned before, or if the program has no
    /// standard input.
    pub(super) fn take_input(&mut self) -> Option<ChildStdin> {
        self.output.take_stdin()
    }

    /// Makes the pipe of the output larger, like [`ChildOutput::widen`].
    pub(super) fn widen(&self) {
        self.output.widen();
    }

    pub(super) fn request(&self) -> &str {
        &self.request
    }

    /// Reads the output like [`ChildOutput`], and returns the result of this read. At the end of
    /// the output, fails unless the program exited with 0.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<io::Result<usize>, RbdError> {
        match self.output.read(into) {
            Ok(0) if !into.is_empty() => match self.output.status() {
                Some(status) if !status.success() => Err(self.exited(status)),
                _ => Ok(Ok(0)),
            },
            other => Ok(other),
        }
    }

    fn exited(&mut self, status: ExitStatus) -> RbdError {
        let printed = self.errors.take().map(JoinHandle::join);
        let printed = printed.and_then(Result::ok).unwrap_or_default();
        RbdError::exited(&self.request, status, &String::from_utf8_lossy(&printed))
    }
}

/// Reads the pipe to its end. Returns the last [`ERRORS_KEPT`] bytes.
fn last_of(mut pipe: ChildStderr) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4 << 10]);
    while let Ok(read) = pipe.read(&mut buffer) {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..read]);
        let too_many = kept.len().saturating_sub(ERRORS_KEPT);
        kept.drain(..too_many);
    }
    kept
}

/// Runs a program to its end and returns its output. Fails if the output has more than `max` bytes.
/// The program is killed after `limit`, or if the work is cancelled.
pub(super) fn answer(
    command: Command,
    request: String,
    max: u64,
    limit: Duration,
    cancel: &Cancel,
) -> Result<Vec<u8>, RbdError> {
    let begun = Instant::now();
    let mut run = Run::start(command, request)?;
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let stopped = |kind, why: String| Err(RbdError::new(kind, run.request(), why));
        if cancel.check().is_err() {
            return stopped(RbdErrorKind::Cancelled, "interrupted".to_owned());
        }
        if begun.elapsed() > limit {
            let why = format!("no answer within {} seconds", limit.as_secs());
            return stopped(RbdErrorKind::Unreachable, why);
        }
        match run.read(&mut buffer)? {
            Ok(0) => return Ok(answer),
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {}
            Err(error) => {
                return Err(RbdError::io(RbdErrorKind::Failed, run.request(), error));
            }
        }
        if answer.len() as u64 > max {
            let why = "the answer is too long";
            return Err(RbdError::new(RbdErrorKind::BadAnswer, run.request(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::child_command;

    fn shell(script: &str) -> Command {
        let mut command = child_command("sh");
        command.arg("-c").arg(script);
        command
    }

    fn run(script: &str, limit: Duration) -> Result<Vec<u8>, RbdError> {
        answer(
            shell(script),
            "try".to_owned(),
            ANSWER_MAX,
            limit,
            &Cancel::default(),
        )
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn an_answer_counts_only_if_the_program_succeeded() {
        assert_eq!(run("printf abc", LONG).unwrap(), b"abc");
        let error = run("printf abc; echo 'rbd: no pool' >&2; exit 2", LONG).unwrap_err();
        assert_eq!(error.kind, RbdErrorKind::NotFound);
        assert_eq!(error.to_string(), "could not try: no pool (exit status: 2)");
        let missing = child_command("/nowhere/rbd");
        let error = answer(
            missing,
            "try".to_owned(),
            ANSWER_MAX,
            LONG,
            &Cancel::default(),
        )
        .unwrap_err();
        assert_eq!(error.kind, RbdErrorKind::NotStarted);
    }

    #[test]
    fn many_error_messages_do_not_block_the_program() {
        let script = "yes 'an error' | head -c 1000000 >&2; echo >&2; echo last >&2; exit 5";
        let error = run(script, LONG).unwrap_err().to_string();
        assert!(error.contains(": last (exit status: 5)"), "{error}");
    }

    #[test]
    fn a_program_that_runs_too_long_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 100 & echo $! >{}; wait", pid.display());
        let begun = Instant::now();
        let error = run(&script, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind, RbdErrorKind::Unreachable);
        assert!(begun.elapsed() < Duration::from_secs(30));
        let sleep = std::fs::read_to_string(pid).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", sleep.trim()));
        // The child process is a zombie until its new parent reaps it.
        while stat().is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "the child process still runs"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_cancelled_request_ends_at_once() {
        let cancel = Cancel::default();
        cancel.cancel();
        let error = answer(
            shell("sleep 100"),
            "try".to_owned(),
            ANSWER_MAX,
            LONG,
            &cancel,
        )
        .unwrap_err();
        assert_eq!(error.kind, RbdErrorKind::Cancelled);
    }

    #[test]
    fn an_error_is_complete_even_if_another_process_keeps_its_pipe_open() {
        let begun = Instant::now();
        let error = run("sleep 100 >/dev/null & echo why >&2; exit 2", LONG).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
