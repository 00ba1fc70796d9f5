//! Input that comes when it comes.

use std::io::{ErrorKind, Read};

use crate::base::Cancel;

/// Waits for a source that has nothing for now, as long as nobody interrupts.
pub(super) struct Patient<'a, R> {
    pub(super) source: R,
    pub(super) cancel: &'a Cancel,
}

impl<R: Read> Read for Patient<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.source.read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.cancel.check().map_err(std::io::Error::other)?;
                }
                result => return result,
            }
        }
    }
}
