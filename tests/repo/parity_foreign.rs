//! Repairs of a repository in which an undamaged file of another repository replaced the genuine
//! file.

use std::sync::Arc;

use cuttlebone::ops::{self, ParityAction, ParityStep, RepairSources};
use cuttlebone::repo::{ObjectRef, Objects};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::parity::{files, is_restored, rate};
use super::{CHUNK, Host, TestRepo};

/// Repairs a store. Returns each step, and whether its object is whole now.
fn repair(
    store: &MemoryBackend,
    parity: bool,
    replica: Option<&MemoryBackend>,
) -> Vec<(ParityStep, bool)> {
    let objects = Objects::new(Arc::new(store.clone()));
    let replica = replica.map(|replica| Objects::new(Arc::new(replica.clone())));
    let sources = RepairSources {
        parity,
        replica: replica.as_ref(),
    };
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_repair(&objects, sources, &context).unwrap();
    let mut steps = Vec::new();
    let mut done = |step: &ParityStep, whole| steps.push((step.clone(), whole));
    planned.run(&mut done).unwrap();
    steps
}

/// Returns the stores of two new repositories, both with parity or both without.
fn two(parity: bool) -> (MemoryBackend, MemoryBackend) {
    let make = || {
        let store = MemoryBackend::new();
        let rate = rate().filter(|_| parity);
        TestRepo::init_with(store.clone(), CHUNK, rate).unwrap();
        store
    };
    (make(), make())
}

/// Replaces the first copy of the repository file with that of another repository.
fn replace_first(store: &MemoryBackend, other: &MemoryBackend) {
    let name = ObjectRef::Repository.name();
    let foreign = other.get(&name, 1 << 20).unwrap();
    store.put(&name, &[&foreign]).unwrap();
}

#[test]
fn parity_decides_which_of_two_whole_repository_files_is_genuine() {
    let (store, other) = two(true);
    let good = files(&store);
    for parity in [true, false] {
        let store = store.copy();
        replace_first(&store, &other);
        let steps = repair(&store, parity, None);
        assert!(steps.len() == 1 && steps[0].1, "{steps:?}");
        is_restored(&store, &good, "two whole files that differ");
        // Damage the genuine copy, too. Then only parity can restore the file.
        replace_first(&store, &other);
        let copy = ObjectRef::Repository.copy_name();
        let mut bytes = good[&copy].clone();
        bytes[20] ^= 1;
        store.put(&copy, &[&bytes]).unwrap();
        let before = files(&store);
        let steps = repair(&store, parity, None);
        assert_eq!(steps.len(), 1, "{steps:?}");
        if parity {
            assert!(steps[0].1, "{steps:?}");
            is_restored(&store, &good, "a foreign file and a damaged one");
        } else {
            assert_eq!(steps[0].0.action, ParityAction::Undecided);
            assert!(files(&store) == before);
        }
    }
}

#[test]
fn another_copy_of_the_repository_decides_which_of_two_whole_files_is_genuine() {
    let (store, other) = two(false);
    let replica = store.copy();
    let good = files(&store);
    replace_first(&store, &other);
    let before = files(&store);
    for parity in [true, false] {
        let steps = repair(&store, parity, None);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps[0].0.action, ParityAction::Undecided);
        assert!(!steps[0].1 && files(&store) == before);
    }
    let steps = repair(&store, false, Some(&replica));
    assert!(steps.len() == 1 && steps[0].1, "{steps:?}");
    is_restored(&store, &good, "a file that the replica has");
}
