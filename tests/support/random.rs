//! Random moments for tests that interrupt the program, and reproducible noise as data.

use std::time::{SystemTime, UNIX_EPOCH};

/// Random numbers from a seed.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    /// Uses the environment variable `SEED`, or a new seed. Prints the seed.
    pub(crate) fn new() -> Self {
        let seed = std::env::var("SEED").unwrap_or_else(|_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.subsec_nanos().to_string()
        });
        eprintln!("SEED={seed}");
        Self(blake3::Hasher::new().update(seed.as_bytes()).finalize_xof())
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let mut number = [0; 8];
        self.0.fill(&mut number);
        u64::from_le_bytes(number) % bound
    }
}

/// Returns bytes without a zero block, different for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
