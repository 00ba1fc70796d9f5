//! Lists of extents, as `rbd diff` writes them: as JSON, as XML, or as a table for people.
//!
//! They come from outside, and what they leave out is not read. So what no Ceph writes is refused, and so
//! is what could be the front of a longer list. What Ceph writes is in its `src/tools/rbd/action/Diff.cc`.

mod json;
mod plain;
mod xml;

use std::ops::Range;

/// Ranges of bytes of an image: ascending, apart, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentList(Vec<Range<u64>>);

/// A text is no list of extents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtentsError {
    /// There is nothing in it. `rbd diff` without `--format` says so that nothing changed, and whoever
    /// failed to run it leaves the same.
    #[error("it is empty")]
    Empty,
    /// It begins as none of the three.
    #[error("it is neither JSON, nor XML, nor a table (byte {offset})")]
    Unknown {
        /// Of its first byte that is not blank.
        offset: usize,
    },
    /// It is no JSON, or not of this shape.
    #[error("{what} (line {line}, column {column})")]
    Json {
        /// What is wrong.
        what: String,
        /// From 1.
        line: usize,
        /// From 1; 0 where only the line is known.
        column: usize,
    },
    /// It is no XML, or not of this shape.
    #[error("{what} (byte {offset})")]
    Xml {
        /// What is wrong.
        what: String,
        /// From 0.
        offset: u64,
    },
    /// A row of the table is wrong.
    #[error("{what} (line {line})")]
    Plain {
        /// What is wrong.
        what: &'static str,
        /// From 1.
        line: usize,
    },
}

impl ExtentList {
    /// The longest text that is taken for a list, in bytes: several millions of extents.
    pub const TEXT_MAX: usize = 256 << 20;

    /// Reads a list in any of the three forms; the first byte that is not blank tells which. Extents may
    /// come in any order and overlap.
    pub fn parse(text: &[u8]) -> Result<Self, ExtentsError> {
        let blank = |byte: &u8| byte.is_ascii_whitespace();
        let Some(offset) = text.iter().position(|byte| !blank(byte)) else {
            return Err(ExtentsError::Empty);
        };
        let extents = match text.get(offset) {
            Some(b'[') => json::parse(text)?,
            Some(b'<') => xml::parse(text)?,
            Some(b'O') => plain::parse(text)?,
            _ => return Err(ExtentsError::Unknown { offset }),
        };
        Ok(extents.into_iter().collect())
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Where the last one ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |last| last.end)
    }

    /// With ranges that begin and end at multiples of `step`, as far as a number can tell it.
    #[must_use]
    pub fn widened(&self, step: u64) -> Self {
        let widen = |range: &Range<u64>| {
            let end = range.end.checked_next_multiple_of(step);
            range.start / step * step..end.unwrap_or(u64::MAX)
        };
        self.0.iter().map(widen).collect()
    }
}

impl FromIterator<Range<u64>> for ExtentList {
    /// Sorts and merges; what is empty is left out.
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty());
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|later, kept| {
            let joined = later.start <= kept.end;
            if joined {
                kept.end = kept.end.max(later.end);
            }
            joined
        });
        Self(ranges)
    }
}

const NO_NUMBER: &str = "not a number of bytes from 0 to 2^64 - 1";
const NO_END: &str = "an extent ends beyond 2^64 bytes";

/// The range of an extent.
fn extent(offset: u64, length: u64) -> Result<Range<u64>, &'static str> {
    let end = offset.checked_add(length).ok_or(NO_END)?;
    Ok(offset..end)
}

/// A number in decimal digits and nothing else.
fn number(text: &[u8]) -> Result<u64, &'static str> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    let text = std::str::from_utf8(text).map_err(|_| NO_NUMBER)?;
    text.parse().map_err(|_| NO_NUMBER)
}

/// What a parser says of a text, without what the text could do to a terminal.
fn told(what: &str) -> String {
    let printable = |c: char| if c.is_control() { '?' } else { c };
    what.chars().take(120).map(printable).collect()
}

#[cfg(test)]
mod tests;
