//! Reads decimal numbers, and makes ranges of extents.

use std::ops::Range;

const NO_NUMBER: &str = "not a number of bytes from 0 to 2^64 - 1";
const NO_END: &str = "an extent ends beyond 2^64 bytes";

/// Returns the range of an extent. Fails if its end is greater than `u64::MAX`.
pub(super) fn extent(offset: u64, length: u64) -> Result<Range<u64>, &'static str> {
    let end = offset.checked_add(length).ok_or(NO_END)?;
    Ok(offset..end)
}

/// Reads a number that consists of decimal digits only.
pub(super) fn number(text: &[u8]) -> Result<u64, &'static str> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let text = std::str::from_utf8(text).map_err(|_| NO_NUMBER)?;
    text.parse().map_err(|_| NO_NUMBER)
}
