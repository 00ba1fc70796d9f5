//! A prune. Each step is one call of the store.

use super::model::{Actor, Role, Rule, Scenario, State};
use super::store::{Lease, Mark, Segments, Set, compact, compact_marks, members, one};

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    #[default]
    PutLease,
    Look(u8),
    Repack,
    Rewrite,
    DeletePack,
    DeleteSegment,
    DeleteMark,
    RescueLate,
    PutMark,
    Unname,
    DeleteLeases,
    DeleteLease,
    GiveUp,
}

/// A part of the store. A look reads the parts one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Marks,
    Leases,
    Records,
    Index,
    Packs,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Pruner {
    pub(super) pc: Pc,
    pub(super) lapsed: bool,
    is_last_look: bool,
    // The results of the look follow.
    marks: Set,
    relied_on: Set,
    intended: Set,
    reads: Set,
    records: Set,
    named: Set,
    segments: Segments,
    effective: Segments,
    packs: Set,
    /// Expired leases: the bits 2n and 2n + 1 for the two names of actor n.
    dead: Set,
    // The plan follows.
    deletes: Set,
    names: Set,
    gone: Segments,
    unmarks: Set,
    candidates: Set,
    copies: Set,
}

impl Pruner {
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.pc, Pc::DeleteLeases | Pc::DeleteLease | Pc::GiveUp)
    }

    /// Whether a crash now leaves any object of this prune in the store.
    pub(super) fn has_written(&self) -> bool {
        self.is_last_look
            || !matches!(self.pc, Pc::PutLease | Pc::Look(_) | Pc::Repack) && !self.is_at_end()
    }

    pub(super) fn holds_lease(&self) -> bool {
        self.pc != Pc::PutLease
    }
}

impl Scenario {
    pub(super) fn look(&self) -> &'static [Part] {
        use Part::{Index, Leases, Marks, Packs, Records};
        match () {
            () if !self.holds(Rule::LeasesBeforeRecords) => &[Marks, Records, Leases, Index, Packs],
            () if !self.holds(Rule::LeasesBeforeIndex) => &[Marks, Index, Leases, Records, Packs],
            () => &[Marks, Leases, Records, Index, Packs],
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each step")]
pub(super) fn step(
    scenario: &Scenario,
    state: &State,
    n: usize,
    mut p: Pruner,
    to: &mut Vec<State>,
) {
    let Role::Pruner { repacks } = scenario.roles[n] else {
        return;
    };
    let mut next = *state;
    let store = &mut next.store;
    let is_safe = matches!(
        p.pc,
        Pc::PutLease | Pc::Look(_) | Pc::Repack | Pc::DeleteLease | Pc::GiveUp
    );
    if p.lapsed && !is_safe && scenario.holds(Rule::LapsedPrunerStops) {
        p.pc = Pc::GiveUp;
    }
    let mut other = None;
    if p.pc == Pc::DeleteLeases && (p.dead == 0 || scenario.lapses.is_none()) {
        p.pc = Pc::DeleteLease;
    }
    p.pc = match p.pc {
        // A prune stores its lease, and then lists the leases of others. If two prunes do this, at
        // most one continues. A prune that ends in this step has changed nothing.
        Pc::PutLease => {
            let mut leases = store.leases.iter();
            if leases.any(|l| l.there && !l.expired && l.prune) && scenario.holds(Rule::OnePruner) {
                return;
            }
            store.leases[n] = Lease {
                there: true,
                prune: true,
                ..Lease::default()
            };
            Pc::Look(0)
        }
        Pc::Look(nth) => {
            match scenario.look()[usize::from(nth)] {
                Part::Marks => p.marks = store.marks,
                Part::Leases => {
                    (p.relied_on, p.intended, p.reads, p.dead) = (0, 0, 0, 0);
                    for (m, lease) in store
                        .leases
                        .iter()
                        .enumerate()
                        .filter(|(m, l)| *m != n && l.there)
                    {
                        if lease.expired {
                            p.dead |= one(2 * m + usize::from(lease.name));
                            continue;
                        }
                        p.relied_on |= lease.relies_on;
                        p.intended |= lease.intends;
                        p.reads |= lease.reads;
                    }
                }
                Part::Records => p.records = store.records,
                Part::Index => {
                    p.segments = store.segments;
                    p.effective = store.effective();
                    p.named = store.named();
                }
                Part::Packs => p.packs = store.packs,
            }
            if usize::from(nth) + 1 < scenario.look().len() {
                Pc::Look(nth + 1)
            } else if plan(scenario, state, &mut p, repacks) {
                // A prune may see new packs as old or as young.
                let young = scenario.roles.iter().fold(0, |all, role| match role {
                    Role::Writer { stores, .. } => {
                        all | stores.iter().fold(0, |all, p| all | one((*p).into()))
                    }
                    _ => all,
                });
                if p.candidates & young != 0 && scenario.thorough {
                    let mut spares = p;
                    spares.candidates &= !young;
                    spares.pc = spares.after_look(scenario);
                    other = Some(spares);
                }
                p.after_look(scenario)
            } else {
                Pc::GiveUp
            }
        }
        Pc::Repack => {
            if let Some((pack, _)) = repacks {
                store.put_pack(pack.into(), p.copies);
            }
            p.after_repack(scenario)
        }
        Pc::Rewrite => {
            let kept = (p.named | p.names) & !p.deletes;
            p.rewrite(scenario, &mut next, kept);
            if scenario.holds(Rule::UnnameBeforeDelete) {
                p.after_rewrite(scenario)
            } else {
                p.after_delete(scenario)
            }
        }
        Pc::DeletePack => {
            let pack = members(p.deletes & store.packs).next();
            if let Some(pack) = pack {
                store.packs &= !one(pack);
            }
            if p.deletes & store.packs != 0 {
                Pc::DeletePack
            } else if !scenario.holds(Rule::DeleteBeforeUnmark) {
                p.after_unmark(scenario)
            } else if !scenario.holds(Rule::UnnameBeforeDelete) && p.deletes & p.named != 0 {
                Pc::Rewrite
            } else {
                p.after_delete(scenario)
            }
        }
        Pc::DeleteSegment => {
            // The names of segments are hashes, so a prune may delete segments in any order. The
            // search tries every order.
            if p.gone == 0 {
                p.pc = p.after_gone(scenario);
                next.actors[n] = Actor::Pruner(p.tidy());
                to.push(next);
            }
            for segment in members(p.gone) {
                let mut next = *state;
                let mut p = p;
                next.store.delete_segment(segment);
                p.gone &= !(1 << segment);
                p.pc = if p.gone == 0 {
                    p.after_gone(scenario)
                } else {
                    Pc::DeleteSegment
                };
                next.actors[n] = Actor::Pruner(p.tidy());
                to.push(next);
            }
            return;
        }
        Pc::DeleteMark => {
            if let Some(mark) = members(p.unmarks).next() {
                store.delete_mark(mark);
                p.unmarks &= !one(mark);
            }
            match () {
                () if p.unmarks != 0 => Pc::DeleteMark,
                () if !scenario.holds(Rule::DeleteBeforeUnmark) && p.deletes & store.packs != 0 => {
                    Pc::DeletePack
                }
                () if !scenario.holds(Rule::RescueBeforeUnmark) && p.names & !p.named != 0 => {
                    Pc::RescueLate
                }
                () => p.after_unmark(scenario),
            }
        }
        Pc::RescueLate => {
            let kept = (p.named | p.names) & !p.deletes;
            p.rewrite(scenario, &mut next, kept);
            p.after_unmark(scenario)
        }
        Pc::PutMark => {
            let mark = Mark {
                packs: p.candidates,
                records: p.records,
                old: false,
            };
            p.unmarks = store.put_mark(mark);
            match () {
                () if scenario.holds(Rule::MarkBeforeUnnaming) && p.must_unname(scenario) => {
                    Pc::Unname
                }
                () => p.after_mark(scenario),
            }
        }
        Pc::Unname => {
            let kept = p.named & !p.candidates;
            p.rewrite(scenario, &mut next, kept);
            if scenario.holds(Rule::MarkBeforeUnnaming) {
                p.after_mark(scenario)
            } else {
                Pc::PutMark
            }
        }
        Pc::DeleteLeases => {
            if let Some(dead) = members(p.dead).next() {
                let lease = &mut store.leases[dead / 2];
                if lease.name == (dead % 2 == 1) {
                    *lease = Lease::default();
                }
                p.dead &= !one(dead);
            }
            if p.dead == 0 {
                Pc::DeleteLease
            } else {
                Pc::DeleteLeases
            }
        }
        Pc::DeleteLease | Pc::GiveUp => {
            store.leases[n] = Lease::default();
            next.actors[n] = Actor::Ended;
            to.push(next);
            return;
        }
    };
    next.actors[n] = Actor::Pruner(p.tidy());
    to.push(next);
    if let Some(other) = other {
        next.actors[n] = Actor::Pruner(other.tidy());
        to.push(next);
    }
}

/// Makes the plan. Returns false if an object is missing.
fn plan(scenario: &Scenario, state: &State, p: &mut Pruner, repacks: Option<(u8, Set)>) -> bool {
    let store = &state.store;
    let marked = store.marked(p.marks);
    let readable = store.blobs(p.packs);
    let tops = members(p.records).map(|r| scenario.top(r.try_into().expect("one of eight")));
    let tops = tops.fold(0, |all, top| all | top);
    let needed = scenario.walk(tops, readable);
    if needed & !readable != 0 {
        return false;
    }
    let intended = if scenario.holds(Rule::IntentsAreUsed) {
        p.intended
    } else {
        0
    };
    let relied_on = if scenario.holds(Rule::ReliedOnIsUsed) {
        p.relied_on
    } else {
        0
    };
    let reached = needed | scenario.walk(intended, readable);
    let mut kept = [0; 8];
    for blob in members(reached & readable) {
        let mut places = members(p.packs).filter(|pack| store.contents[*pack] & one(blob) != 0);
        let first = |choices: Set| {
            members(choices & p.packs).find(|pack| store.contents[*pack] & one(blob) != 0)
        };
        let keeper = if scenario.holds(Rule::UnmarkedIsKept) {
            first(p.named & !marked)
                .or_else(|| first(!marked))
                .or_else(|| places.next())
        } else {
            places.next()
        };
        if let Some(pack) = keeper {
            kept[pack] |= one(blob);
        }
    }
    let keepers = members(p.packs).filter(|pack| kept[*pack] != 0);
    let keepers = keepers.fold(0, |all, pack| all | one(pack));
    // A reader may read a blob from any of its packs.
    let read = if scenario.holds(Rule::ReadTreesStay) {
        scenario.walk(p.reads, readable)
    } else {
        0
    };
    let held = members(p.packs).filter(|pack| store.contents[*pack] & read != 0);
    let held = held.fold(0, |all, pack| all | one(pack));
    let used = keepers | (relied_on | held) & p.packs;

    let is_done = |m: &usize| !scenario.grace || store.mark[*m].old;
    p.unmarks = members(p.marks)
        .filter(is_done)
        .fold(0, |all, m| all | one(m));
    let done = store.marked(p.unmarks);
    p.deletes = done & !used & p.packs;
    p.names = (keepers | done & used) & !p.named & p.packs;
    p.gone = p.segments & !p.effective;
    p.candidates = 0;
    p.copies = 0;
    if !p.is_last_look {
        p.candidates = p.packs & !used & !marked;
        if let Some((to, from)) = repacks {
            let from = members(from & keepers & p.named & !marked & !relied_on & !held);
            for pack in from.filter(|pack| store.contents[*pack] & !kept[*pack] != 0) {
                p.copies |= kept[pack];
                p.candidates |= one(pack);
                p.names |= one(to.into());
            }
        }
    }
    true
}

impl Pruner {
    pub(super) fn renumber(&mut self, marks: Set, segments: Segments) {
        self.marks = compact_marks(self.marks, marks);
        self.unmarks = compact_marks(self.unmarks, marks);
        self.segments = compact(self.segments, segments);
        self.effective = compact(self.effective, segments);
        self.gone = compact(self.gone, segments);
    }

    /// Stores a segment that replaces all others.
    fn rewrite(&mut self, scenario: &Scenario, next: &mut State, kept: Set) {
        let all = scenario.holds(Rule::SupersedeAll);
        let superseded = if all { self.segments } else { self.effective } & next.store.segments;
        self.effective = next.store.put_segment(kept, superseded);
        self.segments |= self.effective;
        self.named = kept;
    }

    fn must_unname(&self, scenario: &Scenario) -> bool {
        self.candidates & self.named != 0 && scenario.holds(Rule::UnnameBeforeDelete)
    }

    fn after_look(&self, scenario: &Scenario) -> Pc {
        if self.copies == 0 {
            self.after_repack(scenario)
        } else {
            Pc::Repack
        }
    }

    fn after_repack(&self, scenario: &Scenario) -> Pc {
        let rescues = self.names != 0 && scenario.holds(Rule::RescueBeforeUnmark);
        let unnames = self.deletes & self.named != 0 && scenario.holds(Rule::UnnameBeforeDelete);
        let tidies = scenario.thorough && self.effective.count_ones() > 1;
        if rescues || unnames || tidies {
            Pc::Rewrite
        } else {
            self.after_rewrite(scenario)
        }
    }

    fn after_rewrite(&self, scenario: &Scenario) -> Pc {
        match () {
            () if !scenario.holds(Rule::DeleteBeforeUnmark) => self.after_gone(scenario),
            () if self.deletes != 0 => Pc::DeletePack,
            () => self.after_delete(scenario),
        }
    }

    fn after_delete(&self, scenario: &Scenario) -> Pc {
        if self.gone != 0 {
            Pc::DeleteSegment
        } else {
            self.after_gone(scenario)
        }
    }

    fn after_gone(&self, scenario: &Scenario) -> Pc {
        if self.unmarks != 0 {
            Pc::DeleteMark
        } else {
            self.after_unmark(scenario)
        }
    }

    fn after_unmark(&self, scenario: &Scenario) -> Pc {
        match () {
            () if self.candidates == 0 || self.is_last_look => Pc::DeleteLeases,
            () if scenario.holds(Rule::MarkBeforeUnnaming) || !self.must_unname(scenario) => {
                Pc::PutMark
            }
            () => Pc::Unname,
        }
    }

    fn after_mark(&mut self, scenario: &Scenario) -> Pc {
        if scenario.grace {
            return Pc::DeleteLeases;
        }
        self.is_last_look = true;
        if scenario.holds(Rule::MarkBeforeLastLook) {
            return Pc::Look(0);
        }
        self.deletes = self.candidates;
        (self.names, self.gone) = (0, 0);
        Pc::DeletePack
    }

    /// Clears fields that no later step reads, so that fewer states differ.
    fn tidy(mut self) -> Self {
        match self.pc {
            Pc::DeleteLeases | Pc::DeleteLease | Pc::GiveUp => Self {
                pc: self.pc,
                lapsed: self.lapsed,
                dead: self.dead,
                ..Self::default()
            },
            Pc::Look(0) => Self {
                pc: self.pc,
                lapsed: self.lapsed,
                is_last_look: self.is_last_look,
                ..Self::default()
            },
            Pc::Look(_) => self,
            _ => {
                (self.marks, self.relied_on, self.intended, self.reads) = (0, 0, 0, 0);
                self.packs = 0;
                if self.candidates == 0 {
                    self.records = 0;
                    if self.pc != Pc::Rewrite && self.names == 0 {
                        (self.named, self.segments, self.effective) = (0, 0, 0);
                    }
                }
                if !matches!(
                    self.pc,
                    Pc::Repack | Pc::Rewrite | Pc::DeletePack | Pc::DeleteMark
                ) {
                    (self.names, self.deletes) = (0, 0);
                }
                self
            }
        }
    }
}
