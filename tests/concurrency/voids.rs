//! A model of a backup with a write key. The lease of the backup may lapse before the record is
//! stored. Then a prune may have deleted the pack of the backup. So the backup withdraws the record
//! with a void, since a write key cannot sign a log entry that removes the record. Prunes, another
//! backup of the volume and a thief of a second write key run at the same time.

use super::search::{self, breaks, has_fault, holds};

/// The rules of voids. A scenario can break each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A backup whose lease has lapsed withdraws the record that it has stored.
    LapsedWithdraws,
    /// A backup whose lease has lapsed withdraws the record even if the call that stores it fails:
    /// the store may have the record anyway.
    FailedWithdraws,
    /// A withdrawn record is not used as a base.
    VoidedIsNoBase,
    /// Only the signer of a record can withdraw it.
    OnlyTheSigner,
    /// A withdrawn record stops no prune if its tree is incomplete.
    VoidedStopsNoPrune,
    /// If the tree of a withdrawn record is complete, a prune keeps its data.
    WholeIsUsed,
    /// The log entry is stored before the record is deleted.
    EntryBeforeDeletion,
    /// The record is deleted before the void that names it.
    RecordBeforeVoid,
}

/// The records and voids that a process has seen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Records {
    /// Whether the record of the backup that may be too late exists.
    first: bool,
    /// Whether the record of the next backup exists.
    second: bool,
    /// Whether the first record was withdrawn.
    is_voided: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Writer {
    PutRecord,
    /// The record is stored, or the call has failed.
    Look {
        has_failed: bool,
    },
    PutVoid,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Next {
    PutLease,
    ListMarks,
    ReadRecords,
    Intend,
    ListMarksAgain,
    Commit,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Pc {
    ReadLeases,
    ReadRecords,
    ListPacks,
    PutMark,
    PutEntryOfPack,
    DeletePack,
    DeleteMark,
    PutEntryOfRecord,
    DeleteRecord,
    DeleteVoid,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Prune {
    pc: Pc,
    is_last_look: bool,
    /// Whether the lease of at least one of the backups names the tree.
    is_intended: bool,
    next_is_at_work: bool,
    records: Records,
}

const PRUNE: Prune = Prune {
    pc: Pc::ReadLeases,
    is_last_look: false,
    is_intended: false,
    next_is_at_work: false,
    records: Records {
        first: false,
        second: false,
        is_voided: false,
    },
};

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an object of the store"
)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    pack: bool,
    mark: bool,
    first: bool,
    second: bool,
    void: bool,
    void_of_thief: bool,
    /// Whether the log removes the first record.
    is_removed: bool,
    /// Whether the first record was ever stored.
    was_stored: bool,
    has_lapsed: bool,
    writer: Writer,
    next: Next,
    prune: Prune,
    prunes_left: u8,
    /// What a prune did wrong; `None` if it did nothing wrong.
    fault: Option<&'static str>,
}

struct Scenario {
    broken: Option<Rule>,
    /// Whether the writer may crash before it has withdrawn its record.
    crashes: bool,
    /// Whether the other backup may begin before the first one has ended.
    may_overlap: bool,
}

impl Scenario {
    const fn of(broken: Option<Rule>) -> Self {
        Self {
            broken,
            crashes: false,
            may_overlap: false,
        }
    }

    fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    fn records(&self, state: &State) -> Records {
        let of_other = state.void_of_thief && !self.holds(Rule::OnlyTheSigner);
        Records {
            first: state.first,
            second: state.second,
            is_voided: state.first && (state.void || of_other),
        }
    }

    fn writer(&self, state: &State, to: &mut Vec<State>) {
        let mut next = *state;
        match state.writer {
            Writer::PutRecord => {
                for (has_failed, arrives) in [(false, true), (true, true), (true, false)] {
                    to.push(State {
                        writer: Writer::Look { has_failed },
                        first: arrives,
                        was_stored: arrives,
                        ..*state
                    });
                }
                return;
            }
            Writer::Look { has_failed } => {
                let takes_back = state.has_lapsed
                    && self.holds(Rule::LapsedWithdraws)
                    && (!has_failed || self.holds(Rule::FailedWithdraws));
                next.writer = if takes_back {
                    Writer::PutVoid
                } else {
                    Writer::Ended
                };
            }
            Writer::PutVoid => {
                next.void = true;
                next.writer = Writer::Ended;
            }
            Writer::Ended => return,
        }
        to.push(next);
        if self.crashes {
            next = *state;
            next.writer = Writer::Ended;
            to.push(next);
        }
    }

    /// Another backup of the volume, which takes all chunks from its base.
    fn next_backup(&self, state: &State, to: &mut Vec<State>) {
        let mut next = *state;
        next.next = match state.next {
            Next::PutLease if state.writer != Writer::Ended && !self.may_overlap => return,
            Next::PutLease => Next::ListMarks,
            // A real backup would continue here: it would walk the tree of its base, and store data
            // again.
            Next::ListMarks | Next::ListMarksAgain if state.mark => Next::Ended,
            Next::ListMarks => Next::ReadRecords,
            Next::ReadRecords => {
                let records = self.records(state);
                let voided = records.is_voided && self.holds(Rule::VoidedIsNoBase);
                if records.first && !voided {
                    Next::Intend
                } else {
                    Next::Ended
                }
            }
            Next::Intend => Next::ListMarksAgain,
            Next::ListMarksAgain => Next::Commit,
            Next::Commit => {
                next.second = true;
                Next::Ended
            }
            Next::Ended => return,
        };
        to.push(next);
    }

    fn prune(&self, state: &State, to: &mut Vec<State>) {
        let mut next = *state;
        let prune = &mut next.prune;
        prune.pc = match prune.pc {
            Pc::ReadLeases => {
                let is_live = state.writer != Writer::Ended && !state.has_lapsed;
                let intends = matches!(state.next, Next::ListMarksAgain | Next::Commit);
                prune.is_intended = is_live || intends;
                prune.next_is_at_work = !matches!(state.next, Next::PutLease | Next::Ended);
                Pc::ReadRecords
            }
            Pc::ReadRecords => {
                prune.records = self.records(state);
                Pc::ListPacks
            }
            Pc::ListPacks => self.plan(state, *prune, &mut next.fault),
            Pc::PutMark => {
                next.mark = true;
                prune.is_last_look = true;
                Pc::ReadLeases
            }
            Pc::PutEntryOfPack => Pc::DeletePack,
            Pc::DeletePack => {
                next.pack = false;
                if prune.records.first {
                    next.fault = Some("a prune deletes data that a complete record needs");
                }
                Pc::DeleteMark
            }
            Pc::DeleteMark => {
                // The mark stays while a backup is running that may have missed it. That backup
                // must find the mark when it lists marks again.
                next.mark = prune.next_is_at_work;
                Pc::Ended
            }
            Pc::PutEntryOfRecord => {
                next.is_removed = self.holds(Rule::EntryBeforeDeletion);
                if self.holds(Rule::RecordBeforeVoid) {
                    Pc::DeleteRecord
                } else {
                    Pc::DeleteVoid
                }
            }
            Pc::DeleteRecord => {
                next.first = false;
                if self.holds(Rule::RecordBeforeVoid) {
                    Pc::DeleteVoid
                } else {
                    Pc::Ended
                }
            }
            Pc::DeleteVoid => {
                next.void = false;
                if self.holds(Rule::RecordBeforeVoid) {
                    Pc::Ended
                } else {
                    Pc::DeleteRecord
                }
            }
            Pc::Ended if state.prunes_left == 0 => return,
            Pc::Ended => {
                next.prunes_left -= 1;
                *prune = PRUNE;
                Pc::ReadLeases
            }
        };
        to.push(next);
        // A crash. The next prune finds the objects that this one has left.
        if state.prune.pc != Pc::Ended {
            let mut next = *state;
            next.prune = Prune {
                pc: Pc::Ended,
                ..PRUNE
            };
            to.push(next);
        }
    }

    /// Returns the next step of a prune that has looked at leases, records and packs.
    fn plan(&self, state: &State, prune: Prune, fault: &mut Option<&'static str>) -> Pc {
        let Records {
            first,
            second,
            is_voided,
        } = prune.records;
        if !state.pack {
            return match () {
                () if first && is_voided && self.holds(Rule::VoidedStopsNoPrune) => {
                    Pc::PutEntryOfRecord
                }
                () if first && is_voided => {
                    *fault = Some("a withdrawn record stops a prune");
                    Pc::Ended
                }
                () => Pc::Ended,
            };
        }
        let is_used =
            second || prune.is_intended || first && (!is_voided || self.holds(Rule::WholeIsUsed));
        match (is_used, prune.is_last_look) {
            (true, _) => Pc::Ended,
            (false, false) => Pc::PutMark,
            (false, true) => Pc::PutEntryOfPack,
        }
    }
}

impl search::Model for Scenario {
    type State = State;

    fn initial(&self) -> State {
        State {
            pack: true,
            mark: false,
            first: false,
            second: false,
            void: false,
            void_of_thief: false,
            is_removed: false,
            was_stored: false,
            has_lapsed: false,
            writer: Writer::PutRecord,
            next: Next::PutLease,
            prune: PRUNE,
            prunes_left: 2,
            fault: None,
        }
    }

    fn next(&self, state: &State, to: &mut Vec<State>) {
        self.writer(state, to);
        self.next_backup(state, to);
        self.prune(state, to);
        if state.writer == Writer::PutRecord && !state.has_lapsed {
            to.push(State {
                has_lapsed: true,
                ..*state
            });
        }
        if state.first && !state.void_of_thief {
            to.push(State {
                void_of_thief: true,
                ..*state
            });
        }
    }

    fn fault(&self, state: &State) -> Option<String> {
        let records = self.records(state);
        let is_settled = state.writer == Writer::Ended;
        let fault = match () {
            () if state.fault.is_some() => state.fault?,
            () if records.first && !records.is_voided && is_settled && !state.pack => {
                "a record that counts is incomplete"
            }
            () if records.second && !state.pack => "a record that builds on a base is incomplete",
            () if state.was_stored && !state.first && !state.is_removed => {
                "a record is missing, and not in the log"
            }
            () if records.is_voided && !state.void => "a thief has withdrawn a record",
            () => return None,
        };
        Some(fault.to_owned())
    }

    fn rest(&self, state: &State) -> State {
        *state
    }

    fn fault_at_rest(&self, _: &State) -> Option<String> {
        None
    }

    fn describe(&self, before: &State, after: &State) -> String {
        match () {
            () if before.writer != after.writer => format!("backup: {:?}", before.writer),
            () if before.next != after.next => format!("next backup: {:?}", before.next),
            () if before.has_lapsed != after.has_lapsed => "the lease lapses".to_owned(),
            () if before.void_of_thief != after.void_of_thief => "thief: PutVoid".to_owned(),
            () => format!("prune: {:?}, then {:?}", before.prune.pc, after.prune.pc),
        }
    }
}

#[test]
fn a_late_record_that_was_withdrawn_harms_no_backup_and_no_prune() {
    holds("voids", &Scenario::of(None));
}

/// These are the limits of voids that `docs/concurrency.md` names.
#[test]
fn a_late_record_that_is_not_withdrawn_in_time_may_become_a_base() {
    for scenario in [
        Scenario {
            crashes: true,
            ..Scenario::of(None)
        },
        Scenario {
            may_overlap: true,
            ..Scenario::of(None)
        },
    ] {
        assert!(has_fault(&scenario));
    }
}

/// If any one of the rules is broken, a fault can occur, and the search finds the steps that lead
/// to it.
#[test]
fn no_rule_of_voids_can_be_omitted() {
    for rule in [
        Rule::LapsedWithdraws,
        Rule::FailedWithdraws,
        Rule::VoidedIsNoBase,
        Rule::OnlyTheSigner,
        Rule::VoidedStopsNoPrune,
        Rule::WholeIsUsed,
        Rule::EntryBeforeDeletion,
        Rule::RecordBeforeVoid,
    ] {
        breaks(rule, &Scenario::of(Some(rule)));
    }
}
