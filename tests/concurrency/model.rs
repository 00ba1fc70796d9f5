//! The actors of a scenario, the steps that they can take, and the states that must never occur.

use super::pruner::{self, Pruner};
use super::reader::{self, Reader};
use super::search;
use super::store::{ACTORS, Lease, Set, Show, Store, members, one};
use super::writer::{self, Writer};

/// The rules of the protocol. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    // Rules of writers.
    /// A writer reads marks and index before it chooses a base.
    FirstLookBeforeBase,
    /// The first look reads the index before it lists marks.
    FirstIndexBeforeMarks,
    /// A writer does not deduplicate against marked packs.
    MarkedIsNotReliedOn,
    /// A writer walks over the tree of its base if a mark does not name the record of the base.
    UnseenBaseIsWalked,
    /// The lease lists packs before a segment names them.
    RelyBeforeNaming,
    /// A writer lists marks before it verifies that the packs that it will name exist.
    MarksBeforePresence,
    /// `RelyBeforeNaming` and `MarksBeforePresence` hold for packs that the writer stored itself,
    /// too.
    OwnPacksAlike,
    /// The lease names the new tree before the check that precedes the commit.
    IntendBeforeCheck,
    /// The check lists marks before it reads the index.
    MarksBeforeNames,
    /// The check notices packs that no segment names any longer.
    LostNames,
    /// If a new segment supersedes others, the check assumes that a pack was removed from the
    /// index. A comparison with the last look would miss a pack that was first named later.
    RewritesCount,
    /// A writer whose lease has lapsed stores no segment before it has looked again.
    LapsedNamesNothing,
    /// A writer whose lease has lapsed stores the lease again under a new name.
    NewLeaseAfterLapse,
    /// A writer remembers that its lease has lapsed, even after it has stored the lease again.
    LapseIsRemembered,
    // Rules of prunes.
    /// A prune ends if it sees the unexpired lease of another prune.
    OnePruner,
    /// A prune lists leases before records: a lease may end as soon as its record exists.
    LeasesBeforeRecords,
    /// A prune lists leases before it reads the index: a lease may end as soon as segments name the
    /// packs that it lists.
    LeasesBeforeIndex,
    /// If a blob is in several packs, a prune keeps an unmarked one.
    UnmarkedIsKept,
    /// A prune looks again at marked packs before it deletes them.
    MarkBeforeLastLook,
    /// A prune stores a mark before it removes the packs from the index.
    MarkBeforeUnnaming,
    /// A prune removes packs from the index before it deletes them.
    UnnameBeforeDelete,
    /// If marked packs are used again, a prune stores a segment that names them before it deletes
    /// their mark.
    RescueBeforeUnmark,
    /// A prune deletes packs before their mark.
    DeleteBeforeUnmark,
    /// A prune keeps a mark while a backup runs that began before the mark was stored.
    MarkStays,
    /// `MarkStays` holds even if some packs that the mark names are used again.
    MarkStaysThoughUsed,
    /// The last look spares packs that segments name again.
    NamedIsSpared,
    /// A superseding segment also lists the segments that are superseded already.
    SupersedeAll,
    /// A prune whose lease has lapsed stores and deletes nothing more.
    LapsedPrunerStops,
    /// A prune treats a tree as used if an unexpired lease names it as a tree that its holder
    /// intends to commit.
    IntentsAreUsed,
    /// A prune treats a pack as used if an unexpired lease relies on it.
    ReliedOnIsUsed,
    /// A prune keeps packs with any blob of a tree that an unexpired lease reads.
    ReadTreesStay,
    // Rules of readers.
    /// A reader's lease names the tree before the reader reads the index.
    ReaderLeaseFirst,
    /// A reader lists marks after it has stored its lease, and does not read marked packs.
    ReaderListsMarks,
    /// A reader lists marks before it reads the index: when a mark is deleted, its packs are no
    /// longer in the index.
    ReaderMarksBeforeIndex,
    /// A reader whose lease has lapsed reads the index again.
    LapsedReaderLooksAgain,
}

/// The rules that are broken.
#[derive(Clone, Copy, Default)]
pub(super) struct Broken(u64);

impl Broken {
    pub(super) const fn rule(rule: Rule) -> Self {
        Self(1 << rule as u64)
    }
}

/// The first state of the store, and the tasks of the actors.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) broken: Broken,
    pub(super) store: Store,
    /// The children of each node.
    pub(super) children: [Set; 8],
    /// The top of the tree of each record.
    pub(super) tops: [u8; 8],
    pub(super) roles: Vec<Role>,
    /// Whether a later run deletes marked packs, after the grace period. Otherwise the run that
    /// marks them deletes them, after a second look.
    pub(super) grace: bool,
    /// The actor that may be stopped, once, until its lease has lapsed. `None` if no actor may be
    /// stopped.
    pub(super) lapses: Option<usize>,
    /// How often a backup checks before it fails.
    pub(super) rounds: u8,
    /// Whether a prune also merges segments if it needs no new segment. If true, a prune may also
    /// find new packs too young to be marked.
    pub(super) thorough: bool,
    /// Whether no segment names some of the packs that records need at the beginning.
    pub(super) has_unnamed: bool,
    /// Whether prunes must be able to clean up after a crash of all actors.
    pub(super) at_rest: bool,
    /// Whether the actor in `lapses` may crash after it was stopped while it stored its record.
    /// `None` if it cannot be stopped while it stores its record.
    pub(super) late_commit: Option<LateCommit>,
}

/// A record that is stored after the lease of its writer has lapsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LateCommit {
    /// The writer looks at the store once more after it has stored the record.
    Looked,
    /// The writer may crash before it looks at the store once more.
    Crashed,
}

#[derive(Clone, Copy)]
pub(super) enum Role {
    Writer {
        record: u8,
        base: Option<u8>,
        /// Packs that an earlier run stored and that no segment names.
        adopts: Set,
        /// The packs that the writer stores: one with new data, and one with data that it stores
        /// again.
        stores: [u8; 2],
    },
    Pruner {
        /// The pack that the prune stores, and the mostly unused packs whose used blobs it copies
        /// into that pack. `None` if the prune repacks nothing.
        repacks: Option<(u8, Set)>,
    },
    Forgetter {
        record: u8,
    },
    Reader {
        record: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Actor {
    None,
    Writer(Writer),
    Pruner(Pruner),
    Forgetter,
    Reader(Reader),
    /// The actor has succeeded, failed or crashed.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) actors: [Actor; ACTORS],
    may_lapse: bool,
}

impl Scenario {
    pub(super) fn holds(&self, rule: Rule) -> bool {
        self.broken.0 >> rule as u64 & 1 == 0
    }

    pub(super) fn top(&self, record: u8) -> Set {
        one(self.tops[usize::from(record)].into())
    }

    /// Returns the blobs of a tree that can be found if only these blobs are readable.
    pub(super) fn walk(&self, top: Set, readable: Set) -> Set {
        let mut reached = top;
        loop {
            let nodes = members(reached & readable);
            let all = nodes.fold(reached, |all, n| all | self.children[n]);
            if all == reached {
                return reached;
            }
            reached = all;
        }
    }

    /// Returns all blobs of the tree of a record.
    pub(super) fn tree(&self, record: u8) -> Set {
        self.walk(self.top(record), Set::MAX)
    }
}

impl State {
    /// Returns the lease of an actor.
    pub(super) fn lease(&mut self, actor: usize) -> &mut Lease {
        &mut self.store.leases[actor]
    }

    /// Gives marks and segments the smallest numbers, also in the memory of the actors.
    fn renumber(&mut self) {
        let (segments, marks) = (self.store.segments, self.store.marks);
        self.store = self.store.renumbered();
        for actor in &mut self.actors {
            match actor {
                Actor::Writer(writer) => writer.renumber(marks, segments),
                Actor::Pruner(pruner) => pruner.renumber(marks, segments),
                _ => {}
            }
        }
    }

    fn lapsed(&mut self, actor: usize, lapsed: bool) {
        match &mut self.actors[actor] {
            Actor::Writer(writer) => writer.lapsed = lapsed,
            Actor::Pruner(pruner) => pruner.lapsed = lapsed,
            Actor::Reader(reader) => reader.lapsed = lapsed,
            _ => {}
        }
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        let mut actors = [Actor::None; ACTORS];
        for (actor, role) in actors.iter_mut().zip(&self.roles) {
            *actor = match role {
                Role::Writer { .. } => Actor::Writer(Writer::default()),
                Role::Pruner { .. } => Actor::Pruner(Pruner::default()),
                Role::Forgetter { .. } => Actor::Forgetter,
                Role::Reader { .. } => Actor::Reader(Reader::default()),
            };
        }
        State {
            store: self.store,
            actors,
            may_lapse: self.lapses.is_some(),
        }
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        for n in 0..self.roles.len() {
            let works = state.actors[n] != Actor::Ended;
            if works {
                self.step(state, n, to);
                // A crashed process with an unexpired lease looks like a process that waits. A
                // crashed process with an expired lease looks like a process without a lease.
                // `fault_at_rest` checks the store that a crash of all actors leaves.
                if self.crash_matters(state, n) {
                    let mut next = *state;
                    next.actors[n] = Actor::Ended;
                    next.store.leases[n] = Lease::default();
                    to.push(next);
                }
            }
            let lease = state.store.leases[n];
            let may_lapse = works && state.may_lapse && self.may_lapse(state, n);
            if lease.there && !lease.expired && may_lapse {
                let mut next = *state;
                next.lease(n).expired = true;
                next.lapsed(n, true);
                next.may_lapse = false;
                to.push(next);
            }
            // An actor that was stopped renews its lease. Other renewals change nothing.
            if works
                && self.may_lapse(state, n)
                && (!lease.there || lease.expired)
                && is_held(&state.actors[n])
            {
                let mut next = *state;
                next.store.leases[n] = match state.actors[n] {
                    Actor::Writer(writer) => writer.lease(self, n),
                    Actor::Reader(reader) => reader.lease(self, n),
                    _ => Lease {
                        there: true,
                        prune: true,
                        ..Lease::default()
                    },
                };
                if !self.holds(Rule::LapseIsRemembered) {
                    next.lapsed(n, false);
                }
                to.push(next);
            }
        }
        // A mark may become due as long as a prune may still look at it.
        let looks = |actor: &Actor| matches!(actor, Actor::Pruner(pruner) if pruner.may_look());
        let may_age = self.grace && state.actors.iter().any(looks);
        for n in members(state.store.marks).filter(|_| may_age) {
            if !state.store.mark[n].old {
                let mut next = *state;
                next.store.mark[n].old = true;
                to.push(next);
            }
        }
        to.iter_mut().for_each(State::renumber);
    }

    fn rest(&self, state: &State) -> State {
        let mut rest = State {
            store: state.store,
            actors: [Actor::None; ACTORS],
            may_lapse: false,
        };
        rest.store.leases = Default::default();
        rest
    }

    fn fault_at_rest(&self, rest: &State) -> Option<String> {
        if self.at_rest {
            self.leftover(rest)
        } else {
            None
        }
    }

    fn fault(&self, state: &State) -> Option<String> {
        let store = &state.store;
        let readable = store.blobs(store.packs);
        for record in members(store.records) {
            let record = record.try_into().expect("one of eight");
            let tree = self.tree(record);
            let lost = tree & !readable;
            if lost != 0 && !self.is_unsettled(state, record) {
                return Some(format!("record {record} has lost {}", Show(lost.into())));
            }
            let found = store.blobs(store.packs & (store.named() | store.marked(store.marks)));
            let nameless = tree & !found;
            if nameless != 0 && !self.has_unnamed && !self.is_unsettled(state, record) {
                return Some(format!(
                    "no segment and no mark leads to {} of record {record}",
                    Show(nameless.into())
                ));
            }
        }
        for (n, actor) in state.actors.iter().enumerate() {
            if let Actor::Reader(reader) = actor {
                let lost = reader.lost(self, n, store);
                if lost != 0 {
                    return Some(format!("reader {n} has lost packs {}", Show(lost.into())));
                }
            }
        }
        let gone = store.named() & !store.packs;
        if gone != 0 {
            return Some(format!(
                "a segment names {}, which were deleted",
                Show(gone.into())
            ));
        }
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        let all = 0..self.roles.len();
        let mut what = String::from("the grace period passes");
        for n in all {
            if before.store.leases[n].expired != after.store.leases[n].expired {
                what = format!(
                    "the lease of {n} {}",
                    if after.store.leases[n].expired {
                        "lapses"
                    } else {
                        "is stored again"
                    }
                );
            }
        }
        for n in 0..self.roles.len() {
            let (was, is) = (&before.actors[n], &after.actors[n]);
            let step = match (was, is) {
                _ if was == is => continue,
                (Actor::Writer(w), Actor::Ended) if !w.is_at_end() => format!("writer {n} crashes"),
                (Actor::Pruner(p), Actor::Ended) if !p.is_at_end() => format!("pruner {n} crashes"),
                (Actor::Writer(w), Actor::Writer(v)) if w.pc == v.pc => continue,
                (Actor::Writer(writer), _) => format!("writer {n}: {:?}", writer.pc),
                (Actor::Reader(r), Actor::Reader(s)) if r.pc == s.pc => continue,
                (Actor::Reader(reader), _) => format!("reader {n}: {:?}", reader.pc),
                (Actor::Pruner(w), Actor::Pruner(v)) if w.lapsed != v.lapsed => continue,
                (Actor::Pruner(pruner), _) => match pruner.pc {
                    pruner::Pc::Look(nth) => {
                        format!("pruner {n}: Look, {:?}", self.look()[usize::from(nth)])
                    }
                    pc => format!("pruner {n}: {pc:?}"),
                },
                _ => format!("forgetter {n}"),
            };
            what = step;
        }
        format!("{what:<32} {}", after.store)
    }
}

fn is_held(actor: &Actor) -> bool {
    match actor {
        Actor::Writer(writer) => writer.holds_lease(),
        Actor::Pruner(pruner) => pruner.holds_lease(),
        Actor::Reader(reader) => reader.holds_lease(),
        _ => false,
    }
}

impl Scenario {
    fn step(&self, state: &State, n: usize, to: &mut Vec<State>) {
        match (self.roles[n], state.actors[n]) {
            (Role::Writer { .. }, Actor::Writer(writer)) => {
                writer::step(self, state, n, writer, to);
            }
            (Role::Pruner { .. }, Actor::Pruner(pruner)) => {
                pruner::step(self, state, n, pruner, to);
            }
            (Role::Reader { .. }, Actor::Reader(reader)) => {
                reader::step(self, state, n, reader, to);
            }
            (Role::Forgetter { record }, Actor::Forgetter) => {
                let mut next = *state;
                let record = one(record.into());
                if next.store.records & record == 0 && self.writes(state, record) {
                    return; // The writer may still store the record.
                }
                next.store.records &= !record;
                next.actors[n] = Actor::Ended;
                to.push(next);
            }
            _ => {}
        }
    }

    fn writes(&self, state: &State, record: Set) -> bool {
        let mut roles = self.roles.iter().zip(&state.actors);
        roles.any(|(role, actor)| match (role, actor) {
            (Role::Writer { record: own, .. }, Actor::Writer(_)) => one((*own).into()) == record,
            _ => false,
        })
    }

    /// Whether others can distinguish a crash of this actor from waiting.
    fn crash_matters(&self, state: &State, n: usize) -> bool {
        let lease = &state.store.leases[n];
        let mut others = state.actors.iter().enumerate().filter(|(m, _)| *m != n);
        match state.actors[n] {
            Actor::Writer(writer) if writer.lapsed && self.late_commit.is_some() => {
                writer.is_at_end() && self.late_commit == Some(LateCommit::Crashed)
            }
            Actor::Writer(_) => {
                lease.relies_on | lease.intends != 0
                    && others.any(|(_, a)| matches!(a, Actor::Pruner(_)))
            }
            Actor::Pruner(pruner) => {
                pruner.has_written() && others.any(|(_, a)| *a == Actor::Pruner(Pruner::default()))
            }
            _ => false,
        }
    }

    fn may_lapse(&self, state: &State, n: usize) -> bool {
        match state.actors[n] {
            Actor::Writer(writer) => self.lapses == Some(n) && writer.lapse_matters(self),
            Actor::Pruner(_) | Actor::Reader(_) => self.lapses == Some(n),
            _ => false,
        }
    }

    /// Whether the writer of this record must still look again, because its lease has lapsed.
    fn is_unsettled(&self, state: &State, record: u8) -> bool {
        let mut roles = self.roles.iter().zip(&state.actors);
        self.late_commit.is_some()
            && roles.any(|(role, actor)| match (role, actor) {
                (Role::Writer { record: own, .. }, Actor::Writer(writer)) => {
                    *own == record && writer.lapsed
                }
                _ => false,
            })
    }

    /// After all actors have ended, more prunes must keep all used packs, and delete everything
    /// else. Returns the fault if they do not.
    fn leftover(&self, state: &State) -> Option<String> {
        let roles = vec![Role::Pruner { repacks: None }];
        let mut alone = *state;
        let scenario = Scenario {
            roles,
            lapses: None,
            ..self.bare()
        };
        for _ in 0..3 {
            alone.actors[0] = Actor::Pruner(Pruner::default());
            alone.renumber();
            let mut next = Vec::new();
            while matches!(alone.actors[0], Actor::Pruner(_)) {
                next.clear();
                scenario.step(&alone, 0, &mut next);
                alone = next[0];
                if matches!(alone.actors[0], Actor::Pruner(p) if p.pc == pruner::Pc::GiveUp) {
                    return Some("a prune alone fails".to_owned());
                }
            }
            for n in members(alone.store.marks) {
                alone.store.mark[n].old = true;
            }
        }
        let store = &alone.store;
        let named = store.named();
        let trees = members(store.records).map(|r| self.tree(r.try_into().expect("one of eight")));
        let used = trees.fold(0, |all, tree| all | tree);
        let keeps = |b: usize| members(store.packs).find(|p| store.contents[*p] & one(b) != 0);
        let kept = members(used)
            .filter_map(keeps)
            .fold(0, |all, p| all | one(p));
        if used & !store.blobs(store.packs & named) != 0 {
            return Some("prunes alone have lost something".to_owned());
        }
        if kept != store.packs || named != store.packs {
            return Some(format!("prunes alone leave packs: {store}"));
        }
        if store.marks != 0 || store.segments != store.effective() {
            return Some(format!("prunes alone leave markers: {store}"));
        }
        None
    }

    fn bare(&self) -> Self {
        Self {
            roles: Vec::new(),
            ..*self
        }
    }
}
