//! A reader that waits for the bytes of its source, unless the operation must stop.

use std::io::{self, ErrorKind, Read};

use super::pipeline::Failed;
use crate::base::Cancel;

/// Reads from a source whose reads fail with `WouldBlock` if no bytes arrive for a while, and waits
/// for the bytes. While it waits, a read fails with [`Cancelled`](crate::base::Cancelled) if the
/// operation is cancelled. It fails with another error if the pipeline that takes the bytes has
/// failed.
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

    /// Also stops waiting when `failed` is set.
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
