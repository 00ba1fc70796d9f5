//! The parts of a backup that cannot be restored.

use std::ops::Range;
use std::sync::Mutex;

use crate::base::lock;
use crate::repo::RepoError;

/// The reaction of a restore to parts of the backup that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Fail. If the damage is found without reading the data, nothing is written.
    Stop,
    /// Continue, and make these parts zero in the target.
    Zero,
    /// Continue, and leave these parts of the target unchanged. In a target without earlier
    /// content, they are zero.
    Keep,
}

/// The parts that cannot be read, found by many threads.
#[derive(Default)]
pub(super) struct Holes(Mutex<Found>);

#[derive(Default)]
struct Found {
    ranges: Vec<Range<u64>>,
    first: Option<RepoError>,
}

impl Holes {
    /// Adds a range of the content, in bytes, and the reason why it cannot be read.
    pub(super) fn add(&self, range: Range<u64>, why: RepoError) {
        let mut found = lock(&self.0);
        found.ranges.push(range);
        found.first.get_or_insert(why);
    }

    /// Returns whether a range overlaps one that was added.
    pub(super) fn meet(&self, range: &Range<u64>) -> bool {
        let meets = |hole: &Range<u64>| hole.start < range.end && range.start < hole.end;
        lock(&self.0).ranges.iter().any(meets)
    }

    /// Takes the ranges, ascending and with adjacent ones joined, and the reason why one of them
    /// cannot be read.
    pub(super) fn take(&self) -> (Vec<Range<u64>>, Option<RepoError>) {
        let found = std::mem::take(&mut *lock(&self.0));
        (joined(found.ranges), found.first)
    }
}

/// Sorts ranges, and joins those that overlap or are adjacent.
pub(crate) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Removes `holes` from `ranges`. Both are ascending; so is the result.
pub(super) fn without(ranges: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for range in ranges {
        let mut start = range.start;
        for hole in holes {
            if hole.end <= start || range.end <= hole.start {
                continue;
            }
            if start < hole.start {
                left.push(start..hole.start);
            }
            start = hole.end;
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_joined_where_they_meet() {
        assert_eq!(joined(vec![8..12, 0..4, 4..6, 10..11]), [0..6, 8..12]);
    }

    #[test]
    fn holes_are_removed_from_the_ranges_to_write() {
        assert_eq!(
            without(&[0..10, 20..30], &[2..4, 8..22, 29..30]),
            [0..2, 4..8, 22..29]
        );
        assert_eq!(without(&[0..10, 20..30], &[0..10, 10..30]), []);
        assert_eq!(without(&[0..10, 20..30], &[]), [0..10, 20..30]);
    }
}
