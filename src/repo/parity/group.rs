//! The parity shards of a group of data shards.

use reed_solomon_simd::engine::{DefaultEngine, Engine, ShardsRefMut};

/// The length of the pieces into which the engine divides shards, in bytes.
const PIECE: usize = 64;

/// Makes the parity shards of one group after the other, with the transforms of the crate
/// `reed-solomon-simd`. The encoder of that crate copies all shards of a group before it begins.
/// Adding one chunk of shards after the other is faster: a chunk stays in the cache of the
/// processor.
pub(super) struct GroupParity {
    engine: DefaultEngine,
    per_group: usize,
    /// The number of shards in a chunk, which is a part of a group here. It is `m` in section 24
    /// (Parity) of `docs/format.md`.
    chunk_len: usize,
    /// The number of pieces of a shard.
    shard_pieces: usize,
    /// The sum of the transformed chunks.
    sum: Vec<[u8; PIECE]>,
    chunk: Vec<[u8; PIECE]>,
}

impl GroupParity {
    /// Prepares to make `per_group` parity shards for each group. `shard_len` is a multiple of 64
    /// bytes.
    pub(super) fn new(per_group: usize, shard_len: usize) -> Self {
        let (chunk_len, shard_pieces) = (per_group.next_power_of_two(), shard_len / PIECE);
        let zeros = vec![[0; PIECE]; chunk_len * shard_pieces];
        Self {
            engine: DefaultEngine::new(),
            per_group,
            chunk_len,
            shard_pieces,
            sum: zeros.clone(),
            chunk: zeros,
        }
    }

    /// Returns the number of data shards of each chunk. Only the last chunk may have fewer.
    pub(super) const fn chunk_len(&self) -> usize {
        self.chunk_len
    }

    /// Begins a group.
    pub(super) fn clear(&mut self) {
        self.sum.fill([0; PIECE]);
    }

    /// Adds the data shards of a chunk. Chunks are numbered from 0.
    pub(super) fn add_chunk<'a>(&mut self, number: usize, shards: impl Iterator<Item = &'a [u8]>) {
        let mut count = 0;
        for (place, shard) in self.chunk.chunks_mut(self.shard_pieces).zip(shards) {
            place.as_flattened_mut().copy_from_slice(shard);
            count += 1;
        }
        self.chunk[count * self.shard_pieces..].fill([0; PIECE]);
        let mut data = ShardsRefMut::new(self.chunk_len, self.shard_pieces, &mut self.chunk);
        let skew = (number + 1) * self.chunk_len;
        self.engine.ifft(&mut data, 0, self.chunk_len, count, skew);
        let (sum, chunk) = (self.sum.as_flattened_mut(), self.chunk.as_flattened());
        for (sum, byte) in sum.iter_mut().zip(chunk) {
            *sum ^= byte;
        }
    }

    /// Returns the parity shards of the group.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = &[u8]> {
        let (chunk_len, per_group) = (self.chunk_len, self.per_group);
        let mut data = ShardsRefMut::new(chunk_len, self.shard_pieces, &mut self.sum);
        self.engine.fft(&mut data, 0, chunk_len, per_group, 0);
        let shards = self.sum.chunks(self.shard_pieces);
        shards.take(per_group).map(<[_]>::as_flattened)
    }
}

#[cfg(test)]
mod tests {
    use reed_solomon_simd::rate::{HighRateEncoder, RateEncoder};

    use super::*;

    #[test]
    fn the_parity_of_a_group_is_that_of_the_encoder_of_the_crate() {
        for (count, per_group, len) in [(1, 1, 64), (3, 5, 64), (70, 17, 128), (512, 26, 64)] {
            let byte = |n: usize, at: usize| (n * 37 + at * at).to_le_bytes()[0];
            let shards: Vec<Vec<u8>> = (0..count)
                .map(|n| (0..len).map(|at| byte(n, at)).collect())
                .collect();
            let engine = DefaultEngine::new();
            let mut expected = HighRateEncoder::new(count, per_group, len, engine, None).unwrap();
            let mut group = GroupParity::new(per_group, len);
            // In the second round, nothing of the first group may be left.
            for _ in 0..2 {
                group.clear();
                for (number, chunk) in shards.chunks(group.chunk_len()).enumerate() {
                    group.add_chunk(number, chunk.iter().map(|shard| &shard[..]));
                }
                for shard in &shards {
                    expected.add_original_shard(shard).unwrap();
                }
                let result = expected.encode().unwrap();
                assert!(
                    group.finish().eq(result.recovery_iter()),
                    "{count} {per_group}"
                );
            }
        }
    }
}
