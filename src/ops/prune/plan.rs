//! The plan of a prune: the step for each pack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::small;
use super::state::RepoState;
use super::usage::{PackUse, Usage};
use crate::base::{BlobId, Notice, ObjectHash, Observer, ProjectId};
use crate::format::BlobKind;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::history::AcceptedLoss;
use crate::repo::{Damage, Index, ListedPack, Log, ObjectRef, RepoError};

/// How much unused data to tolerate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// A percentage of the stored bytes.
    Percent(f64),
    /// A number of bytes.
    Bytes(u64),
    /// Any amount: no pack is repacked because of its unused data. Unreliable packs (damaged ones,
    /// and those that the log removes) are repacked, and small packs may be merged.
    Unlimited,
}

impl MaxUnused {
    /// Returns the limit in bytes if `used` bytes are used.
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
    /// How much unused data to tolerate in packs that are used in part.
    pub max_unused: MaxUnused,
    /// The maximum number of bytes of used data to repack; `None` for no limit.
    pub max_repack: Option<u64>,
    /// Whether to merge small packs if there are many.
    pub merge_small: bool,
    /// The grace period: younger packs are kept, and marked packs are deleted after this time.
    pub grace: Duration,
    /// The losses of history that the user accepts.
    pub accept_loss: AcceptedLoss,
    /// The name of this host, for the log; `None` to leave it out.
    pub host: Option<String>,
}

/// Packs, and their bytes in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// The number of packs.
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

/// The planned steps, with their packs.
#[derive(Debug, Default)]
pub struct PrunePlan {
    /// Packs that stay as they are.
    pub keep: Amount,
    /// The unused bytes in packs that stay.
    pub unused: u64,
    /// Unused packs that will be marked.
    pub mark: Amount,
    /// Packs that will be repacked and then marked.
    pub repack: Amount,
    /// The used bytes in packs that will be repacked.
    pub repack_used: u64,
    /// Small packs whose used blobs will be merged into larger packs. Then the small packs will be
    /// marked. Packs in `repack` do not count here.
    pub merge: Amount,
    /// The used bytes in packs that will be merged.
    pub merge_used: u64,
    /// Packs that an earlier prune marked and that will be deleted now.
    pub delete: Amount,
    /// Unused packs that an earlier prune marked and that are not deleted yet. Their grace period
    /// has not passed, a lease names them, or they may have chunks that are missing elsewhere.
    pub waiting: Amount,
    /// Unused packs that are younger than the grace period, or that may belong to a running backup.
    pub young: Amount,
    /// Packs that an earlier prune marked and that are used again.
    pub rescue: Amount,
    /// The number of packs that stay because a used blob in them is known to be damaged, and no
    /// other pack has this blob. Packs whose signers are not trusted, and those that the log
    /// removes, do not count.
    pub damaged: u64,
    /// Those of the damaged packs that a repair of packs leaves as they are: no segment names them,
    /// or they hold nodes.
    pub damaged_left: u64,
    /// Records and voids of revoked keys that will be removed.
    pub refused: u64,
    pub(super) steps: Steps,
}

impl PrunePlan {
    /// Adds a damaged pack that stays. `counts` states whether it is one of those in
    /// [`damaged`](Self::damaged).
    fn add_damaged(&mut self, pack: &PackUse, counts: bool, is_unnamed: bool) {
        self.steps.damaged.push((pack.kind, pack.pack));
        let is_left = pack.kind == BlobKind::Node || is_unnamed;
        self.damaged += u64::from(counts);
        self.damaged_left += u64::from(counts && is_left);
    }

    /// Notifies the observer of the packs that stay because used blobs of them are damaged.
    pub(super) fn notice_damaged(&self, project: ProjectId, observer: &dyn Observer) {
        for (kind, pack) in &self.steps.damaged {
            let object = ObjectRef::of_pack(project, *kind, *pack);
            let source = Damage::Impossible("a part of it cannot be decrypted");
            let problem = RepoError::Damaged { object, source }.to_string();
            observer.notice(Notice::PackStays { problem });
        }
    }
}

/// The packs of each step.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) mark: Vec<PackUse>,
    pub(super) repack: Vec<PackUse>,
    pub(super) merge: Vec<PackUse>,
    pub(super) delete: Vec<ListedPack>,
    pub(super) rescue: Vec<ObjectHash>,
    /// Packs that the index names, that do not exist, and that no backup needs.
    pub(super) lost: Vec<ObjectHash>,
    /// Packs with a used blob that is known to be damaged, if no other pack has this blob. These
    /// packs stay as they are.
    pub(super) damaged: Vec<(BlobKind, ObjectHash)>,
}

impl Steps {
    /// Returns the packs whose used blobs will be copied to other packs. Sorts the packs by the
    /// volume that uses most of each, so that the data of a volume stays together.
    pub(super) fn copied(&self) -> Vec<PackUse> {
        let packs = self.repack.iter().chain(&self.merge);
        let mut packs: Vec<PackUse> = packs.copied().collect();
        packs.sort_by_key(|pack| pack.class);
        packs
    }

    /// Returns the packs that will be marked.
    pub(super) fn going(&self) -> impl Iterator<Item = &PackUse> {
        self.mark.iter().chain(&self.repack).chain(&self.merge)
    }

    /// Removes these packs from those to repack and to merge, so that they stay.
    pub(super) fn spare(&mut self, spared: &HashSet<ObjectHash>) {
        for packs in [&mut self.repack, &mut self.merge] {
            packs.retain(|pack| !spared.contains(&pack.pack));
        }
    }
}

/// Makes a plan. `known` are the packs of the index, oldest entries first. `damage` has the
/// ordinals of the runs that are known to be damaged, for each pack.
pub(super) fn plan(
    index: &Index,
    usage: &mut Usage,
    known: &[ObjectHash],
    damage: &BTreeMap<ObjectHash, Vec<u64>>,
    state: &RepoState,
    options: &PruneOptions,
    context: &Context<'_>,
) -> Result<PrunePlan, OpsError> {
    let mut plan = PrunePlan::default();
    usage.keep_nothing();
    // From now on, the index finds no blob in missing packs.
    let is_missing = |pack: &&ObjectHash| !state.packs.contains_key(*pack);
    index.exclude(known.iter().filter(is_missing).copied());
    let marked = state.marks.packs();
    let due = state.due(options.grace);
    let relied_on = relied_on(state);
    let mut unnamed: HashSet<_> = index.unnamed()?.into_iter().collect();
    unnamed.extend(index.retired()?);
    let mut partly: Vec<PackUse> = Vec::new();
    // Used packs that could be merged.
    let mut mergeable: Vec<PackUse> = Vec::new();
    // A pack that the log removes may vanish at any time without anyone noticing it. However full
    // such a pack is, the blobs in it that backups need are copied to a new pack.
    let removed = Log::removals(index.project())?;
    index.exclude_removed(removed.clone());
    let mut unreliable: Vec<PackUse> = Vec::new();
    for (pack, trusted) in in_order(
        usage,
        known,
        damage,
        &unnamed,
        |pack| removed.has_pack(pack),
        state,
    ) {
        context.cancel.check()?;
        let Some(listing) = index.listing(pack)? else {
            continue;
        };
        let Some(listed) = state.packs.get(pack) else {
            // If backups need the missing pack, its name stays in the index: by this name, backups
            // notice the loss.
            let mut blobs = listing.contents.blobs();
            if !blobs.any(|blob| usage.is_lost(&blob.id)) {
                plan.steps.lost.push(*pack);
            }
            continue;
        };
        let pack_use = usage.keep(&listing, trusted);
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
        let young = state.is_young(pack, listed.info.modified, options.grace);
        let damaged = damage.get(pack).filter(|_| is_used);
        // If no other pack has the damaged data, this pack must stay as it is.
        let is_in_use = |kind, id: &BlobId| usage.is_used(kind, id);
        let stays = damaged.map_or(Ok(false), |runs| {
            index.holds_damaged_only(pack, runs, is_in_use)
        })?;
        if stays {
            let counts = trusted && !removed.has_pack(pack);
            plan.add_damaged(&pack_use, counts, unnamed.contains(pack));
        }
        let stays = stays || young || is_held;
        if is_used && !stays && (damaged.is_some() || removed.has_pack(pack)) {
            unreliable.push(pack_use);
            continue;
        }
        if is_used && (pack_use.unused == 0 || stays) {
            plan.keep.add(pack_use.size);
            plan.unused += pack_use.unused;
            if !stays {
                mergeable.push(pack_use);
            }
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
    for (pack, listed) in &state.packs {
        // A pack whose content is not known may have the lost chunks, so it must stay.
        let may_have_lost = !known.contains(pack) && usage.lacks_chunks();
        if marked.contains(pack) && !rescued.contains(pack) {
            if due.contains(pack) && !relied_on.contains(pack) && !may_have_lost {
                plan.delete.add(listed.info.size);
                plan.steps.delete.push(listed.clone());
            } else {
                plan.waiting.add(listed.info.size);
            }
        } else if !known.contains(pack) && !marked.contains(pack) {
            // No segment names this pack. Unless chunks are missing, all used blobs are in other
            // packs.
            if relied_on.contains(pack) || state.is_young(pack, listed.info.modified, options.grace)
            {
                plan.young.add(listed.info.size);
            } else if may_have_lost {
                plan.keep.add(listed.info.size);
            } else {
                plan.steps.mark.push(unused(listed));
            }
        }
    }
    choose(&mut plan, unreliable, partly, mergeable, options);
    plan.mark = Amount::of(&plan.steps.mark);
    Ok(plan)
}

/// Describes a pack of which nothing is used.
fn unused(listed: &ListedPack) -> PackUse {
    PackUse {
        pack: listed.hash,
        kind: listed.kind,
        size: listed.info.size,
        unused: listed.info.size,
        blobs: 0,
        class: 0,
    }
}

/// Plans to merge some of the packs in `mergeable`, if there are many small ones. The chosen packs
/// have at most `budget` used bytes together.
fn merge(plan: &mut PrunePlan, mergeable: Vec<PackUse>, budget: u64) {
    plan.steps.merge = small::choose(mergeable, &plan.steps.repack, budget);
    plan.merge = Amount::of(&plan.steps.merge);
    plan.merge_used = plan.steps.merge.iter().map(PackUse::used).sum();
    plan.keep.packs -= plan.merge.packs;
    plan.keep.bytes -= plan.merge.bytes;
    plan.unused -= plan.merge.bytes - plan.merge_used;
}

/// Returns the packs that unexpired leases name, apart from the lease of this prune.
fn relied_on(state: &RepoState) -> HashSet<ObjectHash> {
    let leases = state.leases.others.iter();
    let leases = leases.filter(|lease| !lease.expired);
    leases
        .flat_map(|lease| lease.packs.iter().copied())
        .collect()
}

/// Returns the packs of the index, and whether the signer of each is trusted. If several packs have
/// a blob, the first one in the returned order keeps it.
fn in_order<'a>(
    usage: &Usage,
    known: &'a [ObjectHash],
    damage: &BTreeMap<ObjectHash, Vec<u64>>,
    unnamed: &HashSet<ObjectHash>,
    is_removed: impl Fn(&ObjectHash) -> bool,
    state: &RepoState,
) -> Vec<(&'a ObjectHash, bool)> {
    let marked = state.marks.packs();
    // Each blob is kept in the first pack that has it. Newer packs come first. So after an
    // interrupted prune, the new packs are kept, and not the repacked ones. If data was stored
    // again because a pack is damaged, the new pack is kept. But the times may be wrong, and
    // then a damaged copy may be kept. So the module `copies` reads the kept copies before any pack
    // is deleted.
    // Indexed packs without a mark come first, then unnamed packs, then marked ones, then those
    // that the log removes. Packs whose signers are not trusted come next, since their content is
    // not verified. Each of them keeps all blobs that no pack before them keeps, even if several of
    // them have the same blob. Packs that are known to be damaged come last.
    let mut places = Vec::with_capacity(known.len());
    for pack in known.iter().rev() {
        let trusted = usage.trusts(pack);
        let stored = state.packs.get(pack).map(|listed| listed.info.modified);
        let order = (
            damage.contains_key(pack),
            !trusted,
            is_removed(pack),
            marked.contains(pack),
            unnamed.contains(pack),
            Reverse(stored),
        );
        places.push((order, pack));
    }
    places.sort_by_key(|(order, _)| *order);
    let in_order = places.into_iter();
    in_order
        .map(|((_, untrusted, ..), pack)| (pack, !untrusted))
        .collect()
}

/// Chooses the packs to repack: the unreliable ones, then the emptiest ones, until the unused data
/// is within the limit. Then chooses packs to merge, from the remaining packs and from `mergeable`.
fn choose(
    plan: &mut PrunePlan,
    unreliable: Vec<PackUse>,
    partly: Vec<PackUse>,
    mut mergeable: Vec<PackUse>,
    options: &PruneOptions,
) {
    let (nodes, chunks): (Vec<_>, Vec<_>) = partly
        .into_iter()
        .partition(|pack| pack.kind == BlobKind::Node);
    let used: u64 = chunks.iter().map(PackUse::used).sum();
    let limit = options
        .max_unused
        .bytes(plan.keep.bytes - plan.unused + used);
    let mut budget = options.max_repack.unwrap_or(u64::MAX);
    for pack in unreliable {
        if pack.used() <= budget {
            budget -= pack.used();
            plan.steps.repack.push(pack);
        } else {
            plan.keep.add(pack.size);
            plan.unused += pack.unused;
        }
    }
    for mut packs in [chunks, nodes] {
        // Sort by the used share, computed without fractions. Packs with equal shares usually hold
        // the two copies of the same nodes.
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
                mergeable.push(pack);
            }
        }
    }
    plan.repack = Amount::of(&plan.steps.repack);
    plan.repack_used = plan.steps.repack.iter().map(PackUse::used).sum();
    if options.merge_small {
        merge(plan, mergeable, budget);
    }
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
            merge_small: false,
            grace: Duration::ZERO,
            accept_loss: AcceptedLoss::default(),
            host: None,
        };
        choose(&mut plan, Vec::new(), partly.to_vec(), Vec::new(), &options);
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
    fn the_emptiest_packs_are_repacked_until_unused_data_is_within_the_limit() {
        assert_eq!(chosen(MaxUnused::Unlimited, None), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(180), None), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(179), None), (vec![2], 90));
        assert_eq!(chosen(MaxUnused::Bytes(40), None), (vec![1, 2], 40));
        assert_eq!(chosen(MaxUnused::Bytes(0), None), (vec![1, 2, 3, 4], 0));
        // 1220 bytes are used. If 37 unused bytes stay, they are 3 % of all bytes.
        assert_eq!(chosen(MaxUnused::Percent(3.0), None), (vec![1, 2, 4], 10));
        assert_eq!(chosen(MaxUnused::Percent(100.0), None), (vec![], 180));
    }

    #[test]
    fn unreliable_packs_are_repacked_first_however_full_they_are() {
        let full = pack(1, BlobKind::Chunk, 100, 0);
        let partly = pack(2, BlobKind::Chunk, 100, 90);
        for (max_repack, expected) in [(None, vec![1]), (Some(99), vec![]), (Some(100), vec![1])] {
            let options = PruneOptions {
                max_unused: MaxUnused::Unlimited,
                max_repack,
                merge_small: false,
                grace: Duration::ZERO,
                accept_loss: AcceptedLoss::default(),
                host: None,
            };
            let mut plan = PrunePlan::default();
            choose(&mut plan, vec![full], vec![partly], Vec::new(), &options);
            let repacked = plan.steps.repack.iter().map(|p| p.pack.as_bytes()[0]);
            assert_eq!(repacked.collect::<Vec<_>>(), expected);
            assert_eq!(plan.keep.packs, 2 - expected.len() as u64);
        }
    }

    #[test]
    fn no_more_is_repacked_than_the_limit_allows() {
        // Pack 2 has 10 used bytes, pack 1 has 50, pack 4 has 70, pack 3 has 90.
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(9)), (vec![], 180));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(10)), (vec![2], 90));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(129)), (vec![1, 2], 40));
        assert_eq!(chosen(MaxUnused::Bytes(0), Some(130)), (vec![1, 2, 4], 10));
    }
}
