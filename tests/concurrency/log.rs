//! A model of the log: `head`, a forget, a prune and a backup run at the same time. A statement
//! that `head` printed must stay true: each object that its entry covers exists, or an entry
//! removes it. The entry must also cover every object that `head` found.

use super::search::{self, breaks, holds};

/// The rules of the log. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// The entry is stored before the object is deleted.
    EntryBeforeDeletion,
    /// A prune adds an entry for the packs that it deletes, too.
    PacksAreNamed,
    /// Entries are never deleted.
    EntriesStay,
    /// The objects that an entry removes may be missing, even if the entry does not follow the
    /// entry of the statement. A process may load the log just before `head` appends that entry.
    /// The process then appends an entry that does not follow it.
    AnyEntryExcuses,
    /// A new entry names, as its previous entries, all entries that no other entry names yet.
    NamesAllTips,
    /// If nothing is new, but no single entry covers everything, `head` still writes an entry.
    JoinsTips,
}

/// Records and packs, one bit each.
type Objects = u8;

const RECORD: Objects = 1;
const PACK: Objects = 1 << 1;
const NEW_PACK: Objects = 1 << 2;
const NEW_RECORD: Objects = 1 << 3;

/// Entries, one bit each.
type Entries = u8;

/// Maximum number of entries; all actors together write fewer.
const ENTRIES: usize = 8;
const ACTORS: usize = 5;

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Entry {
    added: Objects,
    removed: Objects,
    /// The entry itself, and all entries before it.
    line: Entries,
    /// The number of the entry: the highest number of the previous entries, plus 1.
    number: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Actor {
    Head(Head),
    /// Deletes one object: a forget or a prune.
    Remover(Remover),
    /// A backup, with the number of objects that it has stored: first a pack, then a record.
    Backup(u8),
    Ended,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Head {
    step: u8,
    found: Objects,
    log: Entries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Remover {
    step: u8,
    object: Objects,
    /// The remover begins when this object has been deleted.
    after: Objects,
    log: Entries,
    own: Entries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    objects: Objects,
    entry: [Entry; ENTRIES],
    made: u8,
    log: Entries,
    /// The entries that were printed.
    printed: Entries,
    /// Objects that a `head` found, but that its statement does not cover and that no entry known
    /// to it removes.
    left_out: Objects,
    actors: [Actor; ACTORS],
}

impl State {
    fn members(entries: Entries) -> impl Iterator<Item = usize> {
        (0..ENTRIES).filter(move |n| entries >> n & 1 != 0)
    }

    fn added(&self, entries: Entries) -> Objects {
        Self::members(entries).fold(0, |all, n| all | self.entry[n].added)
    }

    fn removed(&self, entries: Entries) -> Objects {
        Self::members(entries).fold(0, |all, n| all | self.entry[n].removed)
    }

    /// Returns the objects that an entry covers.
    fn set(&self, entry: usize) -> Objects {
        let line = self.entry[entry].line;
        self.added(line) & !self.removed(line)
    }

    /// Returns the entries in this set that no other entry in the set follows.
    fn tips(&self, log: Entries) -> Entries {
        let before = Self::members(log).map(|n| self.entry[n].line & !(1 << n));
        log & !before.fold(0, |all, line| all | line)
    }

    /// Appends an entry that follows the entries that the actor has seen. Returns the bit of the
    /// entry.
    fn append(
        &mut self,
        seen: Entries,
        all_tips: bool,
        added: Objects,
        removed: Objects,
    ) -> Entries {
        let n = usize::from(self.made);
        let mut previous = self.tips(seen);
        if !all_tips {
            previous &= previous.wrapping_neg();
        }
        let lines = Self::members(previous).map(|n| self.entry[n].line);
        let numbers = Self::members(previous).map(|n| self.entry[n].number);
        self.entry[n] = Entry {
            added,
            removed,
            line: lines.fold(1 << n, |all, line| all | line),
            number: numbers.max().unwrap_or_default() + 1,
        };
        self.made += 1;
        self.log |= 1 << n;
        1 << n
    }
}

struct Scenario {
    broken: Option<Rule>,
}

impl Scenario {
    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    fn head(&self, state: &State, n: usize, mut head: Head, to: &mut Vec<State>) {
        let mut next = *state;
        match head.step {
            // List records, then packs, and then the log.
            0 => head.found |= state.objects & (RECORD | NEW_RECORD),
            1 => head.found |= state.objects & (PACK | NEW_PACK),
            2 => head.log = state.log,
            _ => {
                next.actors[n] = Actor::Ended;
                let known = state.added(head.log) | state.removed(head.log);
                let new = head.found & !known;
                let tips = state.tips(head.log);
                let must_join = tips.count_ones() != 1 && self.holds(Rule::JoinsTips);
                let printed = if new != 0 || must_join {
                    next.append(head.log, self.holds(Rule::NamesAllTips), new, 0)
                } else {
                    // If several entries have the highest number, `head` takes the one with the
                    // largest hash. In this model, each of them may have it.
                    let number = State::members(tips).map(|n| state.entry[n].number).max();
                    let newest = |n: &usize| Some(state.entry[*n].number) == number;
                    State::members(tips)
                        .filter(newest)
                        .fold(0, |all, n| all | 1 << n)
                };
                for entry in State::members(printed) {
                    let mut next = next;
                    next.printed |= 1 << entry;
                    let stands_for = next.set(entry) | next.removed(head.log);
                    next.left_out |= head.found & !stands_for;
                    to.push(next);
                }
                return;
            }
        }
        head.step += 1;
        next.actors[n] = Actor::Head(head);
        to.push(next);
    }

    fn remove(&self, state: &State, n: usize, mut remover: Remover, to: &mut Vec<State>) {
        let mut next = *state;
        let object = remover.object;
        if state.objects & remover.after != 0 {
            return;
        }
        let is_early = !self.holds(Rule::EntryBeforeDeletion);
        let names = object != PACK || self.holds(Rule::PacksAreNamed);
        match remover.step {
            0 => remover.log = state.log,
            1 if is_early => next.objects &= !object,
            1 | 2 if (remover.step == 1) != is_early => {
                if names && state.removed(remover.log) & object == 0 {
                    let all_tips = self.holds(Rule::NamesAllTips);
                    remover.own = next.append(remover.log, all_tips, 0, object);
                }
            }
            2 => next.objects &= !object,
            _ => {
                if !self.holds(Rule::EntriesStay) {
                    next.log &= !remover.own;
                }
                next.actors[n] = Actor::Ended;
                to.push(next);
                return;
            }
        }
        remover.step += 1;
        next.actors[n] = Actor::Remover(remover);
        to.push(next);
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        let remover = |object, after| {
            Actor::Remover(Remover {
                step: 0,
                object,
                after,
                log: 0,
                own: 0,
            })
        };
        let mut state = State {
            objects: RECORD | PACK,
            entry: [Entry::default(); ENTRIES],
            made: 0,
            log: 0,
            printed: 0,
            left_out: 0,
            actors: [
                Actor::Head(Head::default()),
                Actor::Head(Head::default()),
                remover(RECORD, 0),
                remover(PACK, RECORD),
                Actor::Backup(0),
            ],
        };
        // A `head` has run before all actors.
        state.printed = state.append(0, true, state.objects, 0);
        state
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        for (n, actor) in state.actors.iter().enumerate() {
            match *actor {
                Actor::Head(head) => self.head(state, n, head, to),
                Actor::Remover(remover) => self.remove(state, n, remover, to),
                Actor::Backup(step) => {
                    let mut next = *state;
                    next.objects |= [NEW_PACK, NEW_RECORD][usize::from(step)];
                    next.actors[n] = match step {
                        0 => Actor::Backup(1),
                        _ => Actor::Ended,
                    };
                    to.push(next);
                }
                Actor::Ended => {}
            }
        }
    }

    fn fault(&self, state: &State) -> Option<String> {
        for printed in State::members(state.printed) {
            if state.log >> printed & 1 == 0 {
                return Some(format!("entry {printed} was printed, and no longer exists"));
            }
            let excuses = State::members(state.log).filter(|n| {
                self.holds(Rule::AnyEntryExcuses) || state.entry[*n].line >> printed & 1 != 0
            });
            let removed = excuses.fold(0, |all, n| all | state.entry[n].removed);
            let missing = state.set(printed) & !state.objects & !removed;
            if missing != 0 {
                return Some(format!(
                    "entry {printed} covers {missing:#b}, which is missing"
                ));
            }
        }
        let left_out = state.left_out;
        (left_out != 0).then(|| format!("a statement does not cover {left_out:#b}"))
    }

    fn rest(&self, state: &State) -> State {
        *state
    }

    fn fault_at_rest(&self, _: &State) -> Option<String> {
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        let changed = (0..ACTORS).find(|n| before.actors[*n] != after.actors[*n]);
        let what = match changed.map(|n| (n, before.actors[n])) {
            Some((n, Actor::Head(head))) => format!("head {n}, step {}", head.step),
            Some((_, Actor::Remover(r))) if r.object == RECORD => {
                format!("forget, step {}", r.step)
            }
            Some((_, Actor::Remover(r))) => format!("prune, step {}", r.step),
            _ => "backup".to_owned(),
        };
        format!(
            "{what:<16} objects {:#06b}, log {:#b}, printed {:#b}",
            after.objects, after.log, after.printed
        )
    }
}

#[test]
fn a_printed_statement_stays_true_while_others_delete_objects() {
    holds("the log", &Scenario { broken: None });
}

/// If any one of the rules is broken, a statement becomes false, and the search finds how.
#[test]
fn no_rule_of_the_log_can_be_omitted() {
    for rule in [
        Rule::EntryBeforeDeletion,
        Rule::PacksAreNamed,
        Rule::EntriesStay,
        Rule::AnyEntryExcuses,
        Rule::NamesAllTips,
        Rule::JoinsTips,
    ] {
        breaks(rule, &Scenario { broken: Some(rule) });
    }
}
