//! Repairs of the index that are interrupted, or that run at the same time as backups and prunes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuttlebone::base::Silent;
use cuttlebone::ops::{self, IndexAction, OpsError};
use cuttlebone::repo::{Lease, Work, Worker};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, Name, StorageOperation};

use super::command_crash::{Command, assert_clean, assert_restores, sweep, two_backups};
use super::intercepted::Intercepted;
use super::prune::{hooked_source, prune};
use super::{CHUNK, Host, LEAF, TestRepo, noise, options};

/// Repairs the index. All steps must succeed. Returns the actions.
fn repair(test_repo: &TestRepo, host: &Host) -> Result<Vec<IndexAction>, OpsError> {
    let context = host.context();
    let planned = ops::plan_index_repair(&test_repo.project, None, false, &context)?;
    let mut actions = Vec::new();
    planned.run(&mut |step, done| {
        assert!(done, "{step:?}");
        actions.push(step.action);
    })?;
    Ok(actions)
}

fn open(store: &MemoryBackend) -> TestRepo {
    TestRepo::open(store.clone(), &Silent).unwrap()
}

fn segments(store: &dyn Backend) -> Vec<Name> {
    let names = store.list("projects").unwrap().into_iter();
    let names = names.map(|object| object.name);
    names
        .filter(|name| name.as_str().contains("/index/"))
        .collect()
}

fn delete_segments(store: &dyn Backend) {
    for segment in segments(store) {
        store.delete(&segment).unwrap();
    }
}

fn damage(store: &dyn Backend, name: &Name) {
    let mut bytes = store.get(name, 1 << 20).unwrap();
    bytes[20] ^= 1;
    store.put(name, &[&bytes]).unwrap();
}

#[test]
fn a_repair_survives_a_fault_at_any_write() {
    for is_deleted in [false, true] {
        let (base, _) = two_backups();
        let host = Host::without_cache();
        let full = open(&base);
        ops::head(&full.project, None, &host.context()).unwrap();
        let before = segments(&base);
        if is_deleted {
            delete_segments(&base);
        } else {
            damage(&base, &before[0]);
        }
        let run = |full: &TestRepo, host: &Host| repair(full, host).map(drop);
        let is_repaired = |full: &TestRepo, when: &str| {
            assert_clean(full, when);
            let context = Host::without_cache();
            let context = context.context();
            let planned = ops::plan_index_repair(&full.project, None, true, &context).unwrap();
            assert!(planned.steps().is_empty(), "{when}: {:?}", planned.steps());
        };
        let runs = sweep(
            &base,
            &Command {
                run: &run,
                may_do_less: false,
                always: &assert_restores,
                done: &is_repaired,
            },
        );
        assert!(runs > 20, "{runs} runs are too few for a meaningful test");
    }
}

#[test]
fn a_repair_deletes_nothing_and_a_later_prune_deletes_damaged_segments() {
    let (base, _) = two_backups();
    let store = FaultBackend::holding(&base);
    let full = TestRepo::open(store.clone(), &Silent).unwrap();
    let host = Host::without_cache();
    let damaged = segments(&store).remove(0);
    damage(&store, &damaged);
    let names = |store: &dyn Backend| -> Vec<Name> {
        let objects = store.list("").unwrap().into_iter();
        objects.map(|object| object.name).collect()
    };
    let before = names(&store);
    let actions = repair(&full, &host).unwrap();
    let replaced = actions.iter().filter(|a| **a == IndexAction::Replace);
    assert_eq!(replaced.count(), 1);
    let after = names(&store);
    assert!(
        before.iter().all(|name| after.contains(name)),
        "{before:?} {after:?}"
    );
    store.age(Duration::from_hours(1));
    prune(&full, &host, Duration::ZERO).unwrap();
    assert!(!segments(&store).contains(&damaged));
    assert_clean(&full, "pruned");
}

#[test]
fn a_backup_that_runs_during_a_repair_is_complete() {
    for deleted_before in [true, false] {
        let when = format!("deleted before: {deleted_before}");
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::without_cache();
        let content = noise(1, 2 << 20);
        let old = host.back_up_stream(&full, "old", &content).unwrap().id;
        if deleted_before {
            delete_segments(&store);
        }
        let meanwhile = store.clone();
        let source = hooked_source(&content, move || {
            delete_segments(&meanwhile);
            let actions = repair(&open(&meanwhile), &Host::without_cache()).unwrap();
            assert!(actions.contains(&IndexAction::Name), "{actions:?}");
        });
        let new = host.run(&full, source, &options("new")).unwrap();
        // A backup that has found the chunks in the index finds them in the repaired one, too.
        assert!(deleted_before || new.chunks_new == 0, "{when}");
        host.check_clean(&full, &when);
        for id in [old, new.id] {
            let restored = host.restore(&full, &full.backup(id)).unwrap();
            assert!(restored == content, "{when}");
        }
        // The next backup needs no new chunk.
        let next = host.back_up_stream(&full, "next", &content).unwrap();
        assert_eq!(next.chunks_new, 0, "{when}");
        store.age(Duration::from_hours(48));
        prune(&full, &host, Duration::ZERO).unwrap();
        host.check_clean(&full, &when);
        assert!(host.restore(&full, &full.backup(next.id)).unwrap() == content);
    }
}

#[test]
fn a_backup_that_is_completed_while_a_repair_is_planned_lacks_no_data() {
    let (store, _) = two_backups();
    let host = Host::without_cache();
    ops::head(&open(&store).project, None, &host.context()).unwrap();
    delete_segments(&store);
    let (meanwhile, begun) = (store.clone(), AtomicBool::new(false));
    // The backup runs when the repair reads its first pack. By then, the repair has loaded the
    // index.
    let hooked = Intercepted::new(&store, move |operation, name| {
        let is_pack = name.contains("/packs/") || name.contains("/trees/");
        if operation == StorageOperation::Get && is_pack && !begun.swap(true, Ordering::Relaxed) {
            let content = noise(5, 2 << 20);
            Host::without_cache()
                .back_up_stream(&open(&meanwhile), "new", &content)
                .unwrap();
        }
        Ok(())
    });
    let full = TestRepo::open(hooked, &Silent).unwrap();
    let before = full.backups().len();
    let actions = repair(&full, &host).unwrap();
    assert!(actions.contains(&IndexAction::Name), "{actions:?}");
    let full = open(&store);
    assert_eq!(full.backups().len(), before + 1);
    host.check_clean(&full, "repaired");
}

#[test]
fn a_repair_and_a_prune_refuse_to_run_at_the_same_time() {
    let (store, _) = two_backups();
    let full = open(&store);
    let host = Host::without_cache();
    delete_segments(&store);
    let by = Worker {
        host: Some("elsewhere"),
        tool: Worker::TOOL,
    };
    let lease = Lease::take(&full.project, Work::Prune, by).unwrap();
    let refused = repair(&full, &host);
    assert!(
        matches!(refused, Err(OpsError::PruneRuns { .. })),
        "{refused:?}"
    );
    assert!(segments(&store).is_empty());
    drop(lease);
    let context = host.context();
    let planned = ops::plan_index_repair(&full.project, None, false, &context).unwrap();
    let refused = prune(&full, &host, Duration::ZERO);
    assert!(
        matches!(refused, Err(OpsError::PruneRuns { .. })),
        "{refused:?}"
    );
    planned.run(&mut |_, done| assert!(done)).unwrap();
    drop(planned);
    assert_clean(&full, "repaired");
    prune(&full, &host, Duration::ZERO).unwrap();
    assert_clean(&full, "pruned");
}

#[test]
fn a_repair_stores_no_segment_for_packs_that_a_prune_is_going_to_delete() {
    let (store, ids) = two_backups();
    let full = open(&store);
    let host = Host::without_cache();
    super::prune::forget(&full, &ids[..1]);
    let day = Duration::from_hours(24);
    store.age(2 * day);
    let report = prune(&full, &host, day).unwrap();
    assert!(report.marked.packs > 0);
    delete_segments(&store);
    repair(&full, &host).unwrap();
    store.age(2 * day);
    let report = prune(&full, &host, day).unwrap();
    assert!(
        report.deleted.packs > 0 && report.rescued == 0,
        "{report:?}"
    );
    assert_clean(&full, "pruned");
    let image = super::Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    assert!(host.back_up(&full, "again", &image).unwrap().chunks_new > 0);
    assert_clean(&full, "stored again");
}
