//! A model of a replica: a copy of a repository that is made without a key, object by object.
//! Meanwhile, a forget, two prunes and a backup run at the source. The copy keeps every object that
//! was ever copied, even if the source deletes or replaces the object later. The copy must be
//! usable at every moment, in case the source is lost.

use super::search::{self, breaks, holds};

/// The rules of a replica, of the source and of a reader. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A replica lists the log again at the end. If the log has changed, the replica lists
    /// everything again.
    ListTheLogAgain,
    /// A replica lists the log first.
    ListTheLogFirst,
    /// A replica lists records before segments, and segments before packs: an object is stored
    /// after the objects that it names.
    ListWhatNamesFirst,
    /// A replica copies packs before segments, and segments before records.
    CopyWhatIsNamedFirst,
    /// A replica does not copy objects that the log removes.
    LeaveOutRemoved,
    /// If a listed object no longer exists, a replica lists everything again.
    StartAgainIfGone,
    /// The source names objects in its log before it deletes them.
    EntryBeforeDeletion,
    /// A superseded segment counts for reading as long as its packs exist.
    SupersededAreRead,
}

/// Objects, one bit each.
type Objects = u16;

const fn pack(n: u16) -> Objects {
    1 << n
}

const fn segment(n: u16) -> Objects {
    1 << (4 + n)
}

const fn record(n: u16) -> Objects {
    1 << (8 + n)
}

const fn entry(n: u16) -> Objects {
    1 << (11 + n)
}

const PACKS: Objects = 0b1111;
const SEGMENTS: Objects = 0b1111 << 4;
const RECORDS: Objects = 0b111 << 8;
const LOG: Objects = 0b111 << 11;
const NAMES: [&str; 14] = [
    "pack 0",
    "pack 1",
    "pack 2",
    "pack 3",
    "segment 0",
    "segment 1",
    "segment 2",
    "segment 3",
    "record 0",
    "record 1",
    "record 2",
    "entry 0",
    "entry 1",
    "entry 2",
];

/// The blobs in each pack, one bit each.
const BLOBS: [u8; 4] = [0b011, 0b001, 0b100, 0b001];
/// The packs that each segment names, and the segments that it supersedes.
const SEGMENT: [(Objects, Objects); 4] = [
    (pack(0), 0),
    (pack(1), segment(0)),
    (pack(2), 0),
    (pack(3), segment(0) | segment(1)),
];
/// The objects that each log entry removes.
const REMOVES: [Objects; 3] = [record(0), pack(0) | segment(0), pack(1) | segment(1)];
/// The blobs that each record needs.
const NEEDS: [u8; 3] = [0b010, 0b001, 0b101];

/// The steps of a process at the source, in order.
#[derive(Clone, Copy)]
enum Step {
    Put(Objects),
    Delete(Objects),
}

use Step::{Delete, Put};

/// A forget removes the first record; then two prunes repack blobs that the second record needs.
const PRUNES: [Step; 12] = [
    Put(entry(0)),
    Delete(record(0)),
    Put(pack(1)),
    Put(segment(1)),
    Put(entry(1)),
    Delete(pack(0)),
    Delete(segment(0)),
    Put(pack(3)),
    Put(segment(3)),
    Put(entry(2)),
    Delete(pack(1)),
    Delete(segment(1)),
];
/// A backup finds one blob in the repository, and stores another one.
const BACKUP: [Step; 3] = [Put(pack(2)), Put(segment(2)), Put(record(2))];
const BEFORE: Objects = pack(0) | segment(0) | record(0) | record(1);

/// A list in progress. It has all objects that existed the whole time, and may have any of those
/// that were stored or deleted meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Listing {
    has: Objects,
    may_have: Objects,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    source: Objects,
    prunes: u8,
    backup: u8,
    /// The number of lists that the replica has taken since it last began to list everything.
    lists: u8,
    listing: Option<Listing>,
    /// The entries in the first list of the log.
    log: Objects,
    listed: Objects,
    copy: Objects,
}

struct Scenario {
    broken: Option<Rule>,
}

impl Scenario {
    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// Returns the kinds of objects in the order in which the replica lists them.
    fn lists(&self) -> &'static [Objects] {
        match self.broken {
            Some(Rule::ListTheLogAgain) => &[LOG, RECORDS, SEGMENTS, PACKS],
            Some(Rule::ListTheLogFirst) => &[RECORDS, SEGMENTS, PACKS, LOG, LOG],
            Some(Rule::ListWhatNamesFirst) => &[LOG, PACKS, SEGMENTS, RECORDS, LOG],
            _ => &[LOG, RECORDS, SEGMENTS, PACKS, LOG],
        }
    }

    /// Returns the objects of which the replica copies one next, or 0 if nothing is left to copy.
    fn wanted(&self, state: &State) -> Objects {
        let order = if self.holds(Rule::CopyWhatIsNamedFirst) {
            [PACKS, SEGMENTS, RECORDS, LOG]
        } else {
            [RECORDS, SEGMENTS, PACKS, LOG]
        };
        let entries = (0..3).filter(|n| state.log & entry(*n) != 0);
        let removed = entries.fold(0, |all, n| all | REMOVES[usize::from(n)]);
        let left_out = if self.holds(Rule::LeaveOutRemoved) {
            removed
        } else {
            0
        };
        let missing = state.listed & !state.copy & !left_out;
        let first = order.iter().find(|kind| missing & **kind != 0);
        first.map_or(0, |kind| missing & kind)
    }

    fn source_step(&self, state: &State, step: Step) -> State {
        let mut next = *state;
        let kind = self.lists().get(usize::from(state.lists)).copied();
        let (Put(object) | Delete(object)) = step;
        match step {
            Put(object) if object & LOG != 0 && !self.holds(Rule::EntryBeforeDeletion) => {}
            Put(_) => next.source |= object,
            Delete(_) => next.source &= !object,
        }
        if let (Some(listing), Some(kind)) = (&mut next.listing, kind) {
            let touched = object & kind & (state.source ^ next.source);
            listing.has &= !touched;
            listing.may_have |= touched;
        }
        next
    }

    /// Appends the states for all results that a list can have when it ends.
    fn end_of_list(&self, state: &State, listing: Listing, to: &mut Vec<State>) {
        let mut some = listing.may_have;
        loop {
            let found = listing.has | some;
            let mut next = State {
                listing: None,
                lists: state.lists + 1,
                listed: state.listed | found,
                ..*state
            };
            let nth = usize::from(state.lists);
            let kinds = self.lists();
            if kinds[nth] == LOG {
                let is_first = kinds.iter().position(|kind| *kind == LOG) == Some(nth);
                if is_first {
                    next.log = found;
                } else if next.log != found {
                    next = State {
                        lists: 0,
                        log: 0,
                        listed: 0,
                        ..next
                    };
                }
            }
            to.push(next);
            if some == 0 {
                return;
            }
            some = (some - 1) & listing.may_have;
        }
    }

    fn replica_step(&self, state: &State, to: &mut Vec<State>) {
        let mut next = *state;
        if let Some(kind) = self.lists().get(usize::from(state.lists)) {
            match state.listing {
                None => {
                    let has = state.source & kind;
                    next.listing = Some(Listing { has, may_have: 0 });
                    to.push(next);
                }
                Some(listing) => self.end_of_list(state, listing, to),
            }
            return;
        }
        let again = State {
            lists: 0,
            log: 0,
            listed: 0,
            ..*state
        };
        let wanted = self.wanted(state);
        if wanted == 0 {
            to.push(again);
        }
        for n in (0..NAMES.len()).filter(|n| wanted >> n & 1 != 0) {
            let object = 1 << n;
            to.push(match state.source & object {
                0 if self.holds(Rule::StartAgainIfGone) => again,
                0 => State {
                    listed: state.listed & !object,
                    ..*state
                },
                _ => State {
                    copy: state.copy | object,
                    ..*state
                },
            });
        }
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        State {
            source: BEFORE,
            prunes: 0,
            backup: 0,
            lists: 0,
            listing: None,
            log: 0,
            listed: 0,
            copy: 0,
        }
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        if let Some(step) = PRUNES.get(usize::from(state.prunes)) {
            let mut next = self.source_step(state, *step);
            next.prunes += 1;
            to.push(next);
        }
        if let Some(step) = BACKUP.get(usize::from(state.backup)) {
            let mut next = self.source_step(state, *step);
            next.backup += 1;
            to.push(next);
        }
        self.replica_step(state, to);
    }

    fn fault(&self, state: &State) -> Option<String> {
        let copy = state.copy;
        let there = (0..4).filter(|n| copy & segment(*n) != 0);
        let there: Vec<_> = there.map(|n| (n, SEGMENT[usize::from(n)])).collect();
        let superseded = there.iter().fold(0, |all, (_, (_, others))| all | others);
        let mut readable = 0;
        for (n, (packs, _)) in there {
            let counts = superseded & segment(n) == 0;
            if counts && packs & !copy != 0 {
                return Some(format!(
                    "segment {n} counts and names a pack that is not there"
                ));
            }
            if counts || self.holds(Rule::SupersededAreRead) {
                let packs = (0..4).filter(|n| packs & copy & pack(*n) != 0);
                readable = packs.fold(readable, |all, n| all | BLOBS[usize::from(n)]);
            }
        }
        let mut records = (0..3).filter(|n| copy & record(*n) != 0);
        let lost = records.find(|n| NEEDS[usize::from(*n)] & !readable != 0)?;
        Some(format!("record {lost} is not whole"))
    }

    fn rest(&self, state: &State) -> State {
        *state
    }

    fn fault_at_rest(&self, _: &State) -> Option<String> {
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        let show = |objects: Objects| {
            let names = (0..NAMES.len()).filter(|n| objects >> n & 1 != 0);
            names.map(|n| NAMES[n]).collect::<Vec<_>>().join(", ")
        };
        let came = after.source & !before.source;
        let went = before.source & !after.source;
        match () {
            () if came != 0 => format!("the source stores {}", show(came)),
            () if went != 0 => format!("the source deletes {}", show(went)),
            () if after.copy != before.copy => {
                format!("{} is copied", show(after.copy & !before.copy))
            }
            () if after.lists == 0 && before.lists != 0 => "all is listed again".to_owned(),
            () if after.listing.is_some() => "a list begins".to_owned(),
            () => format!("listed so far: {}", show(after.listed)),
        }
    }
}

#[test]
fn a_copy_taken_while_the_source_is_pruned_is_whole_at_every_moment() {
    holds("a replica", &Scenario { broken: None });
}

/// If any one of the rules is broken, a copy is not usable, and the search finds the steps that
/// lead to this.
#[test]
fn no_rule_of_a_replica_can_be_omitted() {
    for rule in [
        Rule::ListTheLogAgain,
        Rule::ListTheLogFirst,
        Rule::ListWhatNamesFirst,
        Rule::CopyWhatIsNamedFirst,
        Rule::LeaveOutRemoved,
        Rule::StartAgainIfGone,
        Rule::EntryBeforeDeletion,
        Rule::SupersededAreRead,
    ] {
        breaks(rule, &Scenario { broken: Some(rule) });
    }
}
