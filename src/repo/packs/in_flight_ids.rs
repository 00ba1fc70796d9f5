//! The ids of blobs that this process stores and that the index does not have yet.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::base::{BlobId, lock};

const SHARDS: usize = 16;

/// A set of ids that many threads use at once. It consists of shards, each with its own lock.
///
/// A thread that wants to store a blob first queries the index and then inserts the id. In between,
/// the writer may have stored a segment that names the blob, and [released](Self::release) the id.
/// So the thread reads [`releases`](Self::releases) before the query and after the insertion. If
/// the two numbers differ, it queries the index again.
pub(super) struct InFlightIds {
    shards: [Mutex<Shard>; SHARDS],
    releases: AtomicU64,
}

enum Shard {
    Whole(HashSet<BlobId>),
    /// The first 8 bytes of each id.
    Short(HashSet<u64>),
}

impl InFlightIds {
    /// Returns an empty set for a packer that stores packs. The set stays small, because each
    /// stored segment releases ids.
    pub(super) fn to_store() -> Self {
        Self::of(|| Shard::Whole(HashSet::new()))
    }

    /// Returns an empty set for a dry run. A dry run releases no ids, so the set keeps only their
    /// first 8 bytes. The set needs 10 to 21 bytes for each new blob: 160 to 340 MiB for 1 TiB of
    /// new data in chunks of 64 KiB. Two blobs that share these 8 bytes and the shard count as one.
    /// The probability that `n` blobs include such a pair is below n² / 2⁶⁵ (for 1 TiB, one in
    /// 130,000). Each such pair makes the reported number of new blobs one too small.
    pub(super) fn to_count() -> Self {
        Self::of(|| Shard::Short(HashSet::new()))
    }

    fn of(shard: impl Fn() -> Shard) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(shard())),
            releases: AtomicU64::new(0),
        }
    }

    fn shard(&self, id: &BlobId) -> MutexGuard<'_, Shard> {
        // Do not use one of the bytes that a short id keeps. Otherwise the ids in a shard would
        // share some bits.
        lock(&self.shards[usize::from(id.as_bytes()[31]) % SHARDS])
    }

    /// Inserts an id. Returns false if the set has it already.
    pub(super) fn insert(&self, id: BlobId) -> bool {
        match &mut *self.shard(&id) {
            Shard::Whole(ids) => ids.insert(id),
            Shard::Short(ids) => ids.insert(short(&id)),
        }
    }

    /// Removes ids of blobs that will not be stored.
    pub(super) fn remove(&self, ids: impl IntoIterator<Item = BlobId>) {
        for id in ids {
            match &mut *self.shard(&id) {
                Shard::Whole(ids) => ids.remove(&id),
                Shard::Short(ids) => ids.remove(&short(&id)),
            };
        }
    }

    /// Removes ids that the index has from now on.
    pub(super) fn release(&self, ids: impl IntoIterator<Item = BlobId>) {
        // Increase the count first, so that a thread which inserts one of these ids after its
        // removal sees the new count.
        self.releases.fetch_add(1, Ordering::SeqCst);
        self.remove(ids);
    }

    /// Returns how often ids were released.
    pub(super) fn releases(&self) -> u64 {
        self.releases.load(Ordering::SeqCst)
    }
}

/// Returns the first 8 bytes of an id. Ids are hashes, so these bytes are uniformly distributed.
fn short(id: &BlobId) -> u64 {
    let mut front = [0; 8];
    front.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> BlobId {
        BlobId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn an_id_is_inserted_once_until_it_is_removed() {
        for ids in [InFlightIds::to_store(), InFlightIds::to_count()] {
            assert!((0..1000).all(|n| ids.insert(id(n))));
            assert!(!(0..1000).any(|n| ids.insert(id(n))));
            ids.remove((0..500).map(id));
            assert!((0..500).all(|n| ids.insert(id(n))));
            assert!(!(500..1000).any(|n| ids.insert(id(n))));
        }
    }

    #[test]
    fn a_dry_run_needs_at_most_21_bytes_for_each_id() {
        let ids = InFlightIds::to_count();
        // Just after the tables have doubled, they have the most free space.
        let count = SHARDS * 7500;
        assert!((0..count as u64).all(|n| ids.insert(id(n))));
        let bytes: usize = ids
            .shards
            .iter()
            .map(|shard| bytes(&shard.lock().unwrap()))
            .sum();
        assert!(bytes <= 21 * count, "{bytes} bytes for {count} ids");
    }

    /// Returns the size of a shard's table, in bytes. Each place has an entry and a control byte.
    /// An eighth of the places stays free.
    fn bytes(shard: &Shard) -> usize {
        let (capacity, entry) = match shard {
            Shard::Whole(ids) => (ids.capacity(), size_of::<BlobId>()),
            Shard::Short(ids) => (ids.capacity(), size_of::<u64>()),
        };
        capacity * 8 / 7 * (entry + 1)
    }
}
