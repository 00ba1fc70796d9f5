//! The plan that a prune makes after it has looked at the store.

use super::super::model::{Rule, Scenario};
use super::super::store::{Set, Store, members, one};
use super::Pruner;

/// The blobs that are in use, and the packs that must stay because of leases.
struct Uses {
    /// The blobs that records need, as far as the nodes above them exist.
    needed: Set,
    /// The blobs in `needed`, and those in the trees that backups intend to commit.
    reached: Set,
    /// The packs that a lease lists.
    relied_on: Set,
    /// The packs from which a reader may read.
    held: Set,
}

impl Uses {
    fn find(scenario: &Scenario, store: &Store, p: &Pruner) -> Self {
        let readable = store.blobs(p.packs);
        let tops = members(p.records).map(|r| scenario.top(r.try_into().expect("one of eight")));
        let tops = tops.fold(0, |all, top| all | top);
        let needed = scenario.walk(tops, readable);
        let intended = scenario.walk(scenario.under(Rule::IntentsAreUsed, p.intended), readable);
        let read = scenario.walk(scenario.under(Rule::ReadTreesStay, p.reads), readable);
        let held = members(p.packs).filter(|pack| store.contents[*pack] & read != 0);
        Self {
            needed,
            reached: needed | intended,
            relied_on: scenario.under(Rule::ReliedOnIsUsed, p.relied_on),
            held: held.fold(0, |all, pack| all | one(pack)),
        }
    }
}

/// Makes the plan. Returns false, and makes no plan, if no pack has one of the needed blobs.
pub(super) fn plan(
    scenario: &Scenario,
    store: &Store,
    p: &mut Pruner,
    repacks: Option<(u8, Set)>,
) -> bool {
    let marked = store.marked(p.marks);
    let readable = store.blobs(p.packs);
    let uses = Uses::find(scenario, store, p);
    if uses.needed & !readable != 0 {
        return false;
    }
    let mut kept = [0; 8];
    for blob in members(uses.reached & readable) {
        let mut places = members(p.packs).filter(|pack| store.contents[*pack] & one(blob) != 0);
        let first = |choices: Set| {
            members(choices & p.packs).find(|pack| store.contents[*pack] & one(blob) != 0)
        };
        let place = if scenario.holds(Rule::UnmarkedIsKept) {
            first(p.named & !marked)
                .or_else(|| first(!marked))
                .or_else(|| places.next())
        } else {
            places.next()
        };
        if let Some(pack) = place {
            kept[pack] |= one(blob);
        }
    }
    let keepers = members(p.packs).filter(|pack| kept[*pack] != 0);
    let keepers = keepers.fold(0, |all, pack| all | one(pack));
    let stay = (uses.relied_on | uses.held) & p.packs;
    let in_use = keepers | stay;

    let is_due = |m: &usize| !scenario.grace || store.mark[*m].old;
    let due = members(p.marks).filter(is_due);
    p.unmarks = due.fold(0, |all, m| all | one(m));
    p.deletes = store.marked(p.unmarks) & !in_use & p.packs;
    p.unnames = marked & !in_use;
    p.names = (keepers | marked & in_use) & !p.named;
    p.candidates = p.packs & !in_use & !marked;
    if let Some((_, from)) = repacks {
        let from = members(from & keepers & p.named & !marked & !stay);
        for pack in from.filter(|pack| store.contents[*pack] & !kept[*pack] != 0) {
            p.copies |= kept[pack];
            p.candidates |= one(pack);
        }
    }
    true
}

/// Decides, after the last look at the store, which of the candidates to delete. The others stay
/// marked for the next prune. Deletes none if a needed blob is missing. Also deletes none if a blob
/// of a candidate is in use, and no other pack that a segment names has it. Unlike the model, the
/// program also deletes nothing if it finds a mark that another prune has stored meanwhile.
pub(super) fn plan_last(scenario: &Scenario, store: &Store, p: &mut Pruner) {
    let readable = store.blobs(p.packs);
    let uses = Uses::find(scenario, store, p);
    let stays = store.blobs(p.named & p.packs & !p.candidates);
    let goes = store.blobs(p.candidates & p.packs);
    if uses.needed & !readable != 0 || uses.reached & goes & !stays != 0 {
        return;
    }
    let named = scenario.under(Rule::NamedIsSpared, p.named);
    let named = scenario.under(Rule::UnnameBeforeDelete, named);
    let spared = uses.relied_on | uses.held | named;
    p.deletes = p.candidates & !spared;
    if p.candidates & spared == 0 {
        p.unmarks = p.own;
    }
}
