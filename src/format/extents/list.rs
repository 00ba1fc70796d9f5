//! Extents of an image, as a set of ranges.

use std::ops::Range;

/// Ranges of bytes of an image, in ascending order. No range is empty, and no two ranges overlap or
/// touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentList(Vec<Range<u64>>);

impl ExtentList {
    /// The maximum length of a list as a text, in bytes: enough for several million extents.
    pub const TEXT_MAX: usize = 256 << 20;

    /// Returns the ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Returns the end of the last range; 0 if there is none.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |last| last.end)
    }

    /// Returns the list with each range widened to multiples of `step` bytes. An end that would be
    /// greater than `u64::MAX` is `u64::MAX`. Panics if `step` is 0.
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
    /// Sorts and merges the ranges, and drops empty ones.
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
