//! A reader of one backup. Each step is one call of the store.

use super::model::{Actor, Role, Rule, Scenario, State};
use super::store::{Lease, Set, Store, members, one};

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pc {
    #[default]
    Begin,
    PutLease,
    /// Reads the index.
    TakeIn,
    ListMarks,
    Read,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    pub(super) pc: Pc,
    pub(super) lapsed: bool,
    /// Which of two possible names the lease of the reader has.
    name: bool,
    has_lease: bool,
    /// The packs that marks name.
    marked: Set,
    /// The packs in which the reader finds blobs.
    places: Set,
}

impl Reader {
    pub(super) fn lease(self, scenario: &Scenario, n: usize) -> Lease {
        let Role::Reader { record } = scenario.roles[n] else {
            return Lease::default();
        };
        Lease {
            there: true,
            name: self.name,
            reads: scenario.top(record),
            ..Lease::default()
        }
    }

    pub(super) fn holds_lease(self) -> bool {
        self.has_lease
    }

    /// Returns the deleted packs that the reader would read next. There are none if it must first
    /// locate the blobs again.
    pub(super) fn lost(self, scenario: &Scenario, n: usize, store: &Store) -> Set {
        if self.pc != Pc::Read || self.lapsed {
            return 0;
        }
        self.needed(scenario, n, store) & !store.packs
    }

    fn tree(scenario: &Scenario, n: usize) -> Set {
        match scenario.roles[n] {
            Role::Reader { record } => scenario.tree(record),
            _ => 0,
        }
    }

    /// The packs in `places` that have any blob of the tree.
    fn needed(self, scenario: &Scenario, n: usize, store: &Store) -> Set {
        let tree = Self::tree(scenario, n);
        let needed = members(self.places).filter(|pack| store.contents[*pack] & tree != 0);
        needed.fold(0, |all, pack| all | one(pack))
    }

    /// Returns the next step after the reader has read the marks and the index. Returns `None` if
    /// the index does not locate all blobs in unmarked packs.
    fn resolved(&mut self, scenario: &Scenario, n: usize, store: &Store) -> Option<Pc> {
        self.places &= !self.marked;
        self.marked = 0;
        let missing = Self::tree(scenario, n) & !store.blobs(self.places);
        (missing == 0).then_some(if self.has_lease {
            Pc::Read
        } else {
            Pc::PutLease
        })
    }
}

pub(super) fn step(
    scenario: &Scenario,
    state: &State,
    n: usize,
    mut r: Reader,
    to: &mut Vec<State>,
) {
    let mut next = *state;
    let store = &mut next.store;
    if r.lapsed {
        r.pc = Pc::PutLease;
    }
    let first = match () {
        () if !scenario.holds(Rule::ReaderListsMarks) => Pc::TakeIn,
        () if !scenario.holds(Rule::ReaderMarksBeforeIndex) => Pc::TakeIn,
        () => Pc::ListMarks,
    };
    let after = match r.pc {
        Pc::Begin if scenario.holds(Rule::ReaderLeaseFirst) => Some(Pc::PutLease),
        Pc::Begin => Some(first),
        Pc::PutLease => {
            let resumes = r.has_lease;
            r.name ^= r.lapsed;
            (r.lapsed, r.has_lease) = (false, true);
            store.leases[n] = r.lease(scenario, n);
            let knows_places = if resumes {
                !scenario.holds(Rule::LapsedReaderLooksAgain) && r.places != 0
            } else {
                !scenario.holds(Rule::ReaderLeaseFirst)
            };
            Some(if knows_places { Pc::Read } else { first })
        }
        Pc::ListMarks => {
            r.marked = store.marked(store.marks);
            if scenario.holds(Rule::ReaderMarksBeforeIndex) {
                Some(Pc::TakeIn)
            } else {
                r.resolved(scenario, n, store)
            }
        }
        Pc::TakeIn => {
            r.places = store.named();
            if scenario.holds(Rule::ReaderMarksBeforeIndex) {
                r.resolved(scenario, n, store)
            } else {
                Some(Pc::ListMarks)
            }
        }
        Pc::Read => None,
    };
    if let Some(pc) = after {
        r.pc = pc;
        if pc == Pc::Read {
            r.places = r.needed(scenario, n, &next.store);
        }
        next.actors[n] = Actor::Reader(r);
    } else {
        // The reader has read everything, or the backup no longer exists.
        next.store.leases[n] = Lease::default();
        next.actors[n] = Actor::Ended;
    }
    to.push(next);
}
