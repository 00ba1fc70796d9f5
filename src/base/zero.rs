//! Where bytes are zero. Sources, the chunk grid and targets all ask, so it lives below them.

use std::ops::Range;

/// How much is looked at before stopping: short enough to leave data early, long enough for the
/// inner loop to be vectorized.
const STRIDE: usize = 4 << 10;

/// How much of a stride is looked at byte by byte before all of it: one cache line.
const HEAD: usize = 64;

/// Whether there is nothing but zeros. True of nothing at all.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(STRIDE).all(|stride| {
        // Data mostly shows at once, and then the rest need not come from memory.
        if stride.iter().take(HEAD).any(|byte| *byte != 0) {
            return false;
        }
        let (words, rest) = stride.as_chunks::<16>();
        // No exit inside a stride: a branch a word would cost a hundred times the work.
        let words = words
            .iter()
            .fold(0, |all, word| all | u128::from_le_bytes(*word));
        words == 0 && rest.iter().all(|byte| *byte == 0)
    })
}

/// The longest runs of `block`-sized blocks that hold data, in ascending order. What lies between
/// them is zero. The last block may be short.
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
    fn one_byte_anywhere_is_data() {
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
    fn runs_are_joined_and_the_last_may_be_short() {
        let mut bytes = vec![0; 35];
        for at in [0, 13, 19, 34] {
            bytes[at] = 1;
        }
        let runs = |block| data_runs(&bytes, block).collect::<Vec<_>>();
        assert_eq!(runs(10), [0..20, 30..35]);
        assert_eq!(runs(1), [0..1, 13..14, 19..20, 34..35]);
        assert_eq!(runs(0), runs(1), "there is no smaller block");
        assert_eq!(runs(100), vec![0..35]);
        assert_eq!(data_runs(&[0; 35], 10).count(), 0);
        assert_eq!(data_runs(&[], 10).count(), 0);
    }

    proptest! {
        #[test]
        fn runs_are_what_a_look_at_each_block_says(
            layout in prop::collection::vec(any::<bool>(), 0..40),
            cut in 0usize..8,
        ) {
            let mut bytes: Vec<u8> = layout.iter().flat_map(|data| [0, 0, 0, 0, 0, 0, 0, u8::from(*data)]).collect();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let mut held = vec![false; bytes.len()];
            let mut before = None;
            for run in data_runs(&bytes, 8) {
                prop_assert!(!run.is_empty() && run.start % 8 == 0);
                prop_assert!(before.is_none_or(|before| before < run.start), "neighbours are one run");
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
