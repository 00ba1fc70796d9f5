//! Forgets that run at the same time. The test searches all states that a few of them can reach,
//! with a crash or a stop at any step. Each step is one call of the store.
//!
//! The log must remove every record that is missing. The volume must not lose its last record,
//! since each policy keeps one.

use super::search::{self, breaks, holds};

/// The rules of a forget. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// The lease lists the records to remove and to keep before the forget looks at other leases.
    AnnounceBeforeLook,
    /// A forget fails if the lease of another forget removes a record that this forget keeps.
    LookAtLeases,
    /// A forget verifies that the records that it keeps still exist.
    LookAtRecords,
    /// A forget lists leases before records: a lease ends when the records that it lists are
    /// deleted.
    LeasesBeforeRecords,
    /// The log entry is stored before the first record is deleted.
    EntryBeforeDeletion,
    /// The lease stays until the last record is deleted.
    LeaseUntilTheEnd,
    /// A forget whose lease has lapsed deletes nothing more.
    LapsedStops,
}

/// Records of one volume, one bit each; the lowest is the oldest.
type Records = u8;

/// The record that a policy keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    Newest,
    Oldest,
    Middle,
}

impl Policy {
    fn kept(self, records: Records) -> Records {
        let newest = |records: Records| match records.checked_ilog2() {
            Some(bit) => 1 << bit,
            None => 0,
        };
        let oldest = records & records.wrapping_neg();
        match self {
            Self::Newest => newest(records),
            Self::Oldest => oldest,
            Self::Middle => match records & !oldest & !newest(records) {
                0 => oldest,
                middle => middle,
            },
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Lease {
    there: bool,
    /// Whether other processes see the lease as expired.
    expired: bool,
    removes: Records,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
enum Pc {
    #[default]
    Plan,
    Announce,
    LookAtLeases,
    LookAtRecords,
    PutEntry,
    Delete,
    End,
    Ended,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Forget {
    pc: Pc,
    removes: Records,
    keeps: Records,
    lapsed: bool,
    gives_up: bool,
    /// Whether it deletes records before it stores the entry, because
    /// [`Rule::EntryBeforeDeletion`] is broken.
    early: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    records: Records,
    /// The records that log entries remove.
    log: Records,
    leases: [Lease; 3],
    forgets: [Forget; 3],
    may_lapse: bool,
}

struct Scenario {
    broken: Option<Rule>,
    records: Records,
    policies: Vec<Policy>,
    /// Whether one forget may be stopped, once, until its lease has lapsed.
    lapses: bool,
}

impl Scenario {
    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    fn step(&self, state: &State, n: usize) -> State {
        let mut next = *state;
        let forget = &mut next.forgets[n];
        match forget.pc {
            Pc::Plan => {
                forget.keeps = self.policies[n].kept(state.records);
                forget.removes = state.records & !forget.keeps;
                forget.pc = match forget.removes {
                    0 => Pc::Ended,
                    _ if self.holds(Rule::AnnounceBeforeLook) => Pc::Announce,
                    _ => Pc::LookAtLeases,
                };
            }
            Pc::Announce => {
                next.leases[n] = Lease {
                    there: true,
                    expired: false,
                    removes: forget.removes,
                };
                forget.lapsed = false;
                forget.pc = match self.holds(Rule::AnnounceBeforeLook) {
                    true if self.holds(Rule::LeasesBeforeRecords) => Pc::LookAtLeases,
                    true => Pc::LookAtRecords,
                    false => Pc::PutEntry,
                };
            }
            Pc::LookAtLeases => {
                let others = (0..3).filter(|m| *m != n).map(|m| state.leases[m]);
                let mut live = others.filter(|lease| lease.there && !lease.expired);
                let contradicts = live.any(|lease| lease.removes & forget.keeps != 0);
                forget.gives_up |= contradicts && self.holds(Rule::LookAtLeases);
                forget.pc = if self.holds(Rule::LeasesBeforeRecords) {
                    Pc::LookAtRecords
                } else {
                    self.looked(forget)
                };
            }
            Pc::LookAtRecords => {
                let lost = forget.keeps & !state.records;
                forget.gives_up |= lost != 0 && self.holds(Rule::LookAtRecords);
                forget.pc = if self.holds(Rule::LeasesBeforeRecords) {
                    self.looked(forget)
                } else {
                    Pc::LookAtLeases
                };
            }
            Pc::PutEntry => {
                next.log |= forget.removes;
                forget.pc = if forget.early { Pc::End } else { Pc::Delete };
                if !self.holds(Rule::LeaseUntilTheEnd) {
                    next.leases[n] = Lease::default();
                }
            }
            Pc::Delete => {
                let left = state.records & forget.removes;
                let stops = forget.lapsed && self.holds(Rule::LapsedStops);
                if left == 0 || stops {
                    forget.pc = if forget.early { Pc::PutEntry } else { Pc::End };
                } else {
                    next.records &= !(left & left.wrapping_neg());
                }
            }
            Pc::End => {
                next.leases[n] = Lease::default();
                forget.pc = Pc::Ended;
            }
            Pc::Ended => {}
        }
        if next.forgets[n].pc == Pc::Ended {
            next.forgets[n] = Forget {
                pc: Pc::Ended,
                ..Forget::default()
            };
        }
        next
    }

    /// Returns the next step of a forget that has looked at leases and records.
    fn looked(&self, forget: &mut Forget) -> Pc {
        if forget.gives_up {
            return Pc::End;
        }
        if !self.holds(Rule::AnnounceBeforeLook) {
            return Pc::Announce;
        }
        forget.early = !self.holds(Rule::EntryBeforeDeletion);
        if forget.early {
            Pc::Delete
        } else {
            Pc::PutEntry
        }
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        let mut forgets = [Forget {
            pc: Pc::Ended,
            ..Forget::default()
        }; 3];
        forgets[..self.policies.len()].fill(Forget::default());
        State {
            records: self.records,
            log: 0,
            leases: [Lease::default(); 3],
            forgets,
            may_lapse: self.lapses,
        }
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        for n in 0..self.policies.len() {
            let forget = state.forgets[n];
            if forget.pc == Pc::Ended {
                continue;
            }
            to.push(self.step(state, n));
            // A crash. Others may notice at once that the process has ended, or wait until its
            // lease expires.
            for expired in [false, true] {
                let mut next = *state;
                next.leases[n].expired |= expired;
                next.forgets[n] = Forget {
                    pc: Pc::Ended,
                    ..Forget::default()
                };
                to.push(next);
            }
            if state.may_lapse && state.leases[n].there && !state.leases[n].expired {
                let mut next = *state;
                next.leases[n].expired = true;
                next.forgets[n].lapsed = true;
                next.may_lapse = false;
                to.push(next);
            }
        }
    }

    fn fault(&self, state: &State) -> Option<String> {
        let missing = self.records & !state.records;
        if missing & !state.log != 0 {
            return Some(format!(
                "{missing:#b} is missing, the log has {:#b}",
                state.log
            ));
        }
        (state.records == 0).then(|| "the volume has no record".to_owned())
    }

    fn rest(&self, state: &State) -> State {
        *state
    }

    fn fault_at_rest(&self, _: &State) -> Option<String> {
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        let changed = (0..3).find(|n| before.forgets[*n] != after.forgets[*n]);
        let what = changed.map(|n| format!("forget {n}: {:?}", before.forgets[n].pc));
        let what = what.unwrap_or_else(|| {
            let stays = before.records == after.records;
            let what = if stays {
                "a process ends"
            } else {
                "a record is deleted"
            };
            what.to_owned()
        });
        format!(
            "{what:<32} records {:#b}, log {:#b}",
            after.records, after.log
        )
    }
}

fn two(broken: Option<Rule>) -> Scenario {
    Scenario {
        broken,
        records: 0b11,
        policies: vec![Policy::Newest, Policy::Oldest],
        lapses: false,
    }
}

fn two_of_which_one_is_stopped(broken: Option<Rule>) -> Scenario {
    Scenario {
        lapses: true,
        ..two(broken)
    }
}

fn three(broken: Option<Rule>) -> Scenario {
    Scenario {
        broken,
        records: 0b111,
        policies: vec![Policy::Newest, Policy::Oldest, Policy::Middle],
        lapses: true,
    }
}

#[test]
fn forgets_that_contradict_each_other_leave_a_record_and_no_gap() {
    for scenario in [two(None), two_of_which_one_is_stopped(None), three(None)] {
        let name = format!("{} forgets", scenario.policies.len());
        holds(&name, &scenario);
    }
}

/// If any one of the rules is broken, a forget loses a record, and the search finds the steps that
/// lead to this.
#[test]
fn no_rule_of_a_forget_can_be_omitted() {
    type Make = fn(Option<Rule>) -> Scenario;
    let rules: [(Rule, Make); 7] = [
        (Rule::AnnounceBeforeLook, two),
        (Rule::LookAtLeases, two),
        (Rule::LookAtRecords, two),
        (Rule::LeasesBeforeRecords, two),
        (Rule::EntryBeforeDeletion, two),
        (Rule::LeaseUntilTheEnd, two),
        (Rule::LapsedStops, two_of_which_one_is_stopped),
    ];
    for (rule, scenario) in rules {
        breaks(rule, &scenario(Some(rule)));
    }
}
