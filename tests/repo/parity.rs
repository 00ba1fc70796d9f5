//! Repositories with parity: damage of every object, damage beyond the parity, crashes, and prunes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cuttlebone::base::{ObjectHash, ParityRate, Silent};
use cuttlebone::crypto::object_hash;
use cuttlebone::ops::{self, MaxUnused, ParityAction, ParityStep, PruneOptions, RepairSources};
use cuttlebone::repo::{ObjectKind, ObjectRef, Objects, RepoError, parity_of};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Name, Plan, StorageErrorKind,
    StorageOperation,
};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, key, noise};

/// The sources of a repair: parity and second copies, but no replica.
pub(super) const WITH_PARITY: RepairSources<'static> = RepairSources {
    parity: true,
    replica: None,
};

pub(super) fn rate() -> Option<ParityRate> {
    ParityRate::new(5)
}

fn page(number: u64) -> Image {
    Image::new(LEAF).with(0, &noise(number, 9000))
}

pub(super) fn with_backups(count: u64) -> (MemoryBackend, TestRepo) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init_with(store.clone(), CHUNK, rate()).unwrap();
    let host = Host::with_cache();
    for number in 0..count {
        let volume = format!("volume {number}");
        host.back_up(&test_repo, &volume, &page(number)).unwrap();
    }
    ops::head(&test_repo.project, None, &host.context()).unwrap();
    (store, test_repo)
}

/// Returns all files of a store.
pub(super) fn files(store: &impl Backend) -> BTreeMap<Name, Vec<u8>> {
    let listed = store.list("").unwrap().into_iter();
    let read = listed.map(|info| {
        let bytes = store.get(&info.name, 1 << 30).unwrap();
        (info.name, bytes)
    });
    read.collect()
}

fn is_parity(name: &Name) -> bool {
    name.as_str().contains("parity/")
}

/// Plans a repair, and runs it. Returns each step, and whether its object is whole now.
pub(super) fn repair(store: &(impl Backend + Clone + 'static)) -> Vec<(ParityStep, bool)> {
    let objects = Objects::new(Arc::new(store.clone()));
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_repair(&objects, WITH_PARITY, &context).unwrap();
    let mut steps = Vec::new();
    planned
        .run(&mut |step, whole| steps.push((step.clone(), whole)))
        .unwrap();
    steps
}

/// Verifies that every object that parity can protect has parity.
fn all_have_parity(store: &(impl Backend + Clone + 'static), test_repo: &TestRepo, when: &str) {
    let objects = Objects::new(Arc::new(store.clone()));
    for project in [None, Some(test_repo.project.id)] {
        let state = ops::parity_state(&objects, project).unwrap();
        assert!(state.missing.is_empty(), "{when}: {:?}", state.missing);
        assert!(!state.protected.is_empty(), "{when}");
    }
}

/// Verifies that the store has exactly these files again. Ignores files in `quarantine/`.
pub(super) fn is_restored(store: &impl Backend, before: &BTreeMap<Name, Vec<u8>>, when: &str) {
    let mut after = files(store);
    after.retain(|name, _| !name.as_str().starts_with("quarantine/"));
    let names: Vec<_> = after.keys().collect();
    assert_eq!(names, before.keys().collect::<Vec<_>>(), "{when}");
    for (name, bytes) in before {
        assert!(after[name] == *bytes, "{when}: {name}");
    }
}

pub(super) fn options() -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: true,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    }
}

/// A function that damages the bytes of an object.
type Damage = fn(&mut Vec<u8>);

fn halves(bytes: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes.split_at_mut(middle)
}

#[test]
fn parity_restores_every_object_after_each_kind_of_damage() {
    let (store, test_repo) = with_backups(2);
    all_have_parity(&store, &test_repo, "after two backups");
    Host::without_cache().check_clean(&test_repo, "with parity");
    assert!(repair(&store).is_empty());
    let before = files(&store);
    let damages: [(&str, Damage); 6] = [
        ("flip", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }),
        ("zeros", |bytes| {
            let end = bytes.len().min(4096);
            bytes[..end].fill(0);
        }),
        ("cut short", |bytes| bytes.truncate(bytes.len() / 2)),
        ("emptied", Vec::clear),
        ("extended", |bytes| bytes.extend_from_slice(&[1; 100])),
        ("exchanged", |bytes| {
            let (first, second) = halves(bytes);
            let len = first.len().min(32);
            first[..len].swap_with_slice(&mut second[..len]);
        }),
    ];
    for (when, damage) in damages {
        let store = store.copy();
        for (name, bytes) in &before {
            let mut without = ["/leases/", "/marks/", "/ledger/"].iter();
            let is_protected = !without.any(|part| name.as_str().contains(part));
            if !is_parity(name) && is_protected {
                let mut bytes = bytes.clone();
                damage(&mut bytes);
                store.put(name, &[&bytes]).unwrap();
            }
        }
        let steps = repair(&store);
        assert!(!steps.is_empty(), "{when}");
        for (step, whole) in steps {
            assert!(whole, "{when}: {step:?}");
        }
        is_restored(&store, &before, when);
        let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
        Host::without_cache().check_clean(&test_repo, when);
    }
}

#[test]
fn a_repair_replaces_damaged_parity_and_works_despite_a_flipped_bit_in_it() {
    let (store, _) = with_backups(1);
    let before = files(&store);
    let parity = || before.iter().filter(|(name, _)| is_parity(name));
    for at in [0, 20, 100, 300] {
        let store = store.copy();
        for (name, bytes) in parity() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            store.put(name, &[&bytes]).unwrap();
        }
        // Damage the packs of chunks at the same time.
        for (name, bytes) in before
            .iter()
            .filter(|(name, _)| name.as_str().contains("/packs/"))
        {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            store.put(name, &[&bytes]).unwrap();
        }
        for (step, whole) in repair(&store) {
            assert!(whole, "{at}: {step:?}");
        }
        is_restored(&store, &before, "flips in all parity");
    }
    let lost = store.copy();
    for (name, _) in parity() {
        lost.put(name, &[b"nothing of it is left"]).unwrap();
    }
    for (step, whole) in repair(&lost) {
        assert!(whole, "{step:?}");
        assert_eq!(step.action, ParityAction::Rebuild);
    }
    is_restored(&lost, &before, "parity that was replaced");
}

#[test]
fn damage_beyond_the_parity_is_reported_and_its_repair_changes_nothing() {
    let (store, test_repo) = with_backups(1);
    let packs = ObjectKind::Pack.directory(test_repo.project.id);
    let pack = store.list(&packs).unwrap().remove(0).name;
    let directory = format!("projects/{}/parity", test_repo.project.id);
    for info in store.list(&directory).unwrap() {
        if info.name.last().starts_with(pack.last()) {
            let bytes = store.get(&info.name, 1 << 20).unwrap();
            // Keep only the beginning of the parity object.
            store.put(&info.name, &[&bytes[..500]]).unwrap();
        }
    }
    store.put(&pack, &[b"the rest is gone"]).unwrap();
    let before = files(&store);
    let steps = repair(&store);
    assert_eq!(steps.len(), 2, "{steps:?}");
    for (step, whole) in steps {
        assert_eq!(step.action, ParityAction::BeyondRepair);
        assert!(!whole);
    }
    assert!(files(&store) == before);
    // If the object has no parity, the repair reports this.
    for info in store.list(&directory).unwrap() {
        store.delete(&info.name).unwrap();
    }
    let steps = repair(&store);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].0.action, ParityAction::NoParity);
}

#[test]
fn a_repair_that_is_killed_at_any_write_makes_nothing_worse_and_the_next_one_completes_it() {
    let (original, test_repo) = with_backups(1);
    let before = files(&original);
    let kinds = ["/packs/", "/backups/", "/keys/", "parity/"];
    let is_damaged = |name: &Name| kinds.iter().any(|kind| name.as_str().contains(kind));
    for (name, bytes) in before.iter().filter(|(name, _)| is_damaged(name)) {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        original.put(name, &[&bytes]).unwrap();
    }
    drop(test_repo);
    let damaged = files(&original);
    let mut n = 1;
    loop {
        let store = FaultBackend::holding(&original);
        store.set_plan(Plan::at_write(n, Fault::Die(Moment::After)));
        let objects = Objects::new(Arc::new(store.clone()));
        let host = Host::without_cache();
        let context = host.context();
        let planned = ops::plan_repair(&objects, WITH_PARITY, &context).unwrap();
        let result = planned.run(&mut |_, _| {});
        let is_planned = store.is_planned();
        assert_eq!(result.is_ok(), is_planned, "write {n}");
        let crashed = store.crash();
        for (name, bytes) in &damaged {
            let now = crashed.get(name, 1 << 30).unwrap();
            assert!(now == *bytes || now == before[name], "write {n}: {name}");
        }
        for (step, whole) in repair(&crashed) {
            assert!(whole, "write {n}: {step:?}");
        }
        is_restored(&crashed, &before, &format!("write {n}"));
        if is_planned {
            return;
        }
        n += 1;
    }
}

#[test]
fn forged_parity_never_replaces_an_object_by_other_bytes() {
    let (store, test_repo) = with_backups(1);
    let packs = ObjectKind::Pack.directory(test_repo.project.id);
    let pack = store.list(&packs).unwrap().remove(0).name;
    let of: ObjectHash = pack.last().parse().unwrap();
    // A thief stores parity objects that state the hash of the pack. They are parity of other
    // bytes, even of the bytes that will be in the file. So all hashes of their shards are right.
    let mut names = Vec::new();
    for bytes in [&noise(9, 9000)[..], b"damaged"] {
        let forged = parity_of(ObjectKind::Pack, of, &[bytes], rate().unwrap()).unwrap();
        let hash = object_hash(&[&forged]);
        let project = Some(test_repo.project.id);
        let name = ObjectRef::Parity(project, of, hash).name();
        store.put(&name, &[&forged]).unwrap();
        names.push(name);
    }
    let good = files(&store);
    store.put(&pack, &[b"damaged"]).unwrap();
    for (step, whole) in repair(&store) {
        assert!(whole, "{step:?}");
    }
    is_restored(&store, &good, "forged parity and genuine parity");
    for info in store
        .list(&format!("projects/{}/parity", test_repo.project.id))
        .unwrap()
    {
        if info.name.last().starts_with(pack.last()) && !names.contains(&info.name) {
            store.delete(&info.name).unwrap();
        }
    }
    store.put(&pack, &[b"damaged"]).unwrap();
    let steps = repair(&store);
    assert_eq!(steps[0].0.action, ParityAction::BeyondRepair, "{steps:?}");
    assert_eq!(store.get(&pack, 100).unwrap(), b"damaged");
}

#[test]
fn a_missing_object_that_the_log_requires_is_restored() {
    let (store, test_repo) = with_backups(1);
    let good = files(&store);
    let backups = ObjectKind::Backup.directory(test_repo.project.id);
    let record = store.list(&backups).unwrap().remove(0).name;
    store.delete(&record).unwrap();
    let steps = repair(&store);
    assert!(steps.len() == 1 && steps[0].1, "{steps:?}");
    is_restored(&store, &good, "a deleted record");
}

#[test]
fn a_new_key_slot_has_parity_and_removing_a_slot_also_deletes_its_parity_and_quarantined_files() {
    let (store, test_repo) = with_backups(1);
    let added = test_repo.repository.add_key(
        cuttlebone::repo::Grant::Everything,
        &key(b"another"),
        &RecordingObserver::default(),
    );
    let slot = ObjectRef::Key(None, added.unwrap());
    all_have_parity(&store, &test_repo, "after a key was added");
    for (name, damage) in [(slot.name(), b"one"), (slot.copy_name(), b"two")] {
        store.put(&name, &[damage]).unwrap();
    }
    let steps = repair(&store);
    assert!(steps.len() == 1 && steps[0].1, "{steps:?}");
    let hash = slot.hash().unwrap().to_string();
    let of_slot = |store: &dyn Backend| {
        let listed = store.list("").unwrap().into_iter();
        let names = listed.map(|info| info.name.as_str().to_owned());
        names
            .filter(|name| name.contains(&hash))
            .collect::<Vec<_>>()
    };
    // These are both copies, the parity, and the two damaged files in `quarantine/`.
    assert_eq!(of_slot(&store).len(), 5);
    for n in 1..=5 {
        let store = FaultBackend::holding(&store);
        store.set_plan(Plan::at_write(n, Fault::Die(Moment::Before)));
        let objects = Objects::new(Arc::new(store.clone()));
        objects.delete_twice(slot).unwrap_err();
        // The key still opens the repository, so the user can try again to remove it.
        let left = of_slot(&store.crash());
        let has = |name: Name| left.contains(&name.as_str().to_owned());
        assert!(has(slot.copy_name()), "{n}: {left:?}");
        assert!(has(slot.name()) || left.len() == 1, "{n}: {left:?}");
    }
    let objects = Objects::new(Arc::new(store.clone()));
    objects.delete_twice(slot).unwrap();
    assert!(of_slot(&store).is_empty(), "{:?}", of_slot(&store));
    assert!(repair(&store).is_empty());
}

#[test]
fn a_damaged_copy_is_replaced_by_the_other_copy_and_only_damaged_files_are_moved() {
    let (store, _) = with_backups(1);
    let before = files(&store);
    let twice = before
        .keys()
        .filter(|name| ObjectRef::parse(name).is_some_and(|(_, is_second)| is_second));
    let mut damaged = Vec::new();
    for copy in twice {
        let missing = store.copy();
        missing.delete(copy).unwrap();
        let steps = repair(&missing);
        assert!(steps.len() == 1 && steps[0].1, "{copy}: {steps:?}");
        is_restored(&missing, &before, "a missing copy");
        let first = Name::new(copy.as_str().trim_end_matches(".copy")).unwrap();
        for name in [copy, &first] {
            let store = store.copy();
            let mut bytes = before[name].clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            store.put(name, &[&bytes]).unwrap();
            let steps = repair(&store);
            assert!(steps.len() == 1 && steps[0].1, "{name}: {steps:?}");
            assert_eq!(steps[0].0.action, ParityAction::Copy, "{name}");
            is_restored(&store, &before, name.as_str());
            let kept = store.list("quarantine").unwrap();
            assert_eq!(kept.len(), 1, "{name}");
            assert!(
                store.get(&kept[0].name, 1 << 20).unwrap() == bytes,
                "{name}"
            );
            damaged.push(name.clone());
        }
    }
    assert!(damaged.len() >= 6, "{damaged:?}");
}

#[test]
fn a_prune_keeps_the_parity_of_an_object_that_is_missing_by_mistake() {
    let (store, test_repo) = with_backups(1);
    let before = files(&store);
    let objects = Objects::new(Arc::new(store.clone()));
    let host = Host::without_cache();
    let segments = ObjectKind::Index.directory(test_repo.project.id);
    let missing = store.list(&segments).unwrap().remove(0).name;
    store.delete(&missing).unwrap();
    store.age(Duration::from_hours(50));
    let context = host.context();
    // The prune may also refuse to run, and then deletes nothing.
    let options = options();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    drop(planned.and_then(ops::Prune::run));
    let of = missing.last().parse().unwrap();
    let project = Some(test_repo.project.id);
    assert_eq!(objects.parity_objects(project, of).unwrap().len(), 1);
    repair(&store);
    assert!(store.get(&missing, 1 << 20).unwrap() == before[&missing]);
}

#[test]
fn a_backup_that_is_killed_at_any_write_leaves_no_object_without_parity() {
    let (content, _) = with_backups(1);
    let mut n = 1;
    loop {
        let store = FaultBackend::holding(&content);
        let host = Host::with_cache();
        let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
        store.set_plan(Plan::at_write(n, Fault::Die(Moment::After)));
        let made = host.back_up(&test_repo, "next", &page(50));
        let is_planned = store.is_planned();
        let crashed = store.crash();
        let test_repo = TestRepo::open(crashed.clone(), &RecordingObserver::default()).unwrap();
        all_have_parity(&crashed, &test_repo, &format!("write {n}"));
        host.check_clean(&test_repo, &format!("write {n}"));
        host.back_up(&test_repo, "next", &page(50)).unwrap();
        all_have_parity(&crashed, &test_repo, &format!("after write {n}"));
        assert!(repair(&crashed).is_empty());
        if is_planned {
            assert!(made.is_ok());
            return;
        }
        n += 1;
    }
}

#[test]
fn a_backup_fails_if_the_disk_is_full_while_it_stores_parity_and_the_next_one_succeeds() {
    let (content, _) = with_backups(1);
    let store = FaultBackend::holding(&content);
    let host = Host::with_cache();
    let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
    let full = Fault::Fail(cuttlebone::storage::StorageErrorKind::Full);
    store.set_plan(Plan::at_put_below("parity", 1, full));
    host.back_up(&test_repo, "next", &page(51))
        .map(|_| ())
        .unwrap_err();
    assert!(!store.is_planned());
    host.check_clean(&test_repo, "after a full disk");
    host.back_up(&test_repo, "next", &page(51)).unwrap();
    all_have_parity(&store, &test_repo, "after the next backup");
}

#[test]
fn a_prune_deletes_the_parity_of_deleted_objects_and_keeps_the_rest() {
    let (store, test_repo) = with_backups(20);
    let host = Host::without_cache();
    let options = options();
    let unneeded = || {
        let objects = Objects::new(Arc::new(store.clone()));
        let state = ops::parity_state(&objects, Some(test_repo.project.id)).unwrap();
        state.unneeded.len()
    };
    // The prune cannot know whether this parity is of an object that is being stored.
    let young = parity_of(
        ObjectKind::Pack,
        object_hash(&[b"being stored"]),
        &[b"being stored"],
        rate().unwrap(),
    );
    let young = young.unwrap();
    let of = object_hash(&[b"being stored"]);
    let project = Some(test_repo.project.id);
    store.age(Duration::from_hours(1));
    let young_name = ObjectRef::Parity(project, of, object_hash(&[&young])).name();
    store.put(&young_name, &[&young]).unwrap();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    let report = planned.unwrap().run().unwrap();
    assert!(report.merged.packs > 0, "{report:?}");
    assert_eq!(
        unneeded(),
        1,
        "only the parity of an object that is being stored stays"
    );
    all_have_parity(&store, &test_repo, "after a prune");
    host.check_clean(&test_repo, "after a prune");
    store.age(Duration::from_hours(25));
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    planned.unwrap().run().unwrap();
    assert_eq!(unneeded(), 0);
    all_have_parity(&store, &test_repo, "after another prune");
}

#[test]
fn parity_can_be_added_later_and_adding_it_continues_after_a_failure() {
    let store = FaultBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    host.back_up(&test_repo, "volume", &page(1)).unwrap();
    store.set_plan(Plan::at_put_below("parity", 4, Fault::Die(Moment::Before)));
    ops::add_parity(&test_repo.project, rate(), &host.context()).unwrap_err();
    let store = store.crash();
    let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
    assert_eq!(test_repo.project.settings.parity_rate(), rate());
    let added = ops::add_parity(&test_repo.project, rate(), &host.context()).unwrap();
    assert!(added.added > 0 && added.damaged == 0, "{added:?}");
    all_have_parity(&store, &test_repo, "after parity was set");
    let again = ops::add_parity(&test_repo.project, rate(), &host.context()).unwrap();
    assert_eq!((again.added, again.kept), (0, added.added + added.kept));
    host.check_clean(&test_repo, "after parity was set");
    host.back_up(&test_repo, "volume", &page(2)).unwrap();
    all_have_parity(&store, &test_repo, "after the next backup");
    let none = ops::add_parity(&test_repo.project, None, &host.context()).unwrap();
    assert_eq!(none.added, 0);
}

#[test]
fn a_change_of_settings_takes_effect_even_if_another_process_changes_them_at_the_same_time() {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let percent = ParityRate::new;
    for attempt in 0..8 {
        // Both processes have read the same settings.
        let open = || TestRepo::open(store.clone(), &Silent).unwrap().project;
        let (one, other) = (open(), open());
        other.set_parity(percent(1 + attempt)).unwrap();
        let set = one.set_parity(percent(20 + attempt)).unwrap();
        assert_eq!(set.settings.parity_rate(), percent(20 + attempt));
        assert_eq!(open().settings, set.settings, "{attempt}");
    }
    // The process `other` stores its settings after `one` has read the latest settings.
    for attempt in 0..8 {
        let other = TestRepo::open(store.clone(), &Silent).unwrap().project;
        let waiting = Mutex::new(Some(other));
        let busy = Intercepted::new(&store, move |operation, name| {
            if operation == StorageOperation::Put
                && name.contains("/settings/")
                && let Some(other) = waiting.lock().unwrap().take()
            {
                other.set_parity(percent(1 + attempt)).unwrap();
            }
            Ok(())
        });
        let one = TestRepo::open(busy, &Silent).unwrap().project;
        one.set_parity(percent(30 + attempt)).unwrap();
        let valid = TestRepo::open(store.clone(), &Silent).unwrap().project;
        assert_eq!(valid.settings.parity_rate(), percent(30 + attempt));
    }
}

#[test]
fn settings_that_do_not_become_valid_are_an_error() {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let known = files(&store);
    let hides = Intercepted::new(&store, move |operation, name| {
        let is_new = known.keys().all(|known| known.as_str() != name);
        if operation == StorageOperation::Get && name.contains("/settings/") && is_new {
            Err(StorageErrorKind::NotFound)
        } else {
            Ok(())
        }
    });
    let project = TestRepo::open(hides, &Silent).unwrap().project;
    let set = project.set_parity(ParityRate::new(7)).err();
    assert!(
        matches!(set, Some(RepoError::SettingsNotChanged { .. })),
        "{set:?}"
    );
}
