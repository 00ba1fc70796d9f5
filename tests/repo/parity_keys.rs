//! Key slots, settings and certificates that are missing and have parity.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cuttlebone::base::Role;
use cuttlebone::ops::{self, ParityAction, ParityStep, RepairSources};
use cuttlebone::repo::{Grant, KeyScope, KeySummary, ObjectKind, ObjectRef, Objects};
use cuttlebone::storage::{Backend, Fault, FaultBackend, MemoryBackend, Moment, Name, Plan};

use super::intercepted::Intercepted;
use super::parity::{WITH_PARITY, files, is_restored, options, repair, with_backups};
use super::{Host, RecordingObserver, TestRepo, key};

fn of_project(test_repo: &TestRepo, role: Role) -> Grant<'_> {
    Grant::Project {
        project: &test_repo.project,
        role,
        volumes: &[],
    }
}

/// Returns all keys except the one that opened the repository.
fn other_keys(test_repo: &TestRepo) -> Vec<KeySummary> {
    let keys = test_repo
        .repository
        .list_keys(&RecordingObserver::default());
    let mut keys = keys.unwrap();
    keys.retain(|key| !key.current);
    keys
}

fn slot_of(key: &KeySummary) -> ObjectRef {
    match key.scope {
        KeyScope::Repository => ObjectRef::Key(None, key.id),
        KeyScope::Project(project) => ObjectRef::Key(Some(project), key.id),
    }
}

fn planned(
    store: &(impl Backend + Clone + 'static),
    sources: RepairSources<'_>,
) -> Vec<ParityStep> {
    let objects = Objects::new(Arc::new(store.clone()));
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_repair(&objects, sources, &context).unwrap();
    planned.steps().to_vec()
}

/// Returns a repository with four added keys: one of the repository, and three of its project.
fn with_keys() -> (MemoryBackend, TestRepo) {
    let (store, test_repo) = with_backups(1);
    for (grant, password) in [
        (Grant::Everything, &b"one"[..]),
        (of_project(&test_repo, Role::Full), b"two"),
        (of_project(&test_repo, Role::Write), b"three"),
        (of_project(&test_repo, Role::Verify), b"four"),
    ] {
        let observer = RecordingObserver::default();
        let added = test_repo
            .repository
            .add_key(grant, &key(password), &observer);
        added.unwrap();
    }
    (store, test_repo)
}

#[test]
fn missing_key_slots_settings_and_certificates_are_restored_and_removed_keys_are_not() {
    let (store, test_repo) = with_keys();
    let before = files(&store);
    let objects = before.keys().filter_map(ObjectRef::parse);
    let objects: Vec<_> = objects.filter(|(_, is_second)| *is_second).collect();
    let mut restored = HashSet::new();
    for (object, _) in objects {
        let store = store.copy();
        for name in [object.name(), object.copy_name()] {
            store.delete(&name).unwrap();
        }
        let steps = repair(&store);
        assert!(steps.len() == 1 && steps[0].1, "{object}: {steps:?}");
        let is_key = object.kind() == ObjectKind::Key;
        assert_eq!(steps[0].0.may_be_removed, is_key, "{object}");
        is_restored(&store, &before, &object.to_string());
        restored.insert(object.kind());
    }
    for kind in [
        ObjectKind::Key,
        ObjectKind::Settings,
        ObjectKind::Certificate,
    ] {
        assert!(restored.contains(&kind), "{restored:?}");
    }

    let replica = store.copy();
    for removed in other_keys(&test_repo) {
        let observer = RecordingObserver::default();
        test_repo
            .repository
            .remove_key(&removed, &observer)
            .unwrap();
    }
    let replica = Objects::new(Arc::new(replica));
    for parity in [false, true] {
        let sources = RepairSources {
            parity,
            replica: Some(&replica),
        };
        assert!(planned(&store, sources).is_empty());
    }
    assert!(planned(&store, WITH_PARITY).is_empty());
    assert!(other_keys(&test_repo).is_empty());
}

#[test]
fn a_key_that_an_interrupted_command_did_not_store_is_not_reported_again_and_again() {
    let (content, _) = with_backups(1);
    for n in 1.. {
        let store = FaultBackend::holding(&content);
        let observer = RecordingObserver::default();
        let test_repo = TestRepo::open(store.clone(), &observer).unwrap();
        store.set_plan(Plan::at_write(n, Fault::Die(Moment::After)));
        let grant = of_project(&test_repo, Role::Write);
        let added = test_repo.repository.add_key(grant, &key(b"two"), &observer);
        let is_planned = store.is_planned();
        assert_eq!(added.is_ok(), is_planned, "write {n}");
        let crashed = store.crash();
        for (step, whole) in repair(&crashed) {
            assert!(whole, "write {n}: {step:?}");
        }
        let test_repo = TestRepo::open(crashed.clone(), &observer).unwrap();
        Host::without_cache().check_clean(&test_repo, &format!("write {n}"));
        let again = planned(&crashed, WITH_PARITY);
        assert!(again.is_empty(), "write {n}: {again:?}");
        if is_planned {
            return;
        }
    }
}

#[test]
fn an_interrupted_removal_is_reported_and_parity_does_not_undo_it() {
    let (content, _) = with_keys();
    for number in 0..4 {
        for n in 1.. {
            let when = format!("key {number}, write {n}");
            let store = FaultBackend::holding(&content);
            let observer = RecordingObserver::default();
            let test_repo = TestRepo::open(store.clone(), &observer).unwrap();
            let removed = &other_keys(&test_repo)[number];
            let slot = slot_of(removed);
            store.set_plan(Plan::at_write(n, Fault::Die(Moment::Before)));
            let result = test_repo.repository.remove_key(removed, &observer);
            if store.is_planned() {
                result.unwrap();
                assert_eq!(n, 6, "{when}");
                break;
            }
            let crashed = store.crash();
            if crashed.size(&slot.copy_name()).is_err() {
                assert!(planned(&crashed, WITH_PARITY).is_empty(), "{when}");
                continue;
            }
            let has_first = crashed.size(&slot.name()).is_ok();
            let whole = Objects::new(Arc::new(content.copy()));
            for (parity, replica) in [
                (false, None),
                (true, None),
                (false, Some(&whole)),
                (true, Some(&whole)),
            ] {
                let steps = planned(&crashed, RepairSources { parity, replica });
                let copied = ParityStep {
                    object: slot,
                    action: ParityAction::Copy,
                    may_be_removed: true,
                };
                let expected = if has_first { vec![] } else { vec![copied] };
                assert_eq!(steps, expected, "{when}");
            }
            // The command that was interrupted can be repeated.
            let test_repo = TestRepo::open(crashed.clone(), &observer).unwrap();
            assert_eq!(other_keys(&test_repo).len(), 4, "{when}");
            let again = &other_keys(&test_repo)[number];
            test_repo.repository.remove_key(again, &observer).unwrap();
            assert!(repair(&crashed).is_empty(), "{when}");
            assert_eq!(other_keys(&test_repo).len(), 3, "{when}");
        }
    }
}

#[test]
fn a_prune_keeps_the_parity_of_missing_key_slots_settings_and_certificates() {
    let (store, test_repo) = with_keys();
    let before = files(&store);
    store.age(Duration::from_hours(25));
    let directory = ObjectRef::Project(test_repo.project.id).directory();
    let mut missing = before.keys().filter_map(ObjectRef::parse);
    let slot = missing.find(|(object, _)| {
        object.kind() == ObjectKind::Key && object.directory().starts_with(&directory)
    });
    let (slot, _) = slot.unwrap();
    for name in [slot.name(), slot.copy_name()] {
        store.delete(&name).unwrap();
    }
    let host = Host::without_cache();
    let (options, context) = (options(), host.context());
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    planned.unwrap().run().unwrap();
    let steps = repair(&store);
    assert!(steps.len() == 1 && steps[0].1, "{steps:?}");
    assert_eq!(steps[0].0.object, slot);
    for name in [slot.name(), slot.copy_name()] {
        assert!(files(&store)[&name] == before[&name], "{name}");
    }
}

#[test]
fn parity_that_is_stored_while_a_key_is_removed_does_not_stay() {
    let (store, test_repo) = with_keys();
    let removed = other_keys(&test_repo).remove(0);
    let slot = slot_of(&removed);
    let bytes = store.get(&slot.name(), 1 << 20).unwrap();
    let observer = RecordingObserver::default();
    test_repo
        .repository
        .remove_key(&removed, &observer)
        .unwrap();
    // A process that adds parity has read the slot before the removal.
    let objects = &test_repo.project.objects;
    objects.protect_existing(slot, &bytes).unwrap();
    assert!(repair(&store).is_empty());
    objects.put_twice(slot, &bytes).unwrap();
    objects.protect_existing(slot, &bytes).unwrap();
    for name in [slot.name(), slot.copy_name()] {
        store.delete(&name).unwrap();
    }
    assert_eq!(
        repair(&store).len(),
        1,
        "the parity of an existing key was kept"
    );
}

/// Returns the names of the files that belong to a key slot.
fn files_of(store: &impl Backend, slot: ObjectRef) -> Vec<Name> {
    let hash = slot.hash().unwrap().to_string();
    let names = files(store).into_keys();
    names.filter(|name| name.as_str().contains(&hash)).collect()
}

/// A store that runs `other` before the call to which `set` counts down.
fn interrupted(
    store: &MemoryBackend,
    other: impl Fn() + Send + Sync + 'static,
) -> (Intercepted, Arc<AtomicI64>) {
    let calls = Arc::new(AtomicI64::new(0));
    let left = Arc::clone(&calls);
    let store = Intercepted::new(store, move |_, _| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            other();
        }
        Ok(())
    });
    (store, calls)
}

/// A store with keys, one of which lacks some of its files. Returns this key, too.
fn with_damaged_key(content: &MemoryBackend, lost: [bool; 3]) -> (MemoryBackend, KeySummary) {
    let store = content.copy();
    let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
    let key = other_keys(&test_repo).remove(1);
    let slot = slot_of(&key);
    let [first, second, parity] = lost;
    for name in files_of(&store, slot) {
        let is_lost = if name == slot.name() {
            first
        } else if name == slot.copy_name() {
            second
        } else {
            parity
        };
        if is_lost {
            store.delete(&name).unwrap();
        }
    }
    (store, key)
}

/// What key slots can lack before a repair stores them again: the first copy, the second one, and
/// the parity.
const LOST: [[bool; 3]; 5] = [
    [true, true, false],
    [true, false, false],
    [true, false, true],
    [false, true, false],
    [false, true, true],
];

#[test]
fn a_key_does_not_come_back_if_a_repair_runs_while_it_is_removed() {
    let (content, _) = with_keys();
    for lost in LOST {
        for call in 1.. {
            let when = format!("{lost:?}, call {call}");
            let (store, key) = with_damaged_key(&content, lost);
            let slot = slot_of(&key);
            let other = store.clone();
            let (intercepted, calls) = interrupted(&store, move || {
                repair(&other);
            });
            let objects = Objects::new(Arc::new(intercepted));
            calls.store(call, Ordering::Relaxed);
            objects.delete_twice(slot).unwrap();
            assert!(files_of(&store, slot).is_empty(), "{when}");
            if calls.load(Ordering::Relaxed) > 0 {
                assert!(call > 5, "{when}");
                break;
            }
        }
    }
}

#[test]
fn damaged_parity_of_a_missing_key_slot_is_removed_unless_another_repository_has_the_slot() {
    let (content, test_repo) = with_keys();
    let whole = Objects::new(Arc::new(content.copy()));
    for key in other_keys(&test_repo) {
        let store = content.copy();
        let slot = slot_of(&key);
        for name in files_of(&store, slot) {
            if name == slot.name() || name == slot.copy_name() {
                store.delete(&name).unwrap();
                continue;
            }
            let mut bytes = store.get(&name, 1 << 20).unwrap();
            bytes[100..].iter_mut().for_each(|byte| *byte ^= 0xff);
            store.put(&name, &[&bytes]).unwrap();
        }
        let from_replica = planned(
            &store,
            RepairSources {
                replica: Some(&whole),
                ..WITH_PARITY
            },
        );
        let actions: Vec<_> = from_replica.iter().map(|step| &step.action).collect();
        assert_eq!(actions, [&ParityAction::Fetch, &ParityAction::Rebuild]);
        let steps = repair(&store);
        let done: Vec<_> = steps.iter().map(|(s, done)| (&s.action, *done)).collect();
        let expected = [
            (&ParityAction::BeyondRepair, false),
            (&ParityAction::RemoveUseless, true),
        ];
        assert_eq!(done, expected);
        let left = files_of(&store, slot);
        assert!(left.len() == 1 && left[0].as_str().starts_with("quarantine/"));
        assert!(planned(&store, WITH_PARITY).is_empty());
    }
}
