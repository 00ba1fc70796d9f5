//! The output of a program as a source.

use std::io::{self, Read};
use std::process::Command;

use super::child_output::ChildOutput;
use super::error::{VolumeError, VolumeOperation};
use super::input::InputStream;
use super::source::{Source, SourceData};

/// The kind of this source in records.
const KIND: &str = "command";
/// The name of the stream in messages.
const NAME: &str = "the output of the command";

/// A program whose standard output is backed up.
///
/// The program starts when the source begins, in its own process group and without standard input.
/// The stream ends only after the program has exited with code 0. If the program ends in another
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
            None => ChildOutput::start(&mut self.command)
                .map(CommandOutput)
                .map_err(|error| VolumeError::io(VolumeOperation::Open, NAME, error))?,
        };
        Ok(SourceData::Stream(self.running.insert(running)))
    }
}

struct CommandOutput(ChildOutput);

impl Read for CommandOutput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        match self.0.status().filter(|status| !status.success()) {
            Some(status) => Err(io::Error::other(format!("the command failed: {status}"))),
            None => Ok(read),
        }
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::child_output::STEP;
    use super::*;

    fn shell(script: &str) -> CommandSource {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        CommandSource::new(command)
    }

    /// Reads to the end. Repeats reads that fail with `WouldBlock`.
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
            // The child process is a zombie until its new parent reaps it.
            while state().is_ok_and(|stat| !stat.contains(") Z ")) {
                assert!(
                    begun.elapsed() < Duration::from_secs(5),
                    "the child process still runs"
                );
                thread::sleep(STEP);
            }
        }
    }
}
