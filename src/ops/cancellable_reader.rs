//! Input that comes when it comes.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::OpsError;
use crate::base::Cancel;

/// Waits for a source that has nothing for now, as long as nobody interrupts and somebody takes what comes.
pub(super) struct CancellableReader<'a, R> {
    source: R,
    cancel: &'a Cancel,
    hung_up: Option<&'a AtomicBool>,
}

impl<'a, R> CancellableReader<'a, R> {
    pub(super) fn new(source: R, cancel: &'a Cancel) -> Self {
        Self {
            source,
            cancel,
            hung_up: None,
        }
    }

    /// Waits no longer once this is set.
    pub(super) fn until(self, hung_up: &'a AtomicBool) -> Self {
        Self {
            hung_up: Some(hung_up),
            ..self
        }
    }
}

impl<R: Read> Read for CancellableReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.cancel.check().map_err(std::io::Error::other)?;
                    if self.hung_up.is_some_and(|set| set.load(Ordering::Relaxed)) {
                        return Err(std::io::Error::other("nobody takes it"));
                    }
                }
                result => return result,
            }
        }
    }
}

/// Tells a read of a diff that was given up as what it is: the operation was interrupted.
pub(super) fn or_cancelled<T>(result: Result<T, OpsError>, cancel: &Cancel) -> Result<T, OpsError> {
    if matches!(result, Err(OpsError::ReadDiff { .. })) {
        cancel.check()?;
    }
    result
}
