//! What a prune would do, as a value.

use std::collections::HashSet;
use std::time::Duration;

use super::state::RepoState;
use super::usage::{PackUse, Usage};
use crate::base::ObjectHash;
use crate::format::BlobKind;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::Index;

/// How much that nobody uses may stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many of a hundred parts of what is stored.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Nothing is packed again.
    Unlimited,
}

impl MaxUnused {
    /// In bytes, where so many are used.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a limit need not be exact"
    )]
    fn bytes(self, used: u64) -> u64 {
        match self {
            Self::Percent(percent) if percent >= 100.0 => u64::MAX,
            Self::Percent(percent) => (percent / (100.0 - percent) * used as f64) as u64,
            Self::Bytes(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// How much that nobody uses may stay in packs that hold something else, too.
    pub max_unused: MaxUnused,
    /// No more than so many bytes are packed again.
    pub max_repack: Option<u64>,
    /// What is younger is left alone, and what was marked is deleted after this time.
    pub grace: Duration,
    /// The name of this host.
    pub host: Option<String>,
}

/// Packs, and their bytes in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many packs.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }

    pub(super) fn of<'p>(packs: impl IntoIterator<Item = &'p PackUse>) -> Self {
        let mut amount = Self::default();
        packs.into_iter().for_each(|pack| amount.add(pack.size));
        amount
    }
}

/// What will become of the packs.
#[derive(Debug, Default)]
pub struct PrunePlan {
    /// Those that stay as they are.
    pub keep: Amount,
    /// Of the bytes that stay, what nothing uses.
    pub unused: u64,
    /// Those that nothing uses, and that will be marked.
    pub mark: Amount,
    /// Those that are packed again, and then marked.
    pub repack: Amount,
    /// Of these, the bytes that are used.
    pub repack_used: u64,
    /// Those that an earlier prune marked, and that will be deleted now.
    pub delete: Amount,
    /// Those that an earlier prune marked, and whose time has not come.
    pub waiting: Amount,
    /// Those that nothing uses, and that are too young, or may belong to a backup that runs.
    pub young: Amount,
    /// Those that an earlier prune marked, and that are in use again.
    pub rescue: Amount,
    pub(super) steps: Steps,
}

/// Which packs exactly.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) mark: Vec<PackUse>,
    pub(super) repack: Vec<PackUse>,
    pub(super) delete: Vec<(ObjectHash, u64)>,
    pub(super) rescue: Vec<ObjectHash>,
    /// Packs that the index names and that are not there; nothing uses them.
    pub(super) lost: Vec<ObjectHash>,
}

/// Makes a plan. `known` are the packs of the index, in the order in which they came into it.
pub(super) fn plan(
    index: &Index,
    usage: &mut Usage,
    known: &[ObjectHash],
    seen: &RepoState,
    options: &PruneOptions,
    context: &Context<'_>,
) -> Result<PrunePlan, OpsError> {
    let mut plan = PrunePlan::default();
    let marked = seen.marks.packs();
    let due = seen.due(options.grace);
    let relied_on: HashSet<_> = seen
        .leases
        .others
        .iter()
        .filter(|lease| lease.alive)
        .flat_map(|lease| lease.packs.iter().copied())
        .collect();
    let unnamed: HashSet<_> = index.unnamed()?.into_iter().collect();
    let mut partly: Vec<PackUse> = Vec::new();
    // Newest first: what an interrupted prune has packed again is kept, and not what it was packed from. What has a name
    // and no mark is the best place, what is marked the worst.
    let mut places: Vec<_> = known.iter().rev().collect();
    places.sort_by_key(|pack| (marked.contains(*pack), unnamed.contains(*pack)));
    for pack in places {
        context.cancel.check()?;
        let Some(there) = seen.packs.get(pack) else {
            plan.steps.lost.push(*pack);
            continue;
        };
        let Some(listing) = index.listing(pack)? else {
            continue;
        };
        let pack_use = usage.keep(&listing);
        let is_held = relied_on.contains(pack) || usage.is_held(&listing);
        let is_used = pack_use.blobs > 0 || is_held;
        if marked.contains(pack) {
            if is_used {
                plan.rescue.add(pack_use.size);
                plan.steps.rescue.push(*pack);
            }
            continue;
        }
        if is_used && unnamed.contains(pack) {
            plan.steps.rescue.push(*pack);
        }
        let young = seen.is_young(pack, there.modified, options.grace);
        if is_used && (pack_use.unused == 0 || young || is_held) {
            plan.keep.add(pack_use.size);
            plan.unused += pack_use.unused;
        } else if is_used {
            partly.push(pack_use);
        } else if young {
            plan.young.add(pack_use.size);
        } else {
            plan.steps.mark.push(pack_use);
        }
    }
    let rescued: HashSet<_> = plan.steps.rescue.iter().copied().collect();
    let known: HashSet<_> = known.iter().copied().collect();
    for (pack, there) in &seen.packs {
        if marked.contains(pack) && !rescued.contains(pack) {
            if due.contains(pack) && !relied_on.contains(pack) {
                plan.delete.add(there.size);
                plan.steps.delete.push((*pack, there.size));
            } else {
                plan.waiting.add(there.size);
            }
        } else if !known.contains(pack) && !marked.contains(pack) {
            // An upload that no segment came to name. All that is used was found elsewhere.
            if relied_on.contains(pack) || seen.is_young(pack, there.modified, options.grace) {
                plan.young.add(there.size);
            } else {
                plan.steps.mark.push(PackUse {
                    pack: *pack,
                    kind: BlobKind::Chunk,
                    size: there.size,
                    unused: there.size,
                    blobs: 0,
                    class: 0,
                });
            }
        }
    }
    choose(&mut plan, partly, options);
    plan.mark = Amount::of(&plan.steps.mark);
    plan.repack = Amount::of(&plan.steps.repack);
    plan.repack_used = plan.steps.repack.iter().map(PackUse::used).sum();
    Ok(plan)
}

/// Which packs are packed again: the emptiest, until little enough that nothing uses is left.
fn choose(plan: &mut PrunePlan, partly: Vec<PackUse>, options: &PruneOptions) {
    let (nodes, chunks): (Vec<_>, Vec<_>) = partly
        .into_iter()
        .partition(|pack| pack.kind == BlobKind::Node);
    let used: u64 = chunks.iter().map(PackUse::used).sum();
    let limit = options
        .max_unused
        .bytes(plan.keep.bytes - plan.unused + used);
    let mut budget = options.max_repack.unwrap_or(u64::MAX);
    for mut packs in [chunks, nodes] {
        // By the share that is used, without fractions; equal shares are most often the two copies of nodes.
        packs.sort_unstable_by(|a, b| {
            let share = |x: &PackUse, y: &PackUse| u128::from(x.used()) * u128::from(y.size);
            share(a, b).cmp(&share(b, a)).then(a.pack.cmp(&b.pack))
        });
        let mut unused: u64 = packs.iter().map(|pack| pack.unused).sum::<u64>() + plan.unused;
        for pack in packs {
            if unused > limit && pack.used() <= budget {
                unused -= pack.unused;
                budget -= pack.used();
                plan.steps.repack.push(pack);
            } else {
                plan.keep.add(pack.size);
                plan.unused += pack.unused;
            }
        }
    }
    // What one volume uses stays together, in the order of its packs.
    plan.steps.repack.sort_by_key(|pack| pack.class);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u8, kind: BlobKind, size: u64, unused: u64) -> PackUse {
        PackUse {
            pack: ObjectHash::from_bytes([number; 32]),
            kind,
            size,
            unused,
            blobs: 1,
            class: 1,
        }
    }

    fn chosen(max_unused: MaxUnused, max_repack: Option<u64>) -> (Vec<u8>, u64) {
        let chunks = [(1, 50), (2, 90), (3, 10), (4, 30)];
        let partly = chunks.map(|(number, unused)| pack(number, BlobKind::Chunk, 100, unused));
        let mut plan = PrunePlan::default();
        plan.keep.add(1000);
        let options = PruneOptions {
            max_unused,
            max_repack,
            grace: Duration::ZERO,
            host: None,
        };
        choose(&mut plan, partly.to_vec(), &options);
        let mut names: Vec<_> = plan
            .steps
            .repack
            .iter()
            .map(|p| p.pack.as_bytes()[0])
            .collect();
        names.sort_unstable();
        (names, plan.unused)
    }

    #[test]
    fn the_emptiest_are_packed_again_until_little_is_unused() {
        assert_eq!(chosen(MaxUnused::Unlimited, None), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(180), None), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(179), None), (vec![2], 90));
        assert_eq!(chosen(MaxUnused::Bytes(40), None), (vec![1, 2], 40));
        assert_eq!(chosen(MaxUnused::Bytes(0), None), (vec![1, 2, 3, 4], 0));
        // 1220 bytes are used: 3 % of all is 37.
        assert_eq!(chosen(MaxUnused::Percent(3.0), None), (vec![1, 2, 4], 10));
        assert_eq!(chosen(MaxUnused::Percent(100.0), None), (vec![], 180));
    }

    #[test]
    fn no_more_is_packed_again_than_the_budget_allows() {
        // Of pack 2 ten bytes are used, of pack 1 fifty, of 4 seventy, of 3 ninety.
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(9)), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(10)), (vec![2], 90));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(129)), (vec![1, 2], 40));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(130)), (vec![1, 2, 4], 10));
    }
}
