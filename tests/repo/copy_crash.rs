//! The store of the source or of the target crashes or fails during a copy. The target stays whole.
//! The next copy completes the work, and copies no backup twice.

use std::collections::BTreeSet;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::ops::OpsError;
use cuttlebone::storage::{Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind};

use super::copy::{all, copy_options, copy_with, new_repo};
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

fn image(seed: u64) -> Image {
    Image::new(LEAF)
        .with(0, &noise(1, CHUNK))
        .with(2 * CHUNK as u64, &noise(seed, CHUNK))
}

/// Returns the stores of the source and of the target. The source has three backups. The target has
/// a copy of the first one.
fn stores() -> (MemoryBackend, MemoryBackend) {
    let (source_store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "disk", &image(2)).unwrap();
    let (target_store, target) = new_repo(CHUNK);
    copy(&host, &source, &all(&source), &target).unwrap();
    for seed in [3, 4] {
        host.back_up(&source, "disk", &image(seed)).unwrap();
    }
    for store in [&source_store, &target_store] {
        store.age(Duration::from_hours(1));
    }
    (source_store, target_store)
}

/// Copies the backups `ids`. Fails if one of them cannot be copied.
fn copy(
    host: &Host,
    source: &TestRepo,
    ids: &[ObjectHash],
    target: &TestRepo,
) -> Result<(), OpsError> {
    let copied = copy_with(host, source, ids, target, &copy_options())?;
    copied
        .into_iter()
        .try_for_each(|(_, copied)| copied.map(drop))
}

/// Asserts that all copies are whole, and that no backup was copied twice. Returns the number of
/// copies.
#[track_caller]
fn copies(target: &TestRepo, source: &TestRepo, when: &str) -> usize {
    let host = Host::without_cache();
    host.check_clean(target, when);
    let copies = target.backups();
    let originals: BTreeSet<_> = copies
        .iter()
        .map(|copy| copy.record.original.unwrap())
        .collect();
    assert_eq!(originals.len(), copies.len(), "{when}");
    for copy in &copies {
        let original = source.backup(copy.record.original.unwrap());
        let restored = host.restore_image(target, copy).unwrap();
        assert!(
            restored == host.restore_image(source, &original).unwrap(),
            "{when}"
        );
    }
    copies.len()
}

fn open(store: &FaultBackend) -> Result<TestRepo, OpsError> {
    Ok(TestRepo::open(store.clone(), &Silent)?)
}

/// Copies with `fault` in one of the stores, until a copy ends before its fault occurs. `plan(n)`
/// places the fault of the n-th copy. Returns the number of copies in which the fault occurred.
fn sweep(in_target: bool, fault: Fault, plan: impl Fn(u64) -> Plan) -> u64 {
    let (source_base, target_base) = stores();
    for n in 1.. {
        let side = if in_target { "target" } else { "source" };
        let when = format!("{fault:?} at {n} in the {side}");
        let source_store = FaultBackend::holding(&source_base);
        let target_store = FaultBackend::holding(&target_base);
        let mut host = Host::with_cache();
        host.threads = 1;
        let faulty = if in_target {
            &target_store
        } else {
            &source_store
        };
        let (source, target) = (open(&source_store).unwrap(), open(&target_store).unwrap());
        let ids = all(&source);
        faulty.set_plan(plan(n));
        let copied = copy(&host, &source, &ids, &target);
        if faulty.is_planned() {
            copied.unwrap();
            return n - 1;
        }
        let (source_store, target_store) = (source_store.crash(), target_store.crash());
        let (source, target) = (open(&source_store).unwrap(), open(&target_store).unwrap());
        let found = copies(&target, &source, &when);
        assert!((1..=3).contains(&found), "{when}: {found}");
        assert!(copied.is_err() || found == 3, "{when}: {found}");
        target_store.age(Duration::from_mins(11));
        copy(&host, &source, &ids, &target).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        assert_eq!(copies(&target, &source, &when), 3, "{when}");
    }
    unreachable!()
}

#[test]
fn a_copy_survives_a_fault_of_the_target_at_any_write() {
    for fault in [
        Fault::Die(Moment::Before),
        Fault::Die(Moment::After),
        Fault::Tear,
        Fault::Fail(StorageErrorKind::Full),
    ] {
        let runs = sweep(true, fault, |n| Plan::at_write(n, fault));
        assert!(runs > 12, "{runs} runs are too few for a meaningful test");
    }
}

#[test]
fn a_copy_survives_a_fault_of_the_target_at_any_call() {
    let fault = Fault::Fail(StorageErrorKind::Io);
    let runs = sweep(true, fault, |n| Plan::at(n, fault));
    assert!(runs > 40, "{runs} runs are too few for a meaningful test");
}

#[test]
fn a_copy_survives_a_fault_of_the_source_at_any_call() {
    let fault = Fault::Die(Moment::Before);
    let runs = sweep(false, fault, |n| Plan::at(n, fault));
    assert!(runs > 15, "{runs} runs are too few for a meaningful test");
}
