//! Random numbers for tests that interrupt the program at random moments.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that differ from run to run; prints the seed, so that a failure can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = u64::from(now.subsec_nanos()) | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    /// Below `most`.
    pub(crate) fn next(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
