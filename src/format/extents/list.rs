//! Extents of an image, as a set of ranges.

use std::ops::Range;

/// Ranges of bytes of an image: ascending, apart, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentList(Vec<Range<u64>>);

impl ExtentList {
    /// The longest text that is taken for a list, in bytes: several millions of extents.
    pub const TEXT_MAX: usize = 256 << 20;

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
