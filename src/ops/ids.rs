//! Sets of blob ids that need few bytes of memory for each id, with a note on every id.

use rayon::slice::ParallelSliceMut;

use crate::base::{BlobId, to_usize};

/// The part of an id that a table keeps.
pub(super) trait Key: Copy + Ord + Send {
    fn of(id: &BlobId) -> Self;
    /// Returns the first 32 bits of the key.
    fn lead(self) -> u32;
}

/// The first 8 bytes of an id. Among `n` chunks, two have the same key with a probability of n² /
/// 2⁶⁵. If two chunks have the same key, an unused chunk may be kept.
pub(super) type ChunkKey = u64;

impl Key for ChunkKey {
    fn of(id: &BlobId) -> Self {
        let (first, _) = id.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*first)
    }

    fn lead(self) -> u32 {
        (self >> 32) as u32
    }
}

/// The first 16 bytes of an id. If two nodes had the same key, data would be lost: the second node
/// would count as walked, and all data below it as unused.
pub(super) type NodeKey = u128;

impl Key for NodeKey {
    fn of(id: &BlobId) -> Self {
        let (first, _) = id.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
        u128::from_be_bytes(*first)
    }

    fn lead(self) -> u32 {
        (self >> 96) as u32
    }
}

/// Ids, with a byte of notes on each.
pub(super) struct Ids<K> {
    /// Ascending.
    keys: Vec<K>,
    notes: Vec<u8>,
    /// For each value of the leading `bits`, the position of the first key that begins with this
    /// value or a larger one. At the end, the number of keys. Ids are uniform, so few keys share a
    /// value.
    starts: Vec<u32>,
    bits: u32,
    /// One bit for each id: whether it is held, which means that a reader needs its blob. Empty
    /// until the first id is held.
    held: Vec<u64>,
}

impl<K: Key> Ids<K> {
    /// Makes the set of these ids, which may contain duplicates.
    pub(super) fn new(mut keys: Vec<K>) -> Self {
        keys.par_sort_unstable();
        keys.dedup();
        let bits = (keys.len() / 4).max(1).ilog2().min(24);
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (at, key) in (0_u32..).zip(&keys) {
            let bucket = bucket(*key, bits);
            while starts.len() <= bucket {
                starts.push(at);
            }
        }
        let len = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        starts.resize((1 << bits) + 1, len);
        Self {
            notes: vec![0; keys.len()],
            keys,
            starts,
            bits,
            held: Vec::new(),
        }
    }

    /// Returns the note on an id, or `None` if the set lacks the id.
    pub(super) fn note(&mut self, id: &BlobId) -> Option<&mut u8> {
        let at = self.position(id)?;
        self.notes.get_mut(at)
    }

    /// Returns a copy of the note on an id, or `None` if the set lacks the id.
    pub(super) fn noted(&self, id: &BlobId) -> Option<u8> {
        self.notes.get(self.position(id)?).copied()
    }

    /// Changes the notes on all ids.
    pub(super) fn change_notes(&mut self, change: impl FnMut(&mut u8)) {
        self.notes.iter_mut().for_each(change);
    }

    /// Marks an id as held. Returns true if the set contains the id and the id was not held before.
    pub(super) fn hold(&mut self, id: &BlobId) -> bool {
        let Some(at) = self.position(id) else {
            return false;
        };
        if self.held.is_empty() {
            self.held.resize(self.keys.len().div_ceil(64), 0);
        }
        let (word, bit) = (&mut self.held[at / 64], 1 << (at % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Makes all ids count as not held.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }

    /// Returns whether an id is held.
    pub(super) fn is_held(&self, id: &BlobId) -> bool {
        let is_set = |at: usize| self.held[at / 64] >> (at % 64) & 1 == 1;
        !self.held.is_empty() && self.position(id).is_some_and(is_set)
    }

    fn position(&self, id: &BlobId) -> Option<usize> {
        let key = K::of(id);
        let bucket = bucket(key, self.bits);
        let from = self.starts[bucket] as usize;
        let to = self.starts[bucket + 1] as usize;
        let at = self.keys[from..to].binary_search(&key).ok()?;
        Some(from + at)
    }
}

fn bucket<K: Key>(key: K, bits: u32) -> usize {
    let bucket = u64::from(key.lead()) >> (32 - bits);
    to_usize(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> BlobId {
        BlobId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn ids_are_held_one_by_one<K: Key>() {
        let mut ids = Ids::<K>::new((0..1000).map(|n| K::of(&id(n))).collect());
        assert!(!ids.is_held(&id(0)), "no id is held at first");
        for n in (0..1000).step_by(3) {
            assert!(ids.hold(&id(n)) && !ids.hold(&id(n)));
        }
        assert!(!ids.hold(&id(1000)), "the set lacks this id");
        for n in 0..1001 {
            assert_eq!(ids.is_held(&id(n)), n < 1000 && n % 3 == 0);
        }
    }

    #[test]
    fn chunks_and_nodes_are_held_one_by_one() {
        ids_are_held_one_by_one::<ChunkKey>();
        ids_are_held_one_by_one::<NodeKey>();
    }

    fn every_id_has_its_note<K: Key>() {
        for count in [0, 1, 2, 3, 7, 100, 5000] {
            let twice = (0..count).chain(0..count);
            let mut ids = Ids::<K>::new(twice.map(|n| K::of(&id(n))).collect());
            for n in 0..count {
                let note = ids.note(&id(n)).unwrap();
                assert_eq!(*note, 0);
                *note = u8::try_from(n % 251).unwrap() + 1;
            }
            for n in 0..count {
                assert_eq!(u64::from(*ids.note(&id(n)).unwrap()), n % 251 + 1);
            }
            for n in count..count + 100 {
                assert!(ids.note(&id(n)).is_none());
            }
        }
    }

    #[test]
    fn every_chunk_has_its_note() {
        every_id_has_its_note::<ChunkKey>();
    }

    #[test]
    fn every_node_has_its_note() {
        every_id_has_its_note::<NodeKey>();
    }

    #[test]
    fn the_lowest_and_the_highest_id_are_found() {
        let ends = [[0; 32], [0xff; 32]].map(BlobId::from_bytes);
        let mut ids = Ids::<ChunkKey>::new(ends.iter().map(ChunkKey::of).collect());
        assert!(ends.iter().all(|id| ids.note(id).is_some()));
        assert!(ids.note(&id(1)).is_none());
    }
}
