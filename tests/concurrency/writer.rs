//! A backup. Each step is one call of the store.

use super::model::{Actor, Role, Rule, Scenario, State};
use super::store::{Lease, Segments, Set, Store, compact, compact_marks, members, one};

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    #[default]
    PutLease,
    FirstMarks,
    FirstIndex,
    ChooseBase,
    AnnouncePacks,
    NamingMarks,
    NamingPacks,
    PutSegment,
    PutPack,
    Intend,
    CheckMarks,
    CheckIndex,
    Walk,
    Commit,
    PutRecord,
    AfterMarks,
    AfterIndex,
    AfterWalk,
    PutEntry,
    DeleteRecord,
    DeleteLease,
    GiveUp,
}

#[expect(clippy::struct_excessive_bools, reason = "each is read by itself")]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) pc: Pc,
    pub(super) lapsed: bool,
    /// Which of two possible names the lease of the writer has.
    name: bool,
    is_based: bool,
    must_walk: bool,
    is_intended: bool,
    has_stored: bool,
    rounds: u8,
    /// The records that all marks of the first look name.
    seen_by_all: Set,
    /// The results of the last valid look: marks, marked packs, packs that segments name.
    marks: Set,
    marked: Set,
    named: Set,
    /// Segments that supersede others.
    superseding: Segments,
    /// The results of the current look so far.
    has_new: bool,
    new_marks: Set,
    new_marked: Set,
    new_named: Set,
    new_superseding: Segments,
    has_rewritten: bool,
    /// Blobs that have to be stored again.
    again: Set,
    /// The packs that the next segment will name.
    naming: Set,
    /// All packs that segments of this writer have named or will name.
    relies_on: Set,
}

impl Writer {
    pub(super) fn lease(&self, scenario: &Scenario, n: usize) -> Lease {
        let Role::Writer { record, .. } = scenario.roles[n] else {
            return Lease::default();
        };
        Lease {
            there: true,
            name: self.name,
            relies_on: self.relies_on,
            intends: if self.is_intended {
                scenario.top(record)
            } else {
                0
            },
            ..Lease::default()
        }
    }

    pub(super) fn holds_lease(&self) -> bool {
        self.pc != Pc::PutLease
    }

    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.pc, Pc::DeleteLease | Pc::GiveUp)
    }

    /// Whether later steps differ if the lease lapses now.
    pub(super) fn lapse_matters(&self, scenario: &Scenario) -> bool {
        match self.pc {
            Pc::PutLease
            | Pc::DeleteLease
            | Pc::GiveUp
            | Pc::AfterMarks
            | Pc::AfterIndex
            | Pc::AfterWalk
            | Pc::PutEntry
            | Pc::DeleteRecord => false,
            Pc::PutRecord => scenario.late_commit.is_some(),
            _ => true,
        }
    }

    /// Stores the lease again. If the lease had lapsed, the writer must check again all data that
    /// it uses.
    fn put_lease(&mut self, scenario: &Scenario, next: &mut State, n: usize) {
        if self.lapsed {
            self.must_walk = true;
            self.name ^= scenario.holds(Rule::NewLeaseAfterLapse);
        }
        self.lapsed = false;
        next.store.leases[n] = self.lease(scenario, n);
    }

    pub(super) fn renumber(&mut self, marks: Set, segments: Segments) {
        self.superseding = compact(self.superseding, segments);
        self.new_superseding = compact(self.new_superseding, segments);
        self.marks = compact_marks(self.marks, marks);
        self.new_marks = compact_marks(self.new_marks, marks);
    }

    /// Clears fields that no later step reads, so that fewer states differ.
    fn tidy(mut self) -> Self {
        match self.pc {
            Pc::PutLease | Pc::FirstMarks | Pc::FirstIndex | Pc::ChooseBase => {}
            Pc::DeleteLease | Pc::GiveUp => {
                return Self {
                    pc: self.pc,
                    lapsed: self.lapsed,
                    name: self.name,
                    ..Self::default()
                };
            }
            Pc::CheckIndex | Pc::CheckMarks | Pc::Walk | Pc::AfterIndex | Pc::AfterWalk => {
                self.seen_by_all = 0;
            }
            _ => {
                self.seen_by_all = 0;
                (self.new_marks, self.new_marked, self.new_named) = (0, 0, 0);
                (self.new_superseding, self.has_new, self.has_rewritten) = (0, false, false);
            }
        }
        self
    }

    /// Returns the step after the writer has looked at the packs that it will name.
    fn looked(&self) -> Pc {
        match () {
            () if self.naming != 0 => Pc::PutSegment,
            () if self.has_stored => Pc::GiveUp,
            () => Pc::PutPack,
        }
    }
}

impl Scenario {
    fn first_look(&self) -> Pc {
        if self.holds(Rule::FirstIndexBeforeMarks) {
            Pc::FirstIndex
        } else {
            Pc::FirstMarks
        }
    }

    /// Returns the step after all packs are stored and named.
    fn stored(&self) -> Pc {
        match () {
            () if self.holds(Rule::IntendBeforeCheck) => Pc::Intend,
            () if self.holds(Rule::MarksBeforeNames) => Pc::CheckMarks,
            () => Pc::CheckIndex,
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each step")]
pub(super) fn step(
    scenario: &Scenario,
    state: &State,
    n: usize,
    mut w: Writer,
    to: &mut Vec<State>,
) {
    let Role::Writer {
        record,
        base,
        adopts,
        stores,
    } = scenario.roles[n]
    else {
        return;
    };
    let mut next = *state;
    let store = &mut next.store;
    let tree = scenario.tree(record);
    w.pc = match w.pc {
        Pc::PutLease => {
            w.put_lease(scenario, &mut next, n);
            match () {
                () if !scenario.holds(Rule::FirstLookBeforeBase) => Pc::ChooseBase,
                () => scenario.first_look(),
            }
        }
        Pc::FirstIndex => {
            w.named = store.named();
            w.superseding = store.superseding();
            if scenario.holds(Rule::FirstIndexBeforeMarks) {
                Pc::FirstMarks
            } else {
                looked_first(scenario, &mut w, base, adopts)
            }
        }
        Pc::FirstMarks => {
            w.marks = store.marks;
            w.marked = store.marked(store.marks);
            let marks = members(store.marks).map(|m| store.mark[m]);
            let seen = marks
                .filter(|mark| mark.packs != 0)
                .map(|mark| mark.records);
            w.seen_by_all = seen.fold(Set::MAX, |all, records| all & records);
            if scenario.holds(Rule::FirstIndexBeforeMarks) {
                looked_first(scenario, &mut w, base, adopts)
            } else {
                Pc::FirstIndex
            }
        }
        Pc::ChooseBase => {
            w.is_based = base.is_some_and(|base| store.records & one(base.into()) != 0);
            match () {
                () if !scenario.holds(Rule::FirstLookBeforeBase) => scenario.first_look(),
                () => prepare(scenario, &mut w, base, adopts),
            }
        }
        Pc::AnnouncePacks => {
            if scenario.holds(Rule::RelyBeforeNaming) {
                w.relies_on |= w.naming;
            }
            w.put_lease(scenario, &mut next, n);
            if scenario.holds(Rule::MarksBeforePresence) {
                Pc::NamingMarks
            } else {
                Pc::NamingPacks
            }
        }
        Pc::NamingMarks => {
            w.naming &= !store.marked(store.marks);
            if scenario.holds(Rule::MarksBeforePresence) {
                Pc::NamingPacks
            } else {
                w.looked()
            }
        }
        Pc::NamingPacks => {
            w.naming &= store.packs;
            if scenario.holds(Rule::MarksBeforePresence) {
                w.looked()
            } else {
                Pc::NamingMarks
            }
        }
        Pc::PutSegment if w.lapsed && scenario.holds(Rule::LapsedNamesNothing) => Pc::AnnouncePacks,
        Pc::PutSegment => {
            store.put_segment(w.naming, 0);
            w.named |= w.naming;
            w.naming = 0;
            if w.has_stored {
                scenario.stored()
            } else {
                Pc::PutPack
            }
        }
        Pc::PutPack => {
            let pack = stores[usize::from(w.rounds)].into();
            store.put_pack(pack, wanted(scenario, &w, tree, base, store));
            w.naming = one(pack);
            w.has_stored = true;
            if scenario.holds(Rule::OwnPacksAlike) {
                Pc::AnnouncePacks
            } else {
                Pc::PutSegment
            }
        }
        Pc::Intend => {
            w.is_intended = true;
            w.put_lease(scenario, &mut next, n);
            match () {
                () if !scenario.holds(Rule::IntendBeforeCheck) => Pc::Commit,
                () if scenario.holds(Rule::MarksBeforeNames) => Pc::CheckMarks,
                () => Pc::CheckIndex,
            }
        }
        Pc::CheckMarks => {
            w.new_marks = store.marks;
            w.new_marked = store.marked(store.marks);
            w.has_new = w.new_marks & !w.marks != 0;
            if scenario.holds(Rule::MarksBeforeNames) {
                Pc::CheckIndex
            } else {
                checked(scenario, &mut w)
            }
        }
        Pc::CheckIndex => {
            w.new_named = store.named();
            w.new_superseding = store.superseding();
            w.has_rewritten = w.new_superseding & !w.superseding != 0;
            if scenario.holds(Rule::MarksBeforeNames) {
                checked(scenario, &mut w)
            } else {
                Pc::CheckMarks
            }
        }
        Pc::Walk => {
            let good = store.blobs(w.new_named & !w.new_marked & store.packs);
            let lost = tree & !good;
            (w.marks, w.marked, w.named) = (w.new_marks, w.new_marked, w.new_named);
            w.superseding = w.new_superseding;
            w.must_walk = false;
            match () {
                () if lost == 0 => Pc::Commit,
                () if lost & !store.blobs(store.packs) != 0 || w.rounds + 1 == scenario.rounds => {
                    Pc::GiveUp
                }
                () => {
                    // The writer reads in this step and stores in the next one.
                    w.rounds += 1;
                    w.again = lost;
                    Pc::PutPack
                }
            }
        }
        Pc::Commit if w.lapsed => Pc::Intend,
        Pc::Commit if scenario.late_commit.is_some() => Pc::PutRecord,
        Pc::Commit | Pc::PutRecord => {
            store.records |= one(record.into());
            Pc::DeleteLease
        }
        Pc::DeleteLease if w.lapsed => Pc::AfterMarks,
        Pc::AfterMarks => {
            w.new_marked = store.marked(store.marks);
            Pc::AfterIndex
        }
        Pc::AfterIndex => {
            w.new_named = store.named();
            Pc::AfterWalk
        }
        Pc::AfterWalk => {
            let good = store.blobs(w.new_named & !w.new_marked & store.packs);
            if tree & !good == 0 {
                w.lapsed = false;
                Pc::DeleteLease
            } else {
                Pc::PutEntry
            }
        }
        Pc::PutEntry => {
            store.removed |= one(record.into());
            Pc::DeleteRecord
        }
        Pc::DeleteRecord => {
            store.records &= !one(record.into());
            Pc::GiveUp
        }
        Pc::DeleteLease | Pc::GiveUp => {
            store.leases[n] = Lease::default();
            next.actors[n] = Actor::Ended;
            to.push(next);
            return;
        }
    };
    // Skip a step that would not call the store.
    if w.pc == Pc::PutPack && wanted(scenario, &w, tree, base, &next.store) == 0 {
        w.pc = scenario.stored();
    }
    if w.pc == Pc::Commit && !w.is_intended {
        w.pc = Pc::Intend;
    }
    next.actors[n] = Actor::Writer(w.tidy());
    to.push(next);
}

/// Returns the blobs to store next.
fn wanted(scenario: &Scenario, w: &Writer, tree: Set, base: Option<u8>, store: &Store) -> Set {
    if w.rounds > 0 {
        return w.again;
    }
    let unchanged = match base {
        Some(base) if w.is_based => tree & scenario.tree(base),
        _ => 0,
    };
    let marked = if scenario.holds(Rule::MarkedIsNotReliedOn) {
        w.marked
    } else {
        0
    };
    tree & !unchanged & !store.blobs(w.named & !marked)
}

fn looked_first(scenario: &Scenario, w: &mut Writer, base: Option<u8>, adopts: Set) -> Pc {
    if scenario.holds(Rule::FirstLookBeforeBase) {
        Pc::ChooseBase
    } else {
        prepare(scenario, w, base, adopts)
    }
}

/// Prepares the writer after its first look and the choice of its base. Returns the next step.
fn prepare(scenario: &Scenario, w: &mut Writer, base: Option<u8>, adopts: Set) -> Pc {
    let base = base
        .filter(|_| w.is_based)
        .map_or(0, |base| one(base.into()));
    w.must_walk |= base & !w.seen_by_all != 0 && scenario.holds(Rule::UnseenBaseIsWalked);
    w.naming = adopts & !w.named;
    if w.naming == 0 {
        Pc::PutPack
    } else {
        Pc::AnnouncePacks
    }
}

/// Returns the next step after a check: the commit, or a walk of the tree if packs that the writer
/// relies on may not be safe.
fn checked(scenario: &Scenario, w: &mut Writer) -> Pc {
    let lost = match () {
        () if !scenario.holds(Rule::LostNames) => false,
        () if !scenario.holds(Rule::RewritesCount) => w.named & !w.new_named != 0,
        () => w.has_rewritten,
    };
    if w.must_walk || w.has_new || lost {
        Pc::Walk
    } else {
        Pc::Commit
    }
}
