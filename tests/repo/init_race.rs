//! Two processes that create a repository in the same store at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use cuttlebone::repo::{ObjectRef, RepoError};
use cuttlebone::storage::{Backend, MemoryBackend, StorageOperation};

use super::intercepted::Intercepted;
use super::parity::{files, is_restored, rate, repair};
use super::{CHUNK, RecordingObserver, TestRepo};

#[test]
fn the_loser_of_two_inits_leaves_nothing_that_a_repair_could_bring_back() {
    let store = MemoryBackend::new();
    let winner = store.clone();
    let is_first = AtomicBool::new(true);
    let slower = Intercepted::new(&store, move |operation, name| {
        let is_last_step =
            operation == StorageOperation::Put && name == ObjectRef::Repository.name().as_str();
        if is_last_step && is_first.swap(false, Ordering::Relaxed) {
            TestRepo::init_with(winner.clone(), CHUNK, rate()).unwrap();
        }
        Ok(())
    });
    match TestRepo::init_with(slower, CHUNK, rate()) {
        Err(RepoError::RepositoryExists { .. }) => {}
        other => panic!("{:?}", other.map(drop)),
    }
    let alone = MemoryBackend::new();
    TestRepo::init_with(alone.clone(), CHUNK, rate()).unwrap();
    let before = files(&store);
    assert_eq!(before.len(), files(&alone).len(), "{:?}", before.keys());
    assert!(repair(&store).is_empty());
    // The parity of the repository file states only one content.
    let file = ObjectRef::Repository;
    for name in [file.name(), file.copy_name()] {
        store.delete(&name).unwrap();
    }
    assert!(repair(&store).iter().all(|(_, done)| *done));
    is_restored(&store, &before, "the repository file");
    TestRepo::open(store, &RecordingObserver::default()).unwrap();
}
