//! The changes of an image, as `rbd export-diff` writes them.

use std::io::{self, ErrorKind, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::{RbdError, RbdErrorKind};
use super::run::Run;
use super::snapshot::Snapshot;
use crate::volume::input::InputStream;

/// The state of an image after the whole export was read. Both lists are empty if the image itself
/// was exported, and not a snapshot.
#[derive(Debug, Default)]
pub struct ExportEnd {
    /// The snapshots of the image, oldest first, without those that Ceph made for itself.
    pub snapshots: Vec<Snapshot>,
    /// Problems of the object map of the exported snapshot, as `rbd info` names them.
    pub flags: Vec<String>,
}

/// A running `rbd export-diff`. If it is dropped before its end, the program is killed.
pub struct RbdExport<'a> {
    run: Run,
    /// The name of the image.
    name: String,
    /// Verifies, after the last byte, that the stream is of the right image and snapshots.
    verify: Box<dyn Fn() -> Result<ExportEnd, RbdError> + Send + 'a>,
    /// The maximum time without data.
    stall: Duration,
    /// When a read first found no data, or `None` if the last read found some. So the time that the
    /// caller needs to use the data does not count.
    waits: Option<Instant>,
    /// Whether the whole stream was read and verified.
    complete: bool,
    /// The state of the image after the export. Set when `complete` is set.
    end: Option<ExportEnd>,
    failure: Option<RbdError>,
}

impl<'a> RbdExport<'a> {
    pub(super) fn start(
        command: Command,
        name: String,
        request: String,
        stall: Duration,
        verify: impl Fn() -> Result<ExportEnd, RbdError> + Send + 'a,
    ) -> Result<Self, RbdError> {
        let run = Run::start(command, request)?;
        run.widen();
        Ok(Self {
            run,
            name,
            verify: Box::new(verify),
            stall,
            waits: None,
            complete: false,
            end: None,
            failure: None,
        })
    }

    /// Returns the state of the image after the export. Returns `None` before the whole stream was
    /// read and verified, and after the state was taken once.
    pub fn take_end(&mut self) -> Option<ExportEnd> {
        self.end.take()
    }

    /// Returns why the export failed, if it did. The I/O error of the failed read has only the text
    /// of this error.
    pub fn take_failure(&mut self) -> Option<RbdError> {
        self.failure.take()
    }

    fn read_or_fail(&mut self, into: &mut [u8]) -> Result<io::Result<usize>, RbdError> {
        if self.complete {
            return Ok(Ok(0));
        }
        let read = self.run.read(into)?;
        if matches!(&read, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            if self.waits.get_or_insert_with(Instant::now).elapsed() > self.stall {
                let why = format!("no data for {} seconds", self.stall.as_secs());
                let kind = RbdErrorKind::Stalled;
                return Err(RbdError::new(kind, self.run.request(), why));
            }
        } else {
            self.waits = None;
        }
        if matches!(read, Ok(0)) && !into.is_empty() {
            self.end = Some((self.verify)()?);
            self.complete = true;
        }
        Ok(read)
    }
}

impl Read for RbdExport<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(ErrorKind::Other.into());
        }
        self.read_or_fail(into).unwrap_or_else(|failure| {
            let error = io::Error::other(failure.to_string());
            self.failure = Some(failure);
            Err(error)
        })
    }
}

impl InputStream for RbdExport<'_> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> &'static str {
        "rbd"
    }
}
