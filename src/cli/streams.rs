//! Checks standard input and standard output before a command reads or writes data there.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::app::{Environment, Failure};

use super::args::Action;

/// Fails if the action needs standard input or standard output for data and this stream is closed.
/// Also fails if the action would write binary data to a terminal.
pub(super) fn check(action: &Action, environment: &Environment) -> Result<(), Failure> {
    if action.reads_stdin(environment) && was_closed(io::stdin()) {
        return Err(Failure::usage("standard input is closed")
            .hint("give a file, or pipe the data into this command"));
    }
    if !action.fills_stdout() {
        return Ok(());
    }
    let stdout = io::stdout();
    if was_closed(&stdout) {
        return Err(Failure::usage("standard output is closed")
            .hint("name a file, or pipe the data into a program"));
    }
    if stdout.is_terminal() {
        return Err(Failure::usage("cannot write binary data to a terminal")
            .hint("name a file, or pipe the data into a program"));
    }
    Ok(())
}

/// Returns whether a standard stream was closed when this process began.
///
/// In this case, Rust's library has opened `/dev/null` in its place, for reading and writing, and
/// without `O_CLOEXEC`. Nothing else shows that the stream was closed. A shell usually opens
/// `/dev/null` only for reading or only for writing. A daemon may have opened `/dev/null` in the
/// same way as Rust's library. Then this function also returns true. This is useful: output would
/// be lost, and input would be empty.
fn was_closed(stream: impl AsFd) -> bool {
    const NULL: (u32, u32) = (1, 3);
    let both_ways = |flags: OFlags| flags & OFlags::RWMODE == OFlags::RDWR;
    let plain = |flags: OFlags| both_ways(flags) && !flags.contains(OFlags::CLOEXEC);
    let is_null = || -> io::Result<bool> {
        let file = std::fs::File::from(stream.as_fd().try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let device = metadata.rdev();
        let number = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(metadata.file_type().is_char_device() && number == NULL)
    };
    fcntl_getfl(stream.as_fd()).is_ok_and(plain) && is_null().unwrap_or(false)
}
