//! The hash of a shard.

use twox_hash::XxHash3_64;

use crate::format::ParityHeader;

/// Returns the hash of a shard: XXH3 with 64 bits and the seed 0, little-endian. It shows which
/// shards were damaged by accident. Anyone can make other bytes with the same hash, so only the
/// BLAKE3 hash of the whole object decides whether restored bytes are right.
pub(super) fn sum(shard: &[u8]) -> [u8; ParityHeader::SUM_LEN] {
    XxHash3_64::oneshot(shard).to_le_bytes()
}
