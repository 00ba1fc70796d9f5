//! Finds zeros. Sources, chunking and targets all use it.

use std::ops::Range;

/// The number of bytes that are tested together. It is small enough for a test to stop early, and
/// large enough for the compiler to vectorize the inner loop.
const STRIDE: usize = 4 << 10;

/// The number of bytes at the beginning of a stride that are tested first, one by one: one cache
/// line.
const HEAD: usize = 64;

/// Returns whether all bytes are zero. Returns true if there are no bytes.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(STRIDE).all(|stride| {
        // If a stride has data, one of the first bytes usually is not zero. The rest of the stride
        // then need not be read from memory.
        if stride.iter().take(HEAD).any(|byte| *byte != 0) {
            return false;
        }
        let (words, rest) = stride.as_chunks::<16>();
        // Test all words of the stride, even after a word that is not zero. The compiler cannot
        // vectorize a loop with a branch for each word.
        let words = words
            .iter()
            .fold(0, |all, word| all | u128::from_le_bytes(*word));
        words == 0 && rest.iter().all(|byte| *byte == 0)
    })
}

/// Returns all runs of adjacent blocks with data, in ascending order. A block has data if one of
/// its bytes is not zero. Each block has `block` bytes (0 counts as 1); the last one may be
/// shorter. All bytes outside the runs are zero.
pub fn data_runs(bytes: &[u8], block: usize) -> impl Iterator<Item = Range<usize>> {
    let mut blocks = bytes.chunks(block.max(1));
    let mut end = 0;
    std::iter::from_fn(move || {
        let mut run: Option<Range<usize>> = None;
        for block in blocks.by_ref() {
            let start = end;
            end += block.len();
            match (&mut run, is_zero(block)) {
                (None, true) => {}
                (None, false) => run = Some(start..end),
                (Some(run), false) => run.end = end,
                (Some(_), true) => break,
            }
        }
        run
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_not_zero_if_one_of_them_is_not() {
        assert!(is_zero(&[]));
        for len in [1, 15, 16, 17, 4095, 4096, 4097, 4112, 9000] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len}");
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_zero(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn adjacent_blocks_with_data_are_one_run_and_the_last_may_be_short() {
        let mut bytes = vec![0; 35];
        for at in [0, 13, 19, 34] {
            bytes[at] = 1;
        }
        let runs = |block| data_runs(&bytes, block).collect::<Vec<_>>();
        assert_eq!(runs(10), [0..20, 30..35]);
        assert_eq!(runs(1), [0..1, 13..14, 19..20, 34..35]);
        assert_eq!(runs(0), runs(1), "a block size of 0 counts as 1");
        assert_eq!(runs(100), vec![0..35]);
        assert_eq!(data_runs(&[0; 35], 10).count(), 0);
        assert_eq!(data_runs(&[], 10).count(), 0);
    }

    proptest! {
        #[test]
        fn runs_cover_exactly_the_blocks_with_data(
            layout in prop::collection::vec(any::<bool>(), 0..40),
            cut in 0usize..8,
        ) {
            let block = |data: &bool| [0, 0, 0, 0, 0, 0, 0, u8::from(*data)];
            let mut bytes: Vec<u8> = layout.iter().flat_map(block).collect();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let mut held = vec![false; bytes.len()];
            let mut before = None;
            for run in data_runs(&bytes, 8) {
                prop_assert!(!run.is_empty() && run.start % 8 == 0);
                let apart = before.is_none_or(|before| before < run.start);
                prop_assert!(apart, "adjacent blocks are one run");
                before = Some(run.end);
                held[run].fill(true);
            }
            for (at, block) in bytes.chunks(8).enumerate() {
                let data = block.iter().any(|byte| *byte != 0);
                prop_assert!(held[at * 8..][..block.len()].iter().all(|h| *h == data));
            }
        }
    }
}
