//! Reads fixed-width fields from a byte slice, and checks that enough bytes are left for each.

use super::error::FormatError;

/// The bytes that are not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns a reader of the same bytes with its own position.
    pub(super) fn peek(&self) -> Self {
        Self(self.0)
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads bytes that must be zero in this version of the format.
    pub(super) fn zeros<const N: usize>(&mut self) -> Result<(), FormatError> {
        if self.array::<N>()? == [0; N] {
            Ok(())
        } else {
            Err(FormatError::ReservedNotZero)
        }
    }

    /// Reads the number of items, each of which takes at least `each` bytes. Fails if fewer bytes
    /// follow than these items need. So a false number cannot make a reader allocate much memory.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        match count.checked_mul(each) {
            Some(len) if len <= self.left() => Ok(count),
            _ => Err(FormatError::Truncated),
        }
    }

    pub(super) fn end(self) -> Result<(), FormatError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FormatError::TrailingBytes(self.0.len()))
        }
    }
}

/// Returns a length as the `u32` that the format stores.
#[expect(
    clippy::expect_used,
    reason = "all lengths of the format are far below 4 GiB"
)]
pub(super) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("objects in memory are below 4 GiB")
}
