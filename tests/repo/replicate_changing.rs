//! Copies of a repository while the source or the target changes. Also, copies of a source that
//! lists objects, but does not return them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use cuttlebone::ops::{Finding, OpsError, ReplicateOptions, Side};
use cuttlebone::repo::ObjectKind;
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageErrorKind, StorageOperation};

use super::Host;
use super::intercepted::Intercepted;
use super::replicate::{
    Source, batches, copied, ids, names_below, open, page, remove, replicate_on,
};

/// Copies with several threads. Returns the findings.
fn replicate_between(
    source: impl Backend + 'static,
    target: impl Backend + 'static,
) -> Result<Vec<(Side, Finding)>, OpsError> {
    let host = Host::without_cache();
    let options = ReplicateOptions::default();
    let (_, found) = replicate_on(&host, Arc::new(source), Arc::new(target), &options)?;
    Ok(found)
}

#[test]
fn what_a_prune_of_the_target_deletes_during_a_copy_is_copied_again() {
    let source = Source::new();
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let project = source.test_repo.project.id;
    let packs = ObjectKind::Pack.directory(project);
    // Before the copy stores its batch, a prune deletes a pack that the copy has just stored.
    let store = target.clone();
    let left = Arc::new(Mutex::new(true));
    let (waiting, below) = (left.clone(), packs.clone());
    let before: BTreeSet<Name> = names_below(&target, &packs);
    let busy = Intercepted::new(&target, move |operation, name| {
        if operation == StorageOperation::Put && name.contains("/batches/") {
            let mut left = waiting.lock().unwrap();
            if std::mem::take(&mut *left) {
                let new = names_below(&store, &below);
                store
                    .delete(new.difference(&before).next().unwrap())
                    .unwrap();
            }
        }
        Ok(())
    });
    let found = replicate_between(source.store.clone(), busy).unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert!(!*left.lock().unwrap());
    assert!(names_below(&target, &packs).is_superset(&names_below(&source.store, &packs)));
    Host::without_cache().check_clean(&open(&target).unwrap(), "after the prune");
}

#[test]
fn a_copy_is_whole_if_the_source_is_pruned_at_any_moment_of_it() {
    // The source is changed before its n-th listing or read.
    for n in (0..).step_by(2) {
        let source = Source::new();
        let target = MemoryBackend::new();
        copied(&source.store, &target);
        source.change(2);
        let left = Arc::new(Mutex::new(Some((n, source.store.clone()))));
        let waiting = left.clone();
        let busy = Intercepted::new(&source.store, move |_, _| {
            let mut left = waiting.lock().unwrap();
            match left.take() {
                Some((0, store)) => {
                    drop(left);
                    let test_repo = open(&store).unwrap();
                    let host = Host::without_cache();
                    host.back_up(&test_repo, "volume", &page(50)).unwrap();
                    let oldest = test_repo.backups()[0].id;
                    remove(&store, &test_repo, oldest);
                }
                Some((more, store)) => *left = Some((more - 1, store)),
                None => {}
            }
            Ok(())
        });
        let found = replicate_between(busy, target.clone()).unwrap();
        assert!(found.is_empty(), "{n}: {found:?}");
        let when = format!("changed before call {n}");
        Host::without_cache().check_clean(&open(&target).unwrap(), &when);
        let is_left = left.lock().unwrap().is_some();
        if is_left {
            assert!(n > 20, "{n}");
            return;
        }
    }
}

#[test]
fn objects_that_a_source_lists_and_does_not_return_are_named_and_the_rest_is_copied() {
    let source = Source::new();
    source.back_up(7);
    for (part, kind) in [
        ("/packs/", StorageErrorKind::NotFound),
        ("/index/", StorageErrorKind::Unreadable),
        ("/backups/", StorageErrorKind::NotFound),
        ("/packs/", StorageErrorKind::Denied),
    ] {
        let lies = Intercepted::unreadable(&source.store, part, kind);
        let target = MemoryBackend::new();
        let found = replicate_between(lies, target.clone()).unwrap();
        let of_part = |store: &MemoryBackend| {
            let all = store.list("").unwrap().into_iter();
            all.filter(|object| object.name.as_str().contains(part))
                .count()
        };
        assert_eq!(found.len(), of_part(&source.store), "{part}: {found:?}");
        let damaged = |(side, finding): &(Side, Finding)| {
            *side == Side::Source && matches!(finding, Finding::ObjectDamaged { .. })
        };
        assert!(found.iter().all(damaged), "{found:?}");
        assert_eq!(of_part(&target), 0);
        // If the source returns these objects later, they are copied.
        let report = copied(&source.store, &target);
        assert_eq!(report.files_copied, of_part(&source.store) as u64);
        Host::without_cache().check_clean(&open(&target).unwrap(), part);
    }
}

#[test]
fn an_error_that_is_no_damage_ends_the_copy_and_the_next_one_continues() {
    let source = Source::new();
    for operation in [StorageOperation::Get, StorageOperation::List] {
        let down = Intercepted::new(&source.store, move |of, name| {
            if of == operation && name.contains("/packs") {
                Err(StorageErrorKind::Unavailable)
            } else {
                Ok(())
            }
        });
        let target = MemoryBackend::new();
        assert!(replicate_between(down, target.clone()).is_err());
        copied(&source.store, &target);
        Host::without_cache().check_clean(&open(&target).unwrap(), "again");
    }
}

#[test]
fn two_copies_to_the_same_target_at_the_same_time_do_not_disturb_each_other() {
    // A second copy runs from beginning to end before the n-th write of the first.
    for n in 0.. {
        let source = Source::new();
        let target = MemoryBackend::new();
        copied(&source.store, &target);
        source.change(2);
        source.change(3);
        let left = Arc::new(Mutex::new(Some(n)));
        let waiting = left.clone();
        let (from, store) = (source.store.clone(), target.clone());
        let busy = Intercepted::new(&target, move |operation, _| {
            if !matches!(operation, StorageOperation::Put | StorageOperation::Delete) {
                return Ok(());
            }
            let mut left = waiting.lock().unwrap();
            match left.take() {
                Some(0) => {
                    drop(left);
                    copied(&from, &store);
                }
                Some(more) => *left = Some(more - 1),
                None => {}
            }
            Ok(())
        });
        let found = replicate_between(source.store.clone(), busy).unwrap();
        assert!(found.is_empty(), "{n}: {found:?}");
        let when = format!("a second copy before write {n}");
        let test_repo = open(&target).unwrap();
        Host::without_cache().check_clean(&test_repo, &when);
        assert!(
            ids(&test_repo).is_superset(&ids(&source.test_repo)),
            "{when}"
        );
        assert!(batches(&target, test_repo.project.id).is_empty(), "{when}");
        if left.lock().unwrap().is_some() {
            assert!(n > 5, "{n}");
            return;
        }
    }
}
