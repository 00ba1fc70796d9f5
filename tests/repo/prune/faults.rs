//! Prunes on a store that fails at any call, once or for good.

use std::time::Duration;

use cuttlebone::format::BlobKind;
use cuttlebone::ops::{self, MaxUnused};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind,
};

use super::{
    EXPIRED, GRACE, Series, assert_tidy, forget, leave_unnamed_packs, limits, losses, merging,
    open, packs, prune,
};
use crate::repo::{CHUNK, Host, Image, LEAF, noise};

/// The grace period of a prune, and whether the prune merges small packs.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    grace: Duration,
    merges: bool,
}

/// Prunes with this fault, crashes, and checks the store. Returns whether the fault occurred.
fn crash_once(series: &Series, base: &MemoryBackend, sweep: Sweep, plan: Plan) -> bool {
    let Sweep { grace, merges } = sweep;
    let when = format!("{plan:?}, {sweep:?}");
    let faulty = FaultBackend::holding(base);
    let mut host = Host::without_cache();
    host.threads = 1;
    let test_repo = open(&faulty);
    let backups = test_repo.backups().len();
    faulty.set_plan(plan);
    let mut options = limits(grace, MaxUnused::Bytes(0));
    if merges {
        options = merging(options);
    }
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    let _ = planned.and_then(ops::Prune::run);
    if faulty.is_planned() {
        return false;
    }
    drop(test_repo);
    let store = faulty.crash();
    let test_repo = open(&store);
    assert_eq!(test_repo.backups().len(), backups, "{when}");
    series.assert_restores(&test_repo, &when);
    // A new backup can use the remaining chunks.
    let other = Image::new(LEAF)
        .with(0, &noise(2, 2 * CHUNK))
        .with(LEAF / 2, &noise(99, CHUNK));
    let made = host.back_up(&test_repo, "other", &other).unwrap().id;
    assert!(
        host.restore_image(&test_repo, &test_repo.backup(made))
            .unwrap()
            == other,
        "{when}"
    );
    forget(&test_repo, &[made]);
    // The lease of the crashed prune expires, and the marks become due.
    for _ in 0..2 {
        store.age(EXPIRED.max(grace));
        prune(&test_repo, &host, grace).unwrap();
    }
    store.age(EXPIRED.max(grace));
    prune(&test_repo, &host, grace).unwrap();
    series.assert_restores(&test_repo, &when);
    assert_tidy(&test_repo, &store, &when);
    true
}

/// Makes a store with marked packs and with packs that no index segment names.
fn marked_and_unnamed(series: &Series) -> MemoryBackend {
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[1..2]);
    store.age(GRACE);
    prune(&test_repo, &host, GRACE).unwrap();
    let gone = leave_unnamed_packs(&test_repo, &store);
    forget(&test_repo, &[gone, ids[2]]);
    store.age(GRACE);
    store
}

/// A fault, and the function that plans it at the n-th call.
pub(super) type PlannedFault = (fn(u64, Fault) -> Plan, Fault);

/// Lets a prune fail at each of its calls in turn, with each of these faults.
fn sweep(grace: Duration, merges: bool, faults: &[PlannedFault]) {
    let series = Series::of(3);
    let base = marked_and_unnamed(&series);
    let sweep = Sweep { grace, merges };
    if merges {
        let test_repo = open(&base.copy());
        let options = merging(limits(grace, MaxUnused::Bytes(0)));
        let host = Host::without_cache();
        let context = host.context();
        let planned = ops::plan_prune(&test_repo.project, &options, true, &context).unwrap();
        assert!(planned.plan().merge.packs >= 8);
        planned.close();
    }
    for (plan_at, fault) in faults {
        let calls = (1..).take_while(|n| crash_once(&series, &base, sweep, plan_at(*n, *fault)));
        let calls = calls.count();
        assert!(calls >= 8, "{fault:?}: {calls} calls are too few");
    }
}

pub(super) const CRASHES: [PlannedFault; 2] = [
    (Plan::at, Fault::Die(Moment::Before)),
    (Plan::at, Fault::Die(Moment::After)),
];
pub(super) const FAILURES: [PlannedFault; 3] = [
    (Plan::at_write, Fault::Tear),
    (Plan::at_write, Fault::Fail(StorageErrorKind::Full)),
    (Plan::at_write, Fault::FailAfter(StorageErrorKind::Io)),
];

#[test]
fn a_store_that_fails_for_good_at_any_call_of_a_prune_loses_no_backup() {
    sweep(GRACE, false, &CRASHES);
}

#[test]
fn a_store_that_fails_for_good_at_any_call_of_a_prune_without_grace_loses_no_backup() {
    sweep(Duration::ZERO, false, &CRASHES);
}

#[test]
fn a_store_that_fails_any_write_of_a_prune_loses_no_backup() {
    sweep(GRACE, false, &FAILURES);
}

#[test]
fn a_store_that_fails_any_write_of_a_prune_without_grace_loses_no_backup() {
    sweep(Duration::ZERO, false, &FAILURES);
}

#[test]
fn a_store_that_fails_for_good_at_any_call_of_a_merging_prune_without_grace_loses_no_backup() {
    sweep(Duration::ZERO, true, &CRASHES);
}

#[test]
fn a_store_that_fails_any_write_of_a_merging_prune_loses_no_backup() {
    sweep(GRACE, true, &FAILURES);
}

#[test]
fn a_prune_that_fails_at_any_call_while_a_pack_is_missing_loses_nothing_else() {
    let series = Series::of(4);
    let (base, ids) = series.backed_up();
    let test_repo = open(&base);
    forget(&test_repo, &ids[1..2]);
    base.age(GRACE);
    prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    forget(&test_repo, &ids[2..3]);
    base.age(GRACE);
    let chunks = packs(&base).into_iter();
    let chunks = chunks.filter(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
    let lost = chunks.map(|pack| {
        let (name, left) = (pack.name(), base.copy());
        left.delete(&name).unwrap();
        (losses(&open(&left)), name)
    });
    let lost = lost.filter(|(lost, _)| !lost.is_empty());
    let (expected, missing) = lost.min_by_key(|(lost, _)| lost.len()).unwrap();
    let bytes = base.get(&missing, u64::MAX).unwrap();
    base.delete(&missing).unwrap();
    for (plan_at, fault) in CRASHES {
        let crashes = |n: &u64| {
            let plan = plan_at(*n, fault);
            let when = format!("{plan:?}");
            let faulty = FaultBackend::holding(&base);
            let mut host = Host::without_cache();
            host.threads = 1;
            let test_repo = open(&faulty);
            faulty.set_plan(plan);
            let _ = prune(&test_repo, &host, Duration::ZERO);
            if faulty.is_planned() {
                return false;
            }
            drop(test_repo);
            let store = faulty.crash();
            let test_repo = open(&store);
            assert_eq!(losses(&test_repo), expected, "{when}");
            store.age(EXPIRED);
            prune(&test_repo, &host, Duration::ZERO).unwrap();
            assert_eq!(losses(&test_repo), expected, "{when}");
            store.put(&missing, &[&bytes]).unwrap();
            for _ in 0..2 {
                store.age(EXPIRED);
                prune(&test_repo, &host, Duration::ZERO).unwrap();
            }
            series.assert_restores(&test_repo, &when);
            assert_tidy(&test_repo, &store, &when);
            true
        };
        let calls = (1..).take_while(crashes);
        let calls = calls.count();
        assert!(calls >= 8, "{fault:?}: {calls} calls are too few");
    }
}
