//! A Bloom filter, so that a look-up of a new chunk rarely needs a query of the database.
//!
//! The filter consists of layers, each four times as large as the one before, so that it can grow.
//! A layer is split into blocks of 2 KiB. A look-up of an id needs at most one block of each layer.
//! A block is loaded when it is first needed. So no blocks are read when a large index is opened.

use std::collections::{HashMap, HashSet};

use crate::base::BlobId;

/// The size of a block, in bytes.
pub(super) const BLOCK_LEN: usize = 2048;
/// The number of ids that the first layer has space for.
const FIRST_CAPACITY: u64 = 64 << 10;
const GROWTH: u64 = 4;
/// With six probes, about one in 200 unknown ids seems to be in a full layer.
const BITS_PER_ID: u64 = 12;
const PROBES: usize = 6;

/// Names a block: the number of its layer, and its number in the layer.
pub(super) type BlockKey = (u32, u32);

/// The filter of an index. The caller stores its blocks: [`take_dirty`](Self::take_dirty) returns
/// those to store, and the `load` functions read them back.
#[derive(Default)]
pub(super) struct Filter {
    /// The number of ids in each layer.
    counts: Vec<u64>,
    blocks: HashMap<BlockKey, Box<[u8]>>,
    dirty: HashSet<BlockKey>,
}

fn capacity(layer: usize) -> u64 {
    FIRST_CAPACITY * GROWTH.pow(layer.try_into().unwrap_or(u32::MAX).min(16))
}

fn block_of(layer: usize, id: &BlobId) -> BlockKey {
    let blocks = capacity(layer) * BITS_PER_ID / (BLOCK_LEN as u64 * 8);
    let bytes = id.as_bytes();
    let hash = u64::from_le_bytes([
        bytes[16], bytes[17], bytes[18], bytes[19], bytes[20], bytes[21], bytes[22], bytes[23],
    ]);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the number of blocks"
    )]
    (layer as u32, (hash % blocks) as u32)
}

/// Returns the position of a byte in the block, and a mask of one bit, for each probe. The bytes of
/// an id are pseudorandom, so they need not be hashed.
fn probes(id: &BlobId) -> impl Iterator<Item = (usize, u8)> {
    let bytes = *id.as_bytes();
    (0..PROBES).map(move |i| {
        // Each probe uses two bytes of the id. The first four probes use bytes 24 to 31, and the
        // last two use bytes 0 to 3.
        let at = if i < 4 { 24 + 2 * i } else { 2 * (i - 4) };
        let bit = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])) % (BLOCK_LEN * 8);
        (bit / 8, 1 << (bit % 8))
    })
}

impl Filter {
    /// Returns a filter whose layers hold these numbers of ids. Blocks are loaded when they are
    /// first needed.
    pub(super) fn new(counts: Vec<u64>) -> Self {
        Self {
            counts,
            ..Self::default()
        }
    }

    /// Returns the number of ids in each layer. The caller stores it with the blocks.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns whether this id may be in the filter. `load` returns a stored block, or `None` if
    /// there is none.
    pub(super) fn maybe_has<E>(
        &mut self,
        id: &BlobId,
        mut load: impl FnMut(BlockKey) -> Result<Option<Box<[u8]>>, E>,
    ) -> Result<bool, E> {
        for layer in 0..self.counts.len() {
            let block = self.block(block_of(layer, id), &mut load)?;
            if probes(id).all(|(byte, bit)| block[byte] & bit != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts an id into the newest layer. If there is no layer, or if the newest one is full, adds a
    /// layer first.
    pub(super) fn put<E>(
        &mut self,
        id: &BlobId,
        load: impl FnMut(BlockKey) -> Result<Option<Box<[u8]>>, E>,
    ) -> Result<(), E> {
        let full = |(layer, count): (usize, &u64)| *count >= capacity(layer);
        if self.counts.iter().enumerate().next_back().is_none_or(full) {
            self.counts.push(0);
        }
        let layer = self.counts.len() - 1;
        self.counts[layer] += 1;
        let key = block_of(layer, id);
        let block = self.block(key, load)?;
        for (byte, bit) in probes(id) {
            block[byte] |= bit;
        }
        self.dirty.insert(key);
        Ok(())
    }

    /// Returns the blocks that changed since the last call. The caller stores them.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = (BlockKey, &[u8])> {
        let blocks = &self.blocks;
        self.dirty
            .drain()
            .filter_map(|key| Some((key, &**blocks.get(&key)?)))
    }

    fn block<E>(
        &mut self,
        key: BlockKey,
        mut load: impl FnMut(BlockKey) -> Result<Option<Box<[u8]>>, E>,
    ) -> Result<&mut Box<[u8]>, E> {
        use std::collections::hash_map::Entry;
        match self.blocks.entry(key) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let stored = load(key)?.filter(|block| block.len() == BLOCK_LEN);
                Ok(entry.insert(stored.unwrap_or_else(|| vec![0; BLOCK_LEN].into())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn id(n: u64) -> BlobId {
        BlobId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn all_ids_that_were_put_pass_and_few_other_ids_pass() {
        let mut filter = Filter::default();
        let none = |_| Ok::<_, Infallible>(None);
        let ids = 3 * FIRST_CAPACITY; // reaches into the second layer
        for n in 0..ids {
            filter.put(&id(n), none).unwrap();
        }
        assert_eq!(filter.counts().len(), 2);
        assert!((0..ids).all(|n| filter.maybe_has(&id(n), none).unwrap()));
        let passed = (ids..2 * ids)
            .filter(|n| filter.maybe_has(&id(*n), none).unwrap())
            .count();
        assert!(
            passed < usize::try_from(ids).unwrap() / 50,
            "{passed} of {ids} unknown ids pass"
        );
    }
}
