//! Which bytes of a slot a source sets, widened to chunks.

use std::ops::Range;

/// Ranges of bytes within a slot: ascending, apart, none empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Coverage(Vec<Range<usize>>);

impl Coverage {
    /// Adds a range that begins where the last one ended, or behind it.
    pub(super) fn push(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }

    /// What chunks of this size it touches, as ranges that begin and end at chunks.
    pub(super) fn touched(&self, chunk: usize) -> Self {
        let mut touched = Self::default();
        for range in &self.0 {
            touched.push(range.start / chunk * chunk..range.end.next_multiple_of(chunk));
        }
        touched
    }

    /// What of the other it leaves out.
    pub(super) fn gaps_in(&self, outer: &Self) -> Vec<Range<usize>> {
        let mut gaps = Vec::new();
        let mut inner = self.0.iter().peekable();
        for range in &outer.0 {
            let mut at = range.start;
            while let Some(set) = inner.next_if(|set| set.start < range.end) {
                if at < set.start {
                    gaps.push(at..set.start);
                }
                at = set.end;
            }
            if at < range.end {
                gaps.push(at..range.end);
            }
        }
        gaps
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_and_gaps_are_those_of_a_plain_count(
            steps in prop::collection::vec((0usize..20, 0usize..30), 0..12),
            chunk in prop::sample::select(vec![1usize, 4, 16]),
        ) {
            let mut set = vec![false; 16 * 64];
            let mut coverage = Coverage::default();
            let mut at = 0;
            for (skip, len) in steps {
                coverage.push(at + skip..at + skip + len);
                set[at + skip..at + skip + len].fill(true);
                at += skip + len;
            }
            let touched = coverage.touched(chunk);
            let mut wide = vec![false; set.len()];
            for range in touched.ranges() {
                prop_assert!(!range.is_empty());
                wide[range.clone()].fill(true);
            }
            for (set, wide) in set.chunks(chunk).zip(wide.chunks(chunk)) {
                let any = set.contains(&true);
                prop_assert!(wide.iter().all(|w| *w == any));
            }
            let mut gaps = vec![false; set.len()];
            for gap in coverage.gaps_in(&touched) {
                prop_assert!(!gap.is_empty());
                gaps[gap].fill(true);
            }
            for at in 0..set.len() {
                prop_assert_eq!(gaps[at], wide[at] && !set[at]);
            }
        }
    }
}
