//! A diff that is written into an image, by `rbd import-diff`.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::error::{RbdError, RbdErrorKind};
use super::run::Run;
use crate::base::Cancel;

/// The time that a write waits before it looks whether the work was cancelled, in nanoseconds.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// A running `rbd import-diff`, which reads what is written to this. If it is dropped before it is
/// [finished](Self::finish), the program is killed, and the image is incomplete.
pub struct RbdImport {
    run: Run,
    /// None once all is written.
    input: Option<ChildStdin>,
    cancel: Cancel,
}

impl RbdImport {
    pub(super) fn start(
        command: Command,
        request: String,
        cancel: &Cancel,
    ) -> Result<Self, RbdError> {
        let failed = |request: &str, error: io::Error| {
            RbdError::io(RbdErrorKind::NotStarted, request, error)
        };
        let mut run = Run::start_with_input(command, request)?;
        let input = run.take_input();
        if let Some(input) = &input {
            // A program that does not read must not block this one.
            let flags = fcntl_getfl(input).map(|flags| flags | OFlags::NONBLOCK);
            let set = flags.and_then(|flags| fcntl_setfl(input, flags));
            set.map_err(|error| failed(run.request(), error.into()))?;
        }
        Ok(Self {
            run,
            input,
            cancel: cancel.clone(),
        })
    }

    /// Ends the input, and waits until the program has written everything to the image.
    pub fn finish(mut self) -> Result<(), RbdError> {
        self.input = None;
        self.wait()
    }

    /// Returns why the program ended before it has read everything.
    #[must_use]
    pub fn failure(mut self) -> Option<RbdError> {
        self.input = None;
        self.wait().err()
    }

    /// Waits for the end of the program, which must succeed.
    fn wait(&mut self) -> Result<(), RbdError> {
        let mut ignored = [0; 4 << 10];
        loop {
            if self.cancel.check().is_err() {
                let why = "interrupted";
                return Err(RbdError::new(
                    RbdErrorKind::Cancelled,
                    self.run.request(),
                    why,
                ));
            }
            match self.run.read(&mut ignored)? {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    return Err(RbdError::io(
                        RbdErrorKind::Failed,
                        self.run.request(),
                        error,
                    ));
                }
            }
        }
    }
}

impl Write for RbdImport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(input) = &mut self.input else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            match input.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut asked = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT)];
                    // After an error, the next write returns it.
                    let _ = poll(&mut asked, Some(&WAIT));
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
