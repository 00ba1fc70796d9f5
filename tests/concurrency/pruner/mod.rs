//! A prune. Each step is one call of the store.

mod plan;

use self::plan::{plan, plan_last};
use super::model::{Actor, Role, Rule, Scenario, State};
use super::store::{Lease, Mark, Segments, Set, Store, compact, compact_marks, members, one};

/// The steps, in the order in which a prune takes them. A prune without grace then looks again and
/// deletes what it marked itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    #[default]
    PutLease,
    Look(u8),
    Repack,
    NameCopies,
    PutMark,
    ListSegments,
    Rewrite,
    MarkSegments,
    DeletePack,
    /// Deletes a superseded segment or a mark.
    Unmark,
    /// Names packs that are used again. Occurs only if a rule is broken.
    RescueLate,
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
    /// The actors whose backup holds an unexpired lease.
    backups: Set,
    relied_on: Set,
    intended: Set,
    reads: Set,
    records: Set,
    named: Set,
    packs: Set,
    /// Expired leases: the bits 2n and 2n + 1 for the two names of actor n.
    dead: Set,
    // The plan follows.
    copies: Set,
    /// The packs to mark. The last look decides whether to delete them.
    candidates: Set,
    /// The packs to remove from the index, since marks name them and nothing uses them.
    unnames: Set,
    /// The packs to add to the index, since something uses them.
    names: Set,
    /// The content of the next segment.
    kept: Set,
    superseded: Segments,
    /// The superseded segments to mark.
    replaced: Segments,
    /// The packs and segments to delete, and their marks, which are deleted after them.
    deletes: Set,
    gone: Segments,
    unmarks: Set,
    /// The marks that this prune stored.
    own: Set,
}

impl Pruner {
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.pc, Pc::DeleteLeases | Pc::DeleteLease | Pc::GiveUp)
    }

    /// Whether a crash now leaves any object of this prune in the store.
    pub(super) fn has_written(&self) -> bool {
        match self.pc {
            Pc::PutLease | Pc::Look(_) | Pc::Repack => self.is_last_look,
            Pc::PutMark | Pc::ListSegments => self.copies != 0 || self.own != 0,
            _ => !self.is_at_end(),
        }
    }

    /// Whether this prune may still look at marks of earlier prunes.
    pub(super) fn may_look(&self) -> bool {
        !self.is_last_look && matches!(self.pc, Pc::PutLease | Pc::Look(_))
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

    /// Returns the backups that may not have seen a mark that is stored now. Returns none if
    /// segments name all packs that records need. Then nothing is lost even if prunes delete marks
    /// earlier than in the program.
    fn missed_by(&self, store: &Store) -> Set {
        if self.has_unnamed { store.backups() } else { 0 }
    }

    /// Returns the set, or an empty one if the rule is broken.
    fn under(&self, rule: Rule, set: Set) -> Set {
        if self.holds(rule) { set } else { 0 }
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
        Pc::PutLease | Pc::Look(_) | Pc::Repack | Pc::ListSegments | Pc::DeleteLease | Pc::GiveUp
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
            p.look_at(store, scenario.look()[usize::from(nth)], n);
            if usize::from(nth) + 1 < scenario.look().len() {
                Pc::Look(nth + 1)
            } else if p.is_last_look {
                plan_last(scenario, store, &mut p);
                p.begin_deletes(scenario, store)
            } else if plan(scenario, store, &mut p, repacks) {
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
                    spares.pc = spares.after_look(scenario, store);
                    other = Some(spares);
                }
                p.after_look(scenario, store)
            } else {
                Pc::GiveUp
            }
        }
        Pc::Repack => {
            if let Some((pack, _)) = repacks {
                store.put_pack(pack.into(), p.copies);
            }
            Pc::NameCopies
        }
        Pc::NameCopies => {
            if let Some((pack, _)) = repacks {
                store.put_segment(one(pack.into()), 0);
            }
            p.after_repack(scenario, store)
        }
        Pc::PutMark => {
            p.own |= store.put_mark(Mark {
                packs: p.candidates,
                records: p.records,
                missed_by: scenario.missed_by(store),
                ..Mark::default()
            });
            p.copies = 0;
            if scenario.holds(Rule::MarkBeforeUnnaming) {
                p.before_rewrite(scenario, store)
            } else {
                p.before_second_mark(scenario, store)
            }
        }
        Pc::ListSegments => {
            if p.plan_rewrite(scenario, store) {
                Pc::Rewrite
            } else {
                p.after_rewrite(scenario, store)
            }
        }
        Pc::Rewrite => {
            store.put_segment(p.kept, p.superseded & store.segments);
            (p.kept, p.superseded) = (0, 0);
            p.after_rewrite(scenario, store)
        }
        Pc::MarkSegments => {
            p.own |= store.put_mark(Mark {
                segments: p.replaced & store.segments,
                missed_by: scenario.missed_by(store),
                ..Mark::default()
            });
            p.replaced = 0;
            p.begin_deletes(scenario, store)
        }
        Pc::DeletePack => {
            if let Some(pack) = members(p.deletes & store.packs).next() {
                store.packs &= !one(pack);
            }
            p.deletes &= store.packs;
            match () {
                () if p.deletes != 0 => Pc::DeletePack,
                () if scenario.holds(Rule::DeleteBeforeUnmark) => p.unmark(scenario, store),
                () => p.after_unmark(scenario, store),
            }
        }
        Pc::Unmark => {
            // The names of marks and segments are hashes, so a prune may delete them in any order.
            // The search tries every order in which the segments of a mark precede the mark.
            for mark in members(p.unmarks) {
                let gone = store.mark[mark].segments & p.gone;
                for segment in members(gone) {
                    let (mut next, mut p) = (*state, p);
                    next.store.delete_segment(segment);
                    p.gone &= !(1 << segment);
                    next.actors[n] = Actor::Pruner(p.tidy(scenario));
                    to.push(next);
                }
                if gone == 0 {
                    let (mut next, mut p) = (*state, p);
                    if !p.must_stay(scenario, store, mark) {
                        next.store.delete_mark(mark);
                    }
                    p.unmarks &= !one(mark);
                    p.pc = p.unmark(scenario, &next.store);
                    next.actors[n] = Actor::Pruner(p.tidy(scenario));
                    to.push(next);
                }
            }
            return;
        }
        Pc::RescueLate => {
            store.put_segment(p.names, 0);
            p.names = 0;
            p.after_unmark(scenario, store)
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
    next.actors[n] = Actor::Pruner(p.tidy(scenario));
    to.push(next);
    if let Some(other) = other {
        next.actors[n] = Actor::Pruner(other.tidy(scenario));
        to.push(next);
    }
}

impl Pruner {
    pub(super) fn renumber(&mut self, marks: Set, segments: Segments) {
        for set in [&mut self.marks, &mut self.unmarks, &mut self.own] {
            *set = compact_marks(*set, marks);
        }
        for set in [&mut self.superseded, &mut self.replaced, &mut self.gone] {
            *set = compact(*set, segments);
        }
    }

    fn look_at(&mut self, store: &Store, part: Part, n: usize) {
        match part {
            Part::Marks => self.marks = store.marks,
            Part::Leases => {
                self.backups = store.backups();
                let leases = store.leases.iter().enumerate();
                for (m, lease) in leases.filter(|(m, l)| *m != n && l.there) {
                    if !lease.expired {
                        self.relied_on |= lease.relies_on;
                        self.intended |= lease.intends;
                        self.reads |= lease.reads;
                    } else if !self.is_last_look {
                        self.dead |= one(2 * m + usize::from(lease.name));
                    }
                }
            }
            Part::Records => self.records = store.records,
            Part::Index => self.named = store.named(),
            Part::Packs => self.packs = store.packs,
        }
    }

    fn after_look(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        if self.copies == 0 {
            self.after_repack(scenario, store)
        } else {
            Pc::Repack
        }
    }

    fn after_repack(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        if self.candidates != 0 && scenario.holds(Rule::MarkBeforeUnnaming) {
            Pc::PutMark
        } else {
            self.before_rewrite(scenario, store)
        }
    }

    /// Skips the rewrite if it would change nothing.
    fn before_rewrite(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        let changes = self.candidates | self.unnames | self.names != 0;
        let tidies = scenario.thorough && store.effective().count_ones() > 1;
        if changes || tidies || store.segments != store.effective() {
            Pc::ListSegments
        } else {
            self.after_rewrite(scenario, store)
        }
    }

    /// Plans a segment that replaces all segments that name a pack to remove. Returns false if
    /// there is nothing to change.
    fn plan_rewrite(&mut self, scenario: &Scenario, store: &Store) -> bool {
        let without = scenario.under(Rule::UnnameBeforeDelete, self.unnames | self.candidates);
        let effective = store.effective();
        let old = store.segments & !effective;
        let tidies = scenario.thorough && effective.count_ones() > 1;
        let picked =
            members(effective).filter(|n| tidies || store.segment[*n].packs & without != 0);
        let picked: Segments = picked.fold(0, |all, n| all | 1 << n);
        self.kept = members(picked).fold(0, |all, n| all | store.segment[n].packs) & !without;
        if scenario.holds(Rule::RescueBeforeUnmark) {
            self.kept |= self.names;
            self.names = 0;
        }
        self.replaced = (picked | old) & !store.marked_segments(self.marks);
        if picked == 0 && self.kept == 0 {
            return false;
        }
        self.superseded = picked;
        if scenario.holds(Rule::SupersedeAll) {
            self.superseded |= old;
        }
        true
    }

    fn after_rewrite(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        if self.candidates != 0 && !scenario.holds(Rule::MarkBeforeUnnaming) {
            Pc::PutMark
        } else {
            self.before_second_mark(scenario, store)
        }
    }

    fn before_second_mark(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        if self.replaced == 0 {
            self.begin_deletes(scenario, store)
        } else {
            Pc::MarkSegments
        }
    }

    /// Begins to delete what `deletes` and `unmarks` name. Segments stay unless another one
    /// supersedes them.
    fn begin_deletes(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        self.gone = store.marked_segments(self.unmarks) & store.segments & !store.effective();
        self.deletes &= store.packs;
        if self.deletes != 0 && scenario.holds(Rule::DeleteBeforeUnmark) {
            Pc::DeletePack
        } else {
            self.unmark(scenario, store)
        }
    }

    fn unmark(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        if self.unmarks == 0 {
            self.after_unmark(scenario, store)
        } else {
            Pc::Unmark
        }
    }

    fn after_unmark(&mut self, scenario: &Scenario, store: &Store) -> Pc {
        match () {
            () if self.deletes != 0 => Pc::DeletePack,
            () if self.names != 0 => Pc::RescueLate,
            () if scenario.grace || self.is_last_look || self.own == 0 => Pc::DeleteLeases,
            () => {
                self.is_last_look = true;
                if scenario.holds(Rule::MarkBeforeLastLook) {
                    return Pc::Look(0);
                }
                (self.deletes, self.unmarks) = (self.candidates, self.own);
                self.begin_deletes(scenario, store)
            }
        }
    }

    /// Whether a backup runs that may not have seen this mark, and must still find it.
    fn must_stay(&self, scenario: &Scenario, store: &Store, mark: usize) -> bool {
        let Mark {
            packs, missed_by, ..
        } = store.mark[mark];
        let is_kept = packs & store.packs == 0 || scenario.holds(Rule::MarkStaysThoughUsed);
        missed_by & self.backups != 0 && is_kept && scenario.holds(Rule::MarkStays)
    }

    /// Clears fields that no later step reads, so that fewer states differ.
    fn tidy(self, scenario: &Scenario) -> Self {
        let Self {
            pc, lapsed, dead, ..
        } = self;
        let rest = Self {
            pc,
            lapsed,
            is_last_look: self.is_last_look,
            dead,
            ..Self::default()
        };
        // A prune without grace looks again at its candidates and marks, and then deletes them.
        let (candidates, own) = if scenario.grace || self.is_last_look && !matches!(pc, Pc::Look(_))
        {
            (0, 0)
        } else {
            (self.candidates, self.own)
        };
        let deletes = Self {
            candidates,
            own,
            names: self.names,
            deletes: self.deletes,
            gone: self.gone,
            unmarks: self.unmarks,
            backups: if self.unmarks == 0 { 0 } else { self.backups },
            ..rest
        };
        match pc {
            Pc::DeleteLeases | Pc::DeleteLease | Pc::GiveUp => Self {
                is_last_look: false,
                ..rest
            },
            Pc::PutLease | Pc::Look(0) => Self {
                candidates,
                own,
                ..rest
            },
            Pc::Look(_) => self,
            Pc::DeletePack | Pc::Unmark | Pc::RescueLate => deletes,
            Pc::Repack
            | Pc::NameCopies
            | Pc::PutMark
            | Pc::ListSegments
            | Pc::Rewrite
            | Pc::MarkSegments => Self {
                candidates: self.candidates,
                own: self.own,
                records: if self.candidates == 0 {
                    0
                } else {
                    self.records
                },
                marks: self.marks,
                copies: self.copies,
                unnames: self.unnames,
                kept: self.kept,
                superseded: self.superseded,
                replaced: self.replaced,
                ..deletes
            },
        }
    }
}
