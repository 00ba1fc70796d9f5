//! Input that comes when it comes.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Cancel;

/// Waits for a source that has nothing for now, as long as nobody interrupts and somebody takes what comes.
pub(super) struct Patient<'a, R> {
    pub(super) source: R,
    pub(super) cancel: &'a Cancel,
    pub(super) hung_up: &'a AtomicBool,
}

impl<R: Read> Read for Patient<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.cancel.check().map_err(std::io::Error::other)?;
                    if self.hung_up.load(Ordering::Relaxed) {
                        return Err(std::io::Error::other("nobody takes it"));
                    }
                }
                result => return result,
            }
        }
    }
}
