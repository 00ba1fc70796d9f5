//! The ids that a run has taken upon itself to store.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::base::{BlobId, lock};

const SHARDS: usize = 16;

/// A set of ids that many threads ask at once.
pub(super) struct InFlightIds([Mutex<Shard>; SHARDS]);

enum Shard {
    Whole(HashSet<BlobId>),
    /// The first 8 bytes of each id.
    Short(HashSet<u64>),
}

impl InFlightIds {
    /// The ids of a run that stores: small, since a segment takes over what it names.
    pub(super) fn to_store() -> Self {
        Self::of(|| Shard::Whole(HashSet::new()))
    }

    /// The ids of a dry run. No segment ever takes them over, so they are kept short: 10 to 21 bytes for each
    /// new blob, 160 to 340 MiB for 1 TiB of new data in chunks of 64 KiB. Of `n` blobs two begin alike, and
    /// count as one, with a probability of n² / 2⁶⁵ (for that TiB, one in 130,000). Nothing but a figure
    /// in a report depends on it.
    pub(super) fn to_count() -> Self {
        Self::of(|| Shard::Short(HashSet::new()))
    }

    fn of(shard: impl Fn() -> Shard) -> Self {
        Self(std::array::from_fn(|_| Mutex::new(shard())))
    }

    fn shard(&self, id: &BlobId) -> MutexGuard<'_, Shard> {
        // Not the bytes that are kept short: all in a shard would have some of their bits in common.
        let shard = &self.0[usize::from(id.as_bytes()[31]) % SHARDS];
        lock(shard)
    }

    /// Whether nobody had claimed it.
    pub(super) fn claim(&self, id: BlobId) -> bool {
        match &mut *self.shard(&id) {
            Shard::Whole(ids) => ids.insert(id),
            Shard::Short(ids) => ids.insert(short(&id)),
        }
    }

    pub(super) fn forget(&self, ids: impl IntoIterator<Item = BlobId>) {
        for id in ids {
            match &mut *self.shard(&id) {
                Shard::Whole(ids) => ids.remove(&id),
                Shard::Short(ids) => ids.remove(&short(&id)),
            };
        }
    }
}

/// Ids are uniform, so any of their bytes are as good as a hash of all.
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
    fn an_id_is_claimed_once_and_again_when_it_is_forgotten() {
        for ids in [InFlightIds::to_store(), InFlightIds::to_count()] {
            assert!((0..1000).all(|n| ids.claim(id(n))));
            assert!(!(0..1000).any(|n| ids.claim(id(n))));
            ids.forget((0..500).map(id));
            assert!((0..500).all(|n| ids.claim(id(n))));
            assert!(!(500..1000).any(|n| ids.claim(id(n))));
        }
    }

    #[test]
    fn a_dry_run_keeps_little_of_each_id() {
        let ids = InFlightIds::to_count();
        // Just after the tables have doubled, which is when they are emptiest.
        let count = SHARDS * 7500;
        assert!((0..count as u64).all(|n| ids.claim(id(n))));
        let bytes: usize = ids
            .0
            .iter()
            .map(|shard| bytes(&shard.lock().unwrap()))
            .sum();
        assert!(bytes <= 21 * count, "{bytes} bytes for {count} ids");
    }

    /// What the table of a shard takes: a slot and a byte for each of its places, of which an eighth stays free.
    fn bytes(shard: &Shard) -> usize {
        let (capacity, slot) = match shard {
            Shard::Whole(ids) => (ids.capacity(), size_of::<BlobId>()),
            Shard::Short(ids) => (ids.capacity(), size_of::<u64>()),
        };
        capacity * 8 / 7 * (slot + 1)
    }
}
