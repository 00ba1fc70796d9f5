//! Chooses small packs to merge, so that many small backups do not become many objects.
//!
//! Merging must end, and must not copy the same data again and again. So a pack is merged only into
//! packs that are filled at least [`GROWTH`] times as much. As a result, even the smallest data is
//! copied only a few times, each time into a much fuller pack. Few small packs are left, since each
//! is larger than half of all smaller ones together. A prune right after another one merges
//! nothing.

use std::collections::HashSet;

use super::usage::PackUse;
use crate::base::ObjectHash;
use crate::format::BlobKind;
use crate::repo::PackSizes;

/// At least this many packs are merged at once. Packs of chunks become one pack, or several full
/// ones. Packs of nodes become twice as many, since each node is stored in two packs.
const MANY: usize = 8;
/// Merged packs are filled at least this many times as much as each of the packs they replace.
const GROWTH: u64 = 3;

/// Chooses the small packs that are worth merging. They are merged together with the used blobs of
/// `copied`, which go to new packs in any case. The chosen packs have at most `budget` used bytes.
/// Returns them in the reverse order of `mergeable`.
pub(super) fn choose(mergeable: Vec<PackUse>, copied: &[PackUse], mut budget: u64) -> Vec<PackUse> {
    let mut chosen = HashSet::new();
    for kind in [BlobKind::Chunk, BlobKind::Node] {
        let of_kind = |packs: &[PackUse]| {
            let packs = packs.iter().filter(|pack| pack.kind == kind);
            packs.copied().collect::<Vec<_>>()
        };
        let packs = smallest(of_kind(&mergeable), &of_kind(copied), kind, budget);
        budget -= packs.iter().map(PackUse::used).sum::<u64>();
        chosen.extend(packs.iter().map(|pack| pack.pack));
    }
    let is_chosen = |pack: &PackUse| chosen.contains::<ObjectHash>(&pack.pack);
    mergeable.into_iter().rev().filter(is_chosen).collect()
}

/// Chooses packs of one kind, smallest first: see [`choose`].
fn smallest(
    mut packs: Vec<PackUse>,
    copied: &[PackUse],
    kind: BlobKind,
    mut budget: u64,
) -> Vec<PackUse> {
    let sizes = PackSizes::default();
    let filled = |pack: &PackUse| sizes.filled(kind, pack.used(), pack.blobs);
    let limit = sizes.small(kind);
    packs.retain(|pack| pack.size < limit && filled(pack) < limit);
    packs.sort_unstable_by_key(|pack| (filled(pack), pack.pack));
    // Each node is stored in two packs. So packs of nodes are merged into two packs, each of which
    // gets half of their bytes.
    let stored = match kind {
        BlobKind::Chunk => 1,
        BlobKind::Node => 2,
    };
    // The used blobs of `copied` count like one more pack of chunks, or two more packs of nodes.
    let mut together: u64 = copied.iter().map(filled).sum();
    let more = if copied.is_empty() { 0 } else { stored };
    let mut merged = 0;
    for (count, pack) in (1..).zip(&packs) {
        if pack.used() > budget {
            break;
        }
        budget -= pack.used();
        together += filled(pack);
        if count + more >= MANY && together >= GROWTH * stored as u64 * filled(pack) {
            merged = count;
        }
    }
    packs.truncate(merged);
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const KIB: u64 = 1 << 10;

    /// Packs in a simulated repository.
    #[derive(Default)]
    struct World {
        packs: Vec<PackUse>,
        made: u64,
        /// Bytes that backups stored.
        stored: u64,
        /// Bytes that merging stored.
        merged: u64,
    }

    impl World {
        fn add(&mut self, kind: BlobKind, size: u64, blobs: u64) {
            self.made += 1;
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&blake3::hash(&self.made.to_le_bytes()).as_bytes()[..8]);
            self.packs.push(PackUse {
                pack: ObjectHash::from_bytes(hash),
                kind,
                size,
                unused: 0,
                blobs,
                class: 1,
            });
        }

        /// Adds the packs of a backup: this number of chunks, each of `chunk` bytes, and a few
        /// nodes.
        fn back_up(&mut self, chunks: u64, chunk: u64) {
            self.add(BlobKind::Chunk, chunks * chunk + 300, chunks);
            for _ in 0..2 {
                self.add(BlobKind::Node, 300 + chunks * 64, 1 + chunks / 8);
            }
            self.stored += chunks * chunk + 300 + 2 * (300 + chunks * 64);
        }

        /// Merges small packs. Returns how many packs it merged.
        fn merge(&mut self, budget: u64) -> usize {
            let chosen = choose(self.packs.clone(), &[], budget);
            let gone: HashSet<_> = chosen.iter().map(|pack| pack.pack).collect();
            assert!(chosen.iter().map(PackUse::used).sum::<u64>() <= budget);
            self.packs.retain(|pack| !gone.contains(&pack.pack));
            for (kind, copies, full) in [(BlobKind::Chunk, 1, 32), (BlobKind::Node, 2, 4)] {
                let merged = chosen.iter().filter(|pack| pack.kind == kind);
                let (bytes, blobs) = merged.fold((0, 0), |(bytes, blobs), pack| {
                    (bytes + pack.size - 200, blobs + pack.blobs)
                });
                self.merged += bytes;
                let packs = (bytes / copies)
                    .div_ceil(full * MIB)
                    .max((blobs / copies).div_ceil(8192));
                for _ in 0..packs * copies {
                    self.add(kind, bytes / copies / packs + 200, blobs / copies / packs);
                }
            }
            gone.len()
        }

        fn count(&self, kind: BlobKind) -> usize {
            self.packs.iter().filter(|pack| pack.kind == kind).count()
        }
    }

    #[test]
    fn thousands_of_small_packs_become_a_few_and_then_nothing_is_merged() {
        for (chunks, chunk) in [(1, 100), (1, 4 * KIB), (3, 60 * KIB), (40, 64 * KIB)] {
            let mut world = World::default();
            (0..2000).for_each(|_| world.back_up(chunks, chunk));
            assert_eq!(world.merge(u64::MAX), 6000);
            let full = usize::try_from(world.stored / (24 * MIB)).unwrap();
            assert!(world.packs.len() <= 12 + full, "{}", world.packs.len());
            assert_eq!(world.merge(u64::MAX), 0, "{chunks} chunks of {chunk}");
        }
    }

    #[test]
    fn nightly_prunes_leave_few_small_packs_and_copy_data_only_a_few_times() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for (volumes, chunk) in [(1, 100), (1, 60 * KIB), (5, 30 * KIB), (40, 4 * KIB)] {
            let mut world = World::default();
            let mut idle = 0;
            for night in 0..1000 {
                for _ in 0..volumes {
                    let chunks = 1 << random(9);
                    world.back_up(chunks, chunk);
                }
                idle += u32::from(world.merge(u64::MAX) == 0);
                let when = format!("{volumes} volumes, chunks of {chunk}, night {night}");
                assert_eq!(world.merge(u64::MAX), 0, "{when}");
                for kind in [BlobKind::Chunk, BlobKind::Node] {
                    let small = |pack: &&PackUse| pack.kind == kind && pack.size < 8 * MIB;
                    let small = world.packs.iter().filter(small).count();
                    let full = usize::try_from(world.stored / (2 * MIB)).unwrap();
                    assert!(small <= 40 + full, "{when}: {small}");
                }
            }
            let copied = world.merged / (world.stored / 100);
            let setup = format!("{volumes} volumes, chunks of {chunk}");
            assert!(copied <= 500, "{setup}: {copied} % are copied");
            assert!(volumes > 1 || idle > 500, "{setup}: {idle} idle nights");
            assert!(
                world.count(BlobKind::Chunk)
                    <= 40 + usize::try_from(world.stored / (8 * MIB)).unwrap()
            );
        }
    }

    #[test]
    fn a_few_small_packs_and_large_packs_are_not_merged() {
        let mut world = World::default();
        (0..7).for_each(|_| world.add(BlobKind::Chunk, 10 * KIB, 1));
        (0..3).for_each(|_| world.add(BlobKind::Node, 10 * KIB, 1));
        (0..20).for_each(|_| world.add(BlobKind::Chunk, 8 * MIB, 100));
        (0..20).for_each(|_| world.add(BlobKind::Node, MIB, 100));
        // These are small, but full of blobs.
        (0..20).for_each(|_| world.add(BlobKind::Chunk, MIB, 2048));
        (0..20).for_each(|_| world.add(BlobKind::Node, 200 * KIB, 2048));
        assert_eq!(world.merge(u64::MAX), 0);
        world.add(BlobKind::Chunk, 10 * KIB, 1);
        assert_eq!(world.merge(u64::MAX), 8);
    }

    #[test]
    fn a_pack_is_merged_only_into_much_larger_packs() {
        for (large, merged) in [(45 * KIB, 10), (46 * KIB, 9)] {
            let mut world = World::default();
            (0..9).for_each(|_| world.add(BlobKind::Chunk, 10 * KIB, 1));
            world.add(BlobKind::Chunk, large, 1);
            assert_eq!(world.merge(u64::MAX), merged, "{large}");
        }
    }

    #[test]
    fn packs_that_are_repacked_in_any_case_count_as_one_more_pack() {
        let mut world = World::default();
        (0..8).for_each(|_| world.add(BlobKind::Chunk, 10 * KIB, 1));
        let (copied, small) = world.packs.split_at(1);
        assert_eq!(choose(small.to_vec(), &[], u64::MAX).len(), 0);
        assert_eq!(choose(small.to_vec(), copied, u64::MAX).len(), 7);
    }

    #[test]
    fn no_more_is_merged_than_the_limit_allows() {
        let mut world = World::default();
        (0..20).for_each(|_| world.add(BlobKind::Chunk, 10 * KIB, 1));
        assert_eq!(world.merge(80 * KIB - 1), 0);
        assert_eq!(world.merge(105 * KIB), 10);
    }
}
