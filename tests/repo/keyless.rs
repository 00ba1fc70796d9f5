//! Checks without a key. They run on stores that do not return what they list, on stores that
//! change during the check, and after a prune.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cuttlebone::ops::{self, KeylessReport, MaxUnused, PruneOptions, Statement};
use cuttlebone::repo::{ObjectKind, Objects};
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

fn check(store: impl Backend + 'static, statement: Option<&Statement>) -> KeylessReport {
    let objects = Objects::new(Arc::new(store));
    let host = Host::without_cache();
    let mut findings = Vec::new();
    let context = host.context();
    let report = ops::check_keyless(&objects, statement, &context, &mut |finding| {
        findings.push(format!("{finding:?}"));
    });
    let report = report.unwrap();
    assert_eq!(report.errors, findings.len() as u64, "{findings:#?}");
    report
}

fn state(test_repo: &TestRepo) -> Statement {
    let host = Host::without_cache();
    let head = ops::head(&test_repo.project, None, &host.context());
    head.unwrap().statement()
}

fn page(number: u64) -> Image {
    Image::new(LEAF).with(0, &noise(number, 4096))
}

fn with_backups(count: u64) -> (MemoryBackend, TestRepo) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    for number in 0..count {
        let volume = format!("volume {number}");
        host.back_up(&test_repo, &volume, &page(number)).unwrap();
    }
    (store, test_repo)
}

/// Deletes all objects of a kind.
fn delete_all(store: &MemoryBackend, test_repo: &TestRepo, kind: ObjectKind) {
    for object in store.list(&kind.directory(test_repo.project.id)).unwrap() {
        store.delete(&object.name).unwrap();
    }
}

#[test]
fn objects_that_a_store_lists_and_does_not_return_are_damaged() {
    let (store, test_repo) = with_backups(2);
    let statement = state(&test_repo);
    assert_eq!(
        check(store.clone(), Some(&statement)).statement_holds,
        Some(true)
    );
    for part in ["/packs/", "/trees/", "/index/", "/backups/"] {
        let lies = Intercepted::new(&store, move |operation, name| {
            let reads = matches!(operation, StorageOperation::Get);
            if reads && name.contains(part) {
                Err(StorageErrorKind::NotFound)
            } else {
                Ok(())
            }
        });
        let report = check(lies, Some(&statement));
        assert!(report.errors > 0, "{part}");
        assert_eq!(report.statement_holds, Some(false), "{part}");
    }
}

#[test]
fn a_statement_covers_the_packs_and_segments_that_a_prune_makes() {
    let (store, test_repo) = with_backups(20);
    let statement = state(&test_repo);
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: true,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    store.age(Duration::from_hours(1));
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    let report = planned.unwrap().run().unwrap();
    assert!(report.deleted.packs > 20, "{report:?}");
    let whole = check(store.clone(), Some(&statement));
    assert_eq!((whole.errors, whole.statement_holds), (0, Some(true)));
    for kind in [ObjectKind::Pack, ObjectKind::Tree, ObjectKind::Index] {
        let copy = store.copy();
        delete_all(&copy, &test_repo, kind);
        let report = check(copy, Some(&statement));
        assert!(report.errors > 0, "{kind:?}");
        assert_eq!(report.statement_holds, Some(false), "{kind:?}");
    }
}

#[test]
fn objects_that_are_stored_and_logged_during_a_check_do_not_count_as_missing() {
    let (store, test_repo) = with_backups(1);
    let statement = state(&test_repo);
    let again = Mutex::new(Some(store.clone()));
    let busy = Intercepted::new(&store, move |operation, name| {
        let begins = operation == StorageOperation::Get && name.contains("/log/");
        if begins && let Some(store) = again.lock().unwrap().take() {
            let other = TestRepo::open(store, &super::RecordingObserver::default()).unwrap();
            let host = Host::without_cache();
            host.back_up(&other, "new", &page(100)).unwrap();
            state(&other);
        }
        Ok(())
    });
    let report = check(busy, Some(&statement));
    assert_eq!((report.errors, report.statement_holds), (0, Some(true)));
}

#[test]
fn a_repository_file_of_another_repository_next_to_the_right_one_is_found() {
    let (store, _) = with_backups(1);
    let (other, _) = with_backups(1);
    let name = Name::new("cuttlebone").unwrap();
    let foreign = other.get(&name, 1 << 16).unwrap();
    store.put(&name, &[&foreign]).unwrap();
    assert_eq!(check(store, None).errors, 1);
}

#[test]
fn a_repository_without_a_project_is_damaged() {
    let (store, _) = with_backups(1);
    for object in store.list("projects").unwrap() {
        store.delete(&object.name).unwrap();
    }
    assert_eq!(check(store, None).errors, 1);
}

#[test]
fn copies_that_cannot_be_compared_do_not_count_as_equal() {
    let (store, _) = with_backups(1);
    for (kind, errors) in [
        (StorageErrorKind::Denied, Some(1)),
        (StorageErrorKind::Unavailable, None),
    ] {
        // Each copy can be read once, to verify it. Later reads, to compare the copies, fail.
        let reads = Mutex::new(0);
        let lost = Intercepted::new(&store, move |operation, name| {
            if operation != StorageOperation::Get
                || !matches!(name, "cuttlebone" | "cuttlebone.copy")
            {
                return Ok(());
            }
            let mut reads = reads.lock().unwrap();
            *reads += 1;
            if *reads > 2 { Err(kind) } else { Ok(()) }
        });
        let objects = Objects::new(Arc::new(lost));
        let host = Host::without_cache();
        let checked = ops::check_keyless(&objects, None, &host.context(), &mut |_| {});
        let found = checked.ok().map(|report| report.errors);
        assert_eq!(found, errors, "{kind:?}");
    }
}
