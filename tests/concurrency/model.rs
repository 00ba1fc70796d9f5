//! Who is at work on what, what can happen next, and what must never be.

use super::pruner::{self, Pruner};
use super::reader::{self, Reader};
use super::search;
use super::store::{ACTORS, Lease, Set, Show, Store, members, one};
use super::writer::{self, Writer};

/// What the protocol says, rule by rule, so that each can be broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    // The writer's.
    /// Marks and index are taken in before a base is chosen.
    FirstLookBeforeBase,
    /// The first look takes in the index before it lists marks.
    FirstIndexBeforeMarks,
    /// What is marked is not deduplicated against.
    MarkedIsNotReliedOn,
    /// A base that some mark did not see is walked.
    UnseenBaseIsWalked,
    /// The lease tells which packs are about to be named.
    RelyBeforeNaming,
    /// Marks are listed before it is looked whether these packs are there.
    MarksBeforePresence,
    /// So it is with packs that the writer stored itself, too.
    OwnPacksAlike,
    /// The lease tells the new tree before the check.
    IntendBeforeCheck,
    /// The check lists marks before it takes in the index.
    MarksBeforeNames,
    /// The check asks whether a pack may have lost its name.
    LostNames,
    /// Each new segment that supersedes others may have taken one away, also from a pack that had
    /// none at first.
    RewritesCount,
    /// Whose lease had lapsed names nothing before it has looked again.
    LapsedNamesNothing,
    /// A lease that had lapsed gets a new name.
    NewLeaseAfterLapse,
    /// A lease that had lapsed stays suspicious when it was put again.
    LapseIsRemembered,
    // The pruner's.
    /// Who sees another live prune, leaves.
    OnePruner,
    /// Leases are listed before records: one may end as soon as its record is there.
    LeasesBeforeRecords,
    /// Leases are listed before the index is taken in: one may end as soon as what it relied on has
    /// a name.
    LeasesBeforeIndex,
    /// Of a blob that lies in several packs an unmarked one is kept.
    UnmarkedIsKept,
    /// What is marked is looked at again before it is deleted.
    MarkBeforeLastLook,
    /// A mark is put before its packs lose their names.
    MarkBeforeUnnaming,
    /// Packs lose their names before they are deleted.
    UnnameBeforeDelete,
    /// What is used after all is named before its mark goes.
    RescueBeforeUnmark,
    /// Packs are deleted before their mark.
    DeleteBeforeUnmark,
    /// A superseding segment lists what is superseded already, too.
    SupersedeAll,
    /// Whose lease had lapsed puts and deletes nothing more.
    LapsedPrunerStops,
    /// What live leases intend is used.
    IntentsAreUsed,
    /// What live leases rely on is used.
    ReliedOnIsUsed,
    /// Packs with anything of a tree that is being read stay.
    ReadTreesStay,
    // The reader's.
    /// The lease names the tree before the index is taken in.
    ReaderLeaseFirst,
    /// Marks are listed after the lease was put, and what is marked is not read.
    ReaderListsMarks,
    /// Marks are listed before the index is taken in: a mark that is done with has taken names
    /// away.
    ReaderMarksBeforeIndex,
    /// A reader whose lease had lapsed takes in the index anew.
    LapsedReaderLooksAgain,
}

/// The rules that are broken.
#[derive(Clone, Copy, Default)]
pub(super) struct Broken(u32);

impl Broken {
    pub(super) const fn rule(rule: Rule) -> Self {
        Self(1 << rule as u32)
    }
}

/// Where the actors begin, and what they are to do.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) broken: Broken,
    pub(super) store: Store,
    /// Of each node, its children.
    pub(super) children: [Set; 8],
    /// Of each record, the top of its tree.
    pub(super) tops: [u8; 8],
    pub(super) roles: Vec<Role>,
    /// Deleted in the run that marks, after a second look; or by a later run, when the grace period
    /// is over.
    pub(super) grace: bool,
    /// Who may be stopped, once, until his lease has lapsed.
    pub(super) lapses: Option<usize>,
    /// How often a backup checks before it fails.
    pub(super) rounds: u8,
    /// A prune that has nothing else to do merges segments, and may spare packs for their age.
    pub(super) thorough: bool,
    /// Whether prunes have to be able to put in order what a crash of everybody leaves.
    pub(super) at_rest: bool,
    /// Whether he may be stopped while his record is on its way, and whether he may crash then.
    pub(super) late_commit: Option<LateCommit>,
}

/// A record that gets there after the lease has lapsed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LateCommit {
    /// Its writer looks at it once more.
    Looked,
    /// Its writer may crash before that.
    Crashed,
}

#[derive(Clone, Copy)]
pub(super) enum Role {
    Writer {
        record: u8,
        base: Option<u8>,
        /// Packs that an earlier run left without a name.
        adopts: Set,
        /// The packs that it stores: new data, then what it had to store again.
        stores: [u8; 2],
    },
    Pruner {
        /// The pack that takes what is used of packs that are mostly unused, and which these are.
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
    /// Has ended, as it should, or failed, or crashed.
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
        self.broken.0 >> rule as u32 & 1 == 0
    }

    pub(super) fn top(&self, record: u8) -> Set {
        one(self.tops[usize::from(record)].into())
    }

    /// The blobs of a tree as far as it can be read, where these blobs can be.
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

    /// All blobs of a tree.
    pub(super) fn tree(&self, record: u8) -> Set {
        self.walk(self.top(record), Set::MAX)
    }
}

impl State {
    /// The lease of an actor who is at work, and whose is it.
    pub(super) fn lease(&mut self, actor: usize) -> &mut Lease {
        &mut self.store.leases[actor]
    }

    /// Gives marks and segments the smallest numbers. Who knows them follows.
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
                // A dead process whose lease is live is no different from one that waits, and one
                // whose lease is dead from one that has none. What a crash leaves behind, `rest`
                // looks at.
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
            // A heartbeat of somebody who was stopped; all others change nothing.
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
        for n in members(state.store.marks).filter(|_| self.grace) {
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
            if nameless != 0 && !self.is_unsettled(state, record) {
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
                "a segment names {}, which are gone",
                Show(gone.into())
            ));
        }
        None
    }

    fn tell(&self, before: &State, after: &State) -> String {
        let all = 0..self.roles.len();
        let mut what = String::from("the grace period passes");
        for n in all {
            if before.store.leases[n].expired != after.store.leases[n].expired {
                what = format!(
                    "the lease of {n} {}",
                    if after.store.leases[n].expired {
                        "lapses"
                    } else {
                        "is put again"
                    }
                );
            }
        }
        for n in 0..self.roles.len() {
            let (was, is) = (&before.actors[n], &after.actors[n]);
            let tells = match (was, is) {
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
            what = tells;
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
                    return; // It may come yet.
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

    /// Whether others see a difference between this actor's crash and that it waits.
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

    /// Whoever put it has still to look again, since his lease had lapsed meanwhile.
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

    /// Everybody has ended: prunes alone must leave what is used, and nothing else.
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
