//! The set of the bytes of a leaf (4 MiB of a volume) that a source sets.

use std::ops::Range;

use crate::base::LEAF_SIZE;

#[expect(clippy::cast_possible_truncation, reason = "4 MiB")]
const LEAF: usize = LEAF_SIZE as usize;

/// The maximum number of ranges in a list. A list of this length takes as much memory as [`Bits`].
const RANGES_MAX: usize = LEAF / 8 / size_of::<Range<usize>>();

/// Ranges of bytes within a leaf: ascending, not empty, and with gaps between them. They take at
/// most 512 KiB of memory.
#[derive(Debug, Clone)]
pub(super) enum Coverage {
    /// A list.
    Ranges(Vec<Range<usize>>),
    /// A bit for each byte, if there are too many ranges for a list.
    Bits(Bits),
}

impl Default for Coverage {
    fn default() -> Self {
        Self::Ranges(Vec::new())
    }
}

impl Coverage {
    /// Adds a range that begins at or after the end of the last one.
    pub(super) fn push(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self {
            Self::Bits(bits) => bits.set(range),
            Self::Ranges(ranges) => {
                if let Some(last) = ranges.last_mut().filter(|last| range.start <= last.end) {
                    last.end = last.end.max(range.end);
                } else if ranges.len() < RANGES_MAX {
                    ranges.push(range);
                } else {
                    let mut bits = Bits::new();
                    for range in ranges.drain(..).chain([range]) {
                        bits.set(range);
                    }
                    *self = Self::Bits(bits);
                }
            }
        }
    }

    /// Returns the ranges, ascending.
    pub(super) fn ranges(&self) -> Box<dyn Iterator<Item = Range<usize>> + '_> {
        match self {
            Self::Ranges(ranges) => Box::new(ranges.iter().cloned()),
            Self::Bits(bits) => Box::new(bits.ranges()),
        }
    }

    /// Returns the chunks of this size that the ranges touch, as ranges of bytes. Adjacent chunks
    /// are joined.
    pub(super) fn touched(&self, chunk: usize) -> Vec<Range<usize>> {
        let mut touched: Vec<Range<usize>> = Vec::new();
        for range in self.ranges() {
            let (start, end) = (
                range.start / chunk * chunk,
                range.end.next_multiple_of(chunk),
            );
            match touched.last_mut() {
                Some(last) if start <= last.end => last.end = end,
                _ => touched.push(start..end),
            }
        }
        touched
    }

    /// Returns the bytes that are not set in the chunks that the ranges touch. Each returned range
    /// is within one chunk of this size.
    pub(super) fn gaps(&self, chunk: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut end = 0_usize;
        let pieces = self.ranges().map(Some).chain([None]);
        let pieces = pieces.flat_map(move |range| {
            // Between two ranges, there are at most two gaps. The first gap is the rest of the
            // chunk in which the first range ends. The second gap is the start of the chunk in
            // which the second range begins.
            let edge = end.next_multiple_of(chunk);
            match range {
                None => [end..edge, 0..0],
                Some(range) => {
                    let behind = end..edge.min(range.start);
                    let before = edge.max(range.start / chunk * chunk)..range.start;
                    end = range.end;
                    [behind, before]
                }
            }
        });
        pieces.filter(|piece| !piece.is_empty())
    }
}

/// A bit for each byte of a leaf, 64 in a word.
#[derive(Debug, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn new() -> Self {
        Self(vec![0; LEAF / 64])
    }

    fn set(&mut self, range: Range<usize>) {
        let words = range.start / 64..range.end.div_ceil(64);
        for (word, first) in self.0[words.clone()].iter_mut().zip(words.start..) {
            let start = range.start.saturating_sub(first * 64);
            let len = (range.end - first * 64).min(64) - start;
            *word |= u64::MAX >> (64 - len) << start;
        }
    }

    /// Returns the position of the first byte from `from` on whose bit is equal to `set`. Returns
    /// the leaf's length if there is none.
    fn find(&self, from: usize, set: bool) -> usize {
        let unwanted = if set { 0 } else { u64::MAX };
        let mut mask = u64::MAX << (from % 64);
        for (number, word) in (from / 64..).zip(&self.0[from / 64..]) {
            let found = (word ^ unwanted) & mask;
            if found != 0 {
                return number * 64 + found.trailing_zeros() as usize;
            }
            mask = u64::MAX;
        }
        self.0.len() * 64
    }

    fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.find(at, true);
            at = self.find(start, false);
            (start < at).then_some(start..at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the same coverage as bits.
    fn as_bits(coverage: &Coverage) -> Coverage {
        let mut bits = Bits::new();
        for range in coverage.ranges() {
            bits.set(range);
        }
        Coverage::Bits(bits)
    }

    proptest! {
        #[test]
        fn chunks_and_gaps_agree_with_a_plain_model(
            steps in prop::collection::vec((0usize..100, 0usize..150), 0..12),
            chunk in prop::sample::select(vec![1usize, 4, 16]),
        ) {
            let mut set = vec![false; 16 * 256];
            let mut coverage = Coverage::default();
            let mut at = 0;
            for (skip, len) in steps {
                coverage.push(at + skip..at + skip + len);
                set[at + skip..at + skip + len].fill(true);
                at += skip + len;
            }
            for coverage in [as_bits(&coverage), coverage] {
                let mut found = vec![false; set.len()];
                for range in coverage.ranges() {
                    prop_assert!(!range.is_empty());
                    found[range].fill(true);
                }
                prop_assert_eq!(&found, &set);
                let mut wide = vec![false; set.len()];
                for range in coverage.touched(chunk) {
                    prop_assert!(!range.is_empty());
                    wide[range].fill(true);
                }
                for (set, wide) in set.chunks(chunk).zip(wide.chunks(chunk)) {
                    let any = set.contains(&true);
                    prop_assert!(wide.iter().all(|w| *w == any));
                }
                let mut gaps = vec![false; set.len()];
                for gap in coverage.gaps(chunk) {
                    prop_assert_eq!(gap.start / chunk, (gap.end - 1) / chunk);
                    prop_assert!(!gaps[gap.clone()].contains(&true));
                    gaps[gap].fill(true);
                }
                for at in 0..set.len() {
                    prop_assert_eq!(gaps[at], wide[at] && !set[at]);
                }
            }
        }
    }

    #[test]
    fn ranges_are_exact_even_if_there_are_too_many_to_list() {
        let mut coverage = Coverage::default();
        let ranges = || (1..LEAF).step_by(3).map(|at| at..at + 1);
        ranges().for_each(|range| coverage.push(range));
        assert!(matches!(coverage, Coverage::Bits(_)));
        assert!(coverage.ranges().eq(ranges()));
        let touched = coverage.touched(64 << 10);
        assert_eq!((touched.len(), &touched[0]), (1, &(0..LEAF)));
        assert_eq!(
            coverage.gaps(4096).map(|gap| gap.len()).sum::<usize>(),
            LEAF - ranges().count()
        );
        coverage.push(LEAF - 2..LEAF);
        assert_eq!(coverage.ranges().last(), Some(LEAF - 3..LEAF));
    }
}
