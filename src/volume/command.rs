//! The output of a program as a source.

use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::error::{VolumeError, VolumeOperation};
use super::input::InputStream;
use super::source::{Source, SourceData};
use super::stdin::Stdin;
use crate::base::ChildGroup;

/// The kind of this source in records.
const KIND: &str = "command";
/// The name of the stream in messages.
const NAME: &str = "the output of the command";
/// The time that a program may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The time between two tests whether the program has ended.
const STEP: Duration = Duration::from_millis(20);

/// A program whose standard output is backed up.
///
/// The program starts when the source begins, in its own process group and without standard input.
/// The stream ends only once the program has exited with code 0. If the program ends in another
/// way, the last read fails. If the source is dropped before the end, the whole group is killed.
pub struct CommandSource {
    command: Command,
    running: Option<CommandOutput>,
}

impl CommandSource {
    /// Prepares to run `command`. The caller decides where its standard error goes.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self {
            command,
            running: None,
        }
    }
}

impl Source for CommandSource {
    fn begin(&mut self) -> Result<SourceData<'_>, VolumeError> {
        let running = match self.running.take() {
            Some(running) => running,
            None => CommandOutput::start(&mut self.command)
                .map_err(|error| VolumeError::io(VolumeOperation::Open, NAME, error))?,
        };
        Ok(SourceData::Stream(self.running.insert(running)))
    }
}

struct CommandOutput {
    child: Child,
    /// Ends with this process. None once the program is about to be reaped.
    ends_with_us: Option<ChildGroup>,
    /// None once it has ended.
    output: Option<Stdin>,
    /// The program has exited with code 0, after its output ended.
    succeeded: bool,
}

impl CommandOutput {
    fn start(command: &mut Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer)
            .process_group(0)
            .spawn();
        // Drop the command's end of the pipe. Otherwise the output would never end.
        command.stdout(Stdio::null());
        let child = child?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            child,
            ends_with_us: group.map(ChildGroup::new),
            output: Some(Stdin::new(reader.into())),
            succeeded: false,
        })
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Whether the program has ended. It stays a zombie, so that its group keeps its number.
    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = self.group() else {
            return Ok(true);
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(pid), look)?.is_some())
    }

    /// Ends the program and all processes that it started, and returns its exit status.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let signal = |signal| {
            // Fails if all processes of the group have ended.
            self.group().map(|group| kill_process_group(group, signal))
        };
        signal(Signal::TERM);
        let begun = Instant::now();
        while !self.has_ended()? && begun.elapsed() < GRACE {
            thread::sleep(STEP);
        }
        signal(Signal::KILL);
        self.ends_with_us = None;
        self.child.wait()
    }
}

impl Read for CommandOutput {
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
        if self.succeeded || into.is_empty() {
            return Ok(0);
        }
        if !self.has_ended()? {
            thread::sleep(STEP);
            return Err(ErrorKind::WouldBlock.into());
        }
        self.ends_with_us = None;
        let status = self.child.wait()?;
        if status.success() {
            self.succeeded = true;
            return Ok(0);
        }
        Err(io::Error::other(format!("the command failed: {status}")))
    }
}

impl InputStream for CommandOutput {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn kind(&self) -> &'static str {
        KIND
    }
}

impl Drop for CommandOutput {
    fn drop(&mut self) {
        // Once the output has ended, the program may have been reaped, and its number reused.
        let reaped = self.ends_with_us.is_none();
        if self.output.is_some() || !reaped {
            // Ignore the error of a program that cannot be ended.
            let _ = self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandSource {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        CommandSource::new(command)
    }

    /// Reads to the end, like an operation.
    fn read(source: &mut CommandSource) -> io::Result<Vec<u8>> {
        let SourceData::Stream(stream) = source.begin().unwrap() else {
            panic!("no stream");
        };
        let (mut all, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(all),
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn the_output_ends_only_after_the_program_succeeded() {
        let mut source = shell("printf abc; exec >&-; sleep 0.3; exit 0");
        assert_eq!(read(&mut source).unwrap(), b"abc");
        for (script, expected) in [
            ("printf abc; exit 3", "exit status: 3"),
            ("printf abc; exec >&-; sleep 0.3; exit 1", "exit status: 1"),
            ("kill -9 $$", "signal: 9"),
            ("no-such-program", "exit status: 127"),
        ] {
            let error = read(&mut shell(script)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_dropped_source_ends_the_program_and_its_child_processes() {
        // In the first case, the shell has ended, and its child holds the pipe. In the second, the
        // program ignores SIGTERM.
        for script in [
            "sleep 100 & echo $!",
            "trap '' TERM; sleep 100 & echo $!; wait",
        ] {
            let mut source = shell(script);
            let SourceData::Stream(stream) = source.begin().unwrap() else {
                panic!("no stream");
            };
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let mut byte = [0];
                if let Ok(1) = stream.read(&mut byte) {
                    line.push(byte[0]);
                }
            }
            let sleep = String::from_utf8(line).unwrap();
            let state = || std::fs::read_to_string(format!("/proc/{}/stat", sleep.trim()));
            assert!(state().is_ok());
            drop(source);
            let begun = Instant::now();
            // It is a zombie until its new parent reaps it.
            while state().is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(begun.elapsed() < Duration::from_secs(5), "it still runs");
                thread::sleep(STEP);
            }
        }
    }
}
