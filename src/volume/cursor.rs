//! The position of a target that is written in ascending order.

use super::error::{VolumeError, VolumeErrorKind, VolumeOperation};
use super::sys::fits;

/// The position up to which a target has been written. After the first error, no more writes are
/// accepted.
#[derive(Debug)]
pub(super) struct Cursor {
    size: u64,
    /// The end of the last range that was written, in bytes of the image.
    pub(super) position: u64,
    failed: bool,
}

impl Cursor {
    /// Returns a cursor at the beginning of a target of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            position: 0,
            failed: false,
        }
    }

    /// Checks that `len` bytes may be written at `offset`: within the target, and not before the
    /// end of an earlier write. After an error, all later calls fail. Errors name the target as
    /// `name`.
    pub(super) fn admit(
        &mut self,
        operation: VolumeOperation,
        name: &str,
        offset: u64,
        len: u64,
    ) -> Result<(), VolumeError> {
        let kind = if self.failed {
            VolumeErrorKind::Incomplete
        } else if !fits(self.size, offset, len) {
            VolumeErrorKind::OutOfRange
        } else if offset < self.position {
            VolumeErrorKind::OutOfOrder {
                position: self.position,
            }
        } else {
            return Ok(());
        };
        self.fail();
        Err(VolumeError::new(kind, operation, name).at(offset))
    }

    /// Notes that a write has failed.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }
}
