//! A reader that waits for its source until the operation must stop.

use std::io::{self, ErrorKind, Read};

use super::pipeline::Failed;
use crate::base::Cancel;

/// Reads from a source that may have no bytes for a while, and waits for them. In that time, a read
/// of the source fails with `WouldBlock`. A read of this reader fails with
/// [`Cancelled`](crate::base::Cancelled) once the operation is cancelled, and with another error
/// once the pipeline that takes the bytes has failed.
pub(super) struct CancellableReader<'a, R> {
    source: R,
    cancel: &'a Cancel,
    failed: Option<&'a Failed>,
}

impl<'a, R> CancellableReader<'a, R> {
    pub(super) fn new(source: R, cancel: &'a Cancel) -> Self {
        Self {
            source,
            cancel,
            failed: None,
        }
    }

    /// Stops waiting once `failed` is set.
    pub(super) fn until(self, failed: &'a Failed) -> Self {
        Self {
            failed: Some(failed),
            ..self
        }
    }
}

impl<R: Read> Read for CancellableReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.cancel.check().map_err(io::Error::other)?;
                    if let Some(failed) = self.failed {
                        failed.check().map_err(io::Error::other)?;
                    }
                }
                result => return result,
            }
        }
    }
}
