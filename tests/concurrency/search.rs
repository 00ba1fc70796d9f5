//! A breadth-first search through all states that a scenario can reach. It keeps a fingerprint of
//! each state and the number of its predecessor, so that it can print the shortest sequence of
//! steps to a fault.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A model to search: its states, and the faults that must never occur.
pub(super) trait Model {
    type State: Copy + Eq + Hash;

    fn initial(&self) -> Self::State;
    /// Appends all states that can follow, in an order that depends on `state` only.
    fn next(&self, state: &Self::State, to: &mut Vec<Self::State>);
    /// Returns the fault of this state, if it has one.
    fn fault(&self, state: &Self::State) -> Option<String>;
    /// Returns the state after all actors have crashed.
    fn rest(&self, state: &Self::State) -> Self::State;
    /// Returns the fault of a state after such a crash, if it has one.
    fn fault_at_rest(&self, rest: &Self::State) -> Option<String>;
    /// Describes the step between two states.
    fn describe(&self, before: &Self::State, after: &Self::State) -> String;
}

/// The maximum number of states of a model. Each model has far fewer.
const STATES_MAX: usize = 3_000_000;

/// The result of a search.
struct Outcome {
    states: usize,
    /// Number of different stores after a crash of all actors.
    rests: usize,
    /// The steps that lead to a fault, and the fault; `None` if no state has a fault.
    counterexample: Option<(Vec<String>, String)>,
}

/// A hasher that multiplies and folds up to eight bytes at a time. It is fast, but not safe against
/// chosen input.
#[derive(Default)]
struct Mixer {
    mixed: u64,
    word: u64,
    bits: u32,
}

impl Mixer {
    fn add(&mut self, n: u64, bits: u32) {
        self.word = self.word << bits | n;
        self.bits += bits;
        if self.bits > 48 {
            self.fold();
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    fn fold(&mut self) {
        let product = u128::from(self.mixed.rotate_left(23) ^ self.word ^ 0x5851_f42d_4c95_7f2d)
            * 0x9e37_79b9_7f4a_7c15;
        self.mixed = (product >> 64) as u64 ^ product as u64;
        (self.word, self.bits) = (0, 0);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mut last = Self { ..*self };
        last.fold();
        last.mixed
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.add((*byte).into(), 8);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.add(n.into(), 8);
    }

    fn write_u16(&mut self, n: u16) {
        self.add(n.into(), 16);
    }

    fn write_usize(&mut self, n: usize) {
        self.add(n as u64 & 0xff, 8);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_usize(n.unsigned_abs());
    }
}

/// A hasher that returns fingerprints unchanged, since they are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut mixer = Mixer::default();
    state.hash(&mut mixer);
    mixer.finish()
}

/// Visits all states, or stops at the first fault. Fails if there are too many states.
fn search<M: Model>(model: &M) -> Outcome {
    let initial = model.initial();
    let mut seen: HashSet<u64, BuildHasherDefault<AsIs>> = HashSet::default();
    seen.insert(fingerprint(&initial));
    let mut rests = seen.clone();
    rests.clear();
    // The predecessor of each state, and the position among the successors of this predecessor.
    let mut came: Vec<(u32, u16)> = vec![(0, 0)];
    let (mut level, mut following) = (vec![(0_u32, initial)], Vec::new());
    let mut next = Vec::new();
    while !level.is_empty() {
        for (from, state) in level.drain(..) {
            next.clear();
            let mut fault = model.fault(&state);
            let rest = model.rest(&state);
            if rests.insert(fingerprint(&rest)) {
                fault = fault.or_else(|| model.fault_at_rest(&rest));
            }
            if let Some(fault) = fault {
                let counterexample = Some((retrace(model, &came, from), fault));
                return Outcome {
                    states: came.len(),
                    rests: rests.len(),
                    counterexample,
                };
            }
            model.next(&state, &mut next);
            for (nth, state) in (0..).zip(&next) {
                if seen.insert(fingerprint(state)) {
                    let number = u32::try_from(came.len()).expect("a number of states");
                    came.push((from, nth));
                    following.push((number, *state));
                }
            }
            assert!(came.len() <= STATES_MAX, "more than {STATES_MAX} states");
        }
        std::mem::swap(&mut level, &mut following);
    }
    Outcome {
        states: came.len(),
        rests: rests.len(),
        counterexample: None,
    }
}

/// Visits all states of a model, and fails if one of them has a fault.
#[track_caller]
pub(super) fn holds<M: Model>(name: &str, model: &M) {
    let Outcome {
        states,
        rests,
        counterexample,
    } = search(model);
    eprintln!("{name}: {states} states; {rests} different stores after a crash of all actors");
    if let Some((way, fault)) = counterexample {
        panic!("{name}: {fault}, after\n{}", way.join("\n"));
    }
}

/// Returns whether a state of a model has a fault.
pub(super) fn has_fault<M: Model>(model: &M) -> bool {
    search(model).counterexample.is_some()
}

/// Fails if no state of a model has a fault although this rule is broken. With the environment
/// variable `SHOW_WAY`, prints the steps to the fault.
#[track_caller]
pub(super) fn breaks<M: Model>(rule: impl Debug, model: &M) {
    let Outcome {
        states,
        counterexample,
        ..
    } = search(model);
    let Some((way, fault)) = counterexample else {
        panic!("without {rule:?} nothing was found: {states} states");
    };
    eprintln!("{rule:?}: {fault}, {} steps, {states} states", way.len());
    if std::env::var_os("SHOW_WAY").is_some() {
        eprintln!("{}", way.join("\n"));
    }
}

fn retrace<M: Model>(model: &M, came: &[(u32, u16)], last: u32) -> Vec<String> {
    let mut turns = Vec::new();
    let mut at = last;
    while at != 0 {
        let (from, nth) = came[at as usize];
        turns.push(nth);
        at = from;
    }
    let mut state = model.initial();
    let mut next = Vec::new();
    let way = turns.into_iter().rev().map(|nth| {
        next.clear();
        model.next(&state, &mut next);
        let before = std::mem::replace(&mut state, next[usize::from(nth)]);
        model.describe(&before, &state)
    });
    way.collect()
}
