//! A diff that is written into an image, by `rbd import-diff`.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::client::RbdClient;
use super::error::{RbdError, RbdErrorKind};
use super::image::LiveImage;
use super::json::ConfigItem;
use super::run::Run;
use crate::base::Cancel;

/// The time that a write waits for the program before it tests again whether the work was
/// cancelled.
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Options that make `rbd` wait until the cluster has accepted each write. With a cache, `rbd`
/// reports success even if a write is refused or fails later. Settings of an image or of its pool
/// override these options.
const NO_CACHE: [&str; 3] = [
    "--rbd_cache=false",
    "--rbd_cache_policy=writethrough",
    "--rbd_cache_max_dirty=0",
];

impl LiveImage<'_> {
    /// Starts to write a diff into the image. Fails if settings of the image or of its pool enable
    /// a cache that may lose writes without an error.
    pub fn import(&self, cancel: &Cancel) -> Result<RbdImport, RbdError> {
        let request = format!("write to the image {}", self.name());
        let mut rbd = self.client.rbd_on(&["config", "image", "list"], &self.spec);
        rbd.args(NO_CACHE).arg("--format=json");
        let settings: Vec<ConfigItem> = RbdClient::ask_json(rbd, &request, cancel)?;
        let is = |name: &str, value: &str| {
            let found = settings.iter().find(|setting| setting.name == name);
            found.is_some_and(|setting| setting.value == value)
        };
        let waits = is("rbd_cache_policy", "writethrough") || is("rbd_cache_max_dirty", "0");
        if !is("rbd_cache", "false") && !waits {
            let (rbd, image) = (self.shown_rbd(), self.name());
            let why = format!(
                "the settings of the image or of its pool enable a cache that hides failed writes: \
                 “{rbd} config image list {image}” shows them. Remove rbd_cache with “{rbd} config \
                 image remove {image} rbd_cache” or “{rbd} config pool remove POOL rbd_cache”"
            );
            return Err(RbdError::new(RbdErrorKind::Failed, request, why));
        }
        let mut rbd = self.client.rbd_on(&["import-diff"], &self.spec);
        rbd.args(["--no-progress", "--path=-"]).args(NO_CACHE);
        RbdImport::start(rbd, request, self.client.stall(), cancel)
    }
}

/// A running `rbd import-diff`, which reads the bytes that are written to this value. Dropping the
/// value before it is [finished](Self::finish) kills the program, and the image is incomplete.
pub struct RbdImport {
    run: Run,
    /// `None` after all data is written.
    input: Option<ChildStdin>,
    /// The maximum time in which the program may take no data. It is also the maximum time until
    /// the program ends after it was given all data.
    stall: Duration,
    /// The error of a write that stalled. The caller of the write got only its text. `None` if no
    /// write stalled.
    failure: Option<RbdError>,
    cancel: Cancel,
}

impl RbdImport {
    pub(super) fn start(
        command: Command,
        request: String,
        stall: Duration,
        cancel: &Cancel,
    ) -> Result<Self, RbdError> {
        let failed = |request: &str, error: io::Error| {
            RbdError::io(RbdErrorKind::NotStarted, request, error)
        };
        let mut run = Run::start_with_input(command, request)?;
        let input = run.take_input();
        if let Some(input) = &input {
            // If the program does not read, it must not block this process.
            let flags = fcntl_getfl(input).map(|flags| flags | OFlags::NONBLOCK);
            let set = flags.and_then(|flags| fcntl_setfl(input, flags));
            set.map_err(|error| failed(run.request(), error.into()))?;
        }
        Ok(Self {
            run,
            input,
            stall,
            failure: None,
            cancel: cancel.clone(),
        })
    }

    /// Ends the input, and waits until the program has written everything to the image.
    pub fn finish(mut self) -> Result<(), RbdError> {
        self.input = None;
        self.wait()
    }

    /// Returns why the import failed. If a write stalled, returns its error at once. Otherwise,
    /// ends the input and waits for the program. Returns `None` if the program succeeded.
    #[must_use]
    pub fn failure(mut self) -> Option<RbdError> {
        if self.failure.is_some() {
            return self.failure;
        }
        self.input = None;
        self.wait().err()
    }

    /// Waits for the end of the program, which must succeed.
    fn wait(&mut self) -> Result<(), RbdError> {
        let mut ignored = [0; 4 << 10];
        let begun = Instant::now();
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.require_progress(begun)?;
                }
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

impl RbdImport {
    /// Fails if more time than `stall` has passed since `begun`.
    fn require_progress(&self, begun: Instant) -> Result<(), RbdError> {
        if begun.elapsed() <= self.stall {
            return Ok(());
        }
        let why = format!("no progress for {} seconds", self.stall.as_secs());
        let kind = RbdErrorKind::Stalled;
        Err(RbdError::new(kind, self.run.request(), why))
    }
}

impl Write for RbdImport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            let Some(input) = &mut self.input else {
                return Err(ErrorKind::BrokenPipe.into());
            };
            match input.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut asked = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT)];
                    // If the pipe has an error, the next write returns it.
                    let _ = poll(&mut asked, Some(&WAIT));
                    if let Err(failure) = self.require_progress(begun) {
                        let error = io::Error::other(failure.to_string());
                        self.failure = Some(failure);
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
