//! Forget removes only the selected backups and survives a crash at any call. Backups that vanish
//! without a forget are still reported.

use std::collections::{BTreeMap, BTreeSet};

use cuttlebone::base::{ObjectHash, VolumeId};
use cuttlebone::format::{BackupRecord, LogDetails, LogItem, LogKind};
use cuttlebone::ops::{self, Count, Finding, Forget, OpsError, Period, Policy, Rule};
use cuttlebone::repo::{
    Backup, Lease, Log, NewEntry, ObjectRef, RepoError, Work, Worker, removed_record,
};
use cuttlebone::storage::{
    Backend, Call, Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind,
    StorageOperation,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{CHUNK, Host, Image, LEAF, RecordingObserver, Records, TestRepo, noise};

const NOW: &str = "2026-11-21T12:00:00Z";

fn content() -> Image {
    Image::new(2 * LEAF).with(0, &noise(1, 2 * CHUNK))
}

/// Commits a record with the content of `like`: a backup of `volume` on this day of November 2026,
/// with these labels.
fn commit_on_day(
    test_repo: &TestRepo,
    like: &BackupRecord,
    volume: &str,
    day: u8,
    labels: &[&str],
) -> ObjectHash {
    let mut record = like.clone();
    volume.clone_into(&mut record.volume.name);
    record.volume.id = VolumeId::from_bytes([volume.as_bytes()[1]; 16]);
    record.time = format!("2026-11-{day:02}T10:00:00Z").parse().unwrap();
    record.finished.clone_from(&record.time);
    record.labels = labels
        .iter()
        .map(|key| ((*key).to_owned(), "yes".to_owned()))
        .collect();
    let records = Records::load(&test_repo.project).unwrap();
    record.heads = records.heads();
    record.follows = records.unfollowed(volume);
    put(test_repo, &record)
}

fn put(test_repo: &TestRepo, record: &BackupRecord) -> ObjectHash {
    test_repo
        .project
        .put_sealed(ObjectRef::Backup, &record.encode())
        .unwrap()
}

/// Returns a store with these backups (volume, day, labels), and their ids. Each record names the
/// previous one.
fn store_with(days: &[(&str, u8, &[&str])]) -> (MemoryBackend, BTreeMap<(String, u8), ObjectHash>) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = host.back_up(&test_repo, "disk", &content()).unwrap().id;
    let like = test_repo.backup(first).record;
    let made = ObjectRef::Backup(test_repo.project.id, first);
    test_repo.project.objects.delete(made).unwrap();
    let ids = days
        .iter()
        .map(|(volume, day, labels)| {
            let id = commit_on_day(&test_repo, &like, volume, *day, labels);
            (((*volume).to_owned(), *day), id)
        })
        .collect();
    (store, ids)
}

fn open(store: &(impl Backend + Clone + 'static)) -> TestRepo {
    TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap()
}

fn last(count: u64) -> Forget {
    by_policy([Rule::Last(Period::Each, Count::Most(count))])
}

fn by_policy(rules: impl IntoIterator<Item = Rule>) -> Forget {
    Forget::ByPolicy {
        policy: Policy::new(rules),
        volumes: Vec::new(),
        labels: Vec::new(),
        zone: TimeZone::UTC,
    }
}

fn these(backups: &[String], force: bool) -> Forget {
    let backups = backups.to_vec();
    Forget::Named { backups, force }
}

/// Plans and executes a forget. Returns the ids that the plan removes, and those of them that an
/// earlier forget had begun to remove.
fn forget(test_repo: &TestRepo, what: &Forget) -> Result<[BTreeSet<ObjectHash>; 2], OpsError> {
    let host = Host::without_cache();
    let records = Records::load(&test_repo.project)?;
    let log = Log::load(&test_repo.project)?;
    let plan = ops::plan_forget(&records, &log, what, NOW.parse().unwrap())?;
    ops::forget(&test_repo.project, &plan, Some("here"), &host.context())?;
    let unfinished = plan.removals().filter(|r| r.unfinished);
    Ok([
        plan.removals().map(|r| r.backup.id).collect(),
        unfinished.map(|r| r.backup.id).collect(),
    ])
}

fn listed(test_repo: &TestRepo) -> BTreeSet<ObjectHash> {
    test_repo.backups().iter().map(|b| b.id).collect()
}

/// Asserts that check finds nothing and that all backups restore.
fn assert_whole(test_repo: &TestRepo, when: &str) {
    let host = Host::without_cache();
    host.check_clean(test_repo, when);
    for backup in test_repo.backups() {
        assert!(
            host.restore_image(test_repo, &backup).unwrap() == content(),
            "{when}"
        );
    }
}

const BACKUPS: [(&str, u8, &[&str]); 8] = [
    ("disk", 1, &[]),
    ("dump", 2, &["protected"]),
    ("disk", 3, &[]),
    ("dump", 4, &[]),
    ("disk", 5, &[]),
    ("dump", 6, &[]),
    ("disk", 7, &[]),
    ("disk", 9, &[]),
];

/// Returns the backups that `last(2)` keeps: the last two of each volume, and the protected backup.
fn kept(ids: &BTreeMap<(String, u8), ObjectHash>) -> BTreeSet<ObjectHash> {
    let kept = [
        ("disk", 7),
        ("disk", 9),
        ("dump", 2),
        ("dump", 4),
        ("dump", 6),
    ];
    kept.map(|(volume, day)| ids[&(volume.to_owned(), day)])
        .into()
}

/// Forgets with this fault, crashes, and checks the store. Returns false if the fault was never
/// reached.
fn crash_once(base: &MemoryBackend, keep: &BTreeSet<ObjectHash>, plan: Plan) -> bool {
    let when = format!("{plan:?}");
    let store = FaultBackend::holding(base);
    let all = listed(&open(base));
    store.set_plan(plan);
    let ran = TestRepo::open(store.clone(), &RecordingObserver::default())
        .map_err(OpsError::from)
        .and_then(|test_repo| forget(&test_repo, &last(2)));
    if store.is_planned() {
        return false;
    }
    for what in [last(2), last(100)] {
        let store = store.crash();
        let test_repo = open(&store);
        let found = listed(&test_repo);
        assert!(keep.is_subset(&found) && found.is_subset(&all), "{when}");
        assert!(
            ran.is_err() || found == *keep,
            "{when}: a forget that succeeded is durable"
        );
        assert_whole(&test_repo, &when);

        // The same forget completes an interrupted one. A forget with another policy makes its own
        // plan.
        let log = Log::load(&test_repo.project).unwrap();
        let is_named = |id: &ObjectHash| log.removed(LogKind::Record, *id);
        let begun = found.iter().copied().filter(is_named).collect();
        let [removed, unfinished] = forget(&test_repo, &what).unwrap();
        let asked = matches!(&what, Forget::ByPolicy { policy, .. } if *policy == policy_of(2));
        if asked {
            assert_eq!(listed(&test_repo), *keep, "{when}");
            assert_eq!(removed, &found - keep, "{when}");
            assert_eq!(unfinished, begun, "{when}");
        } else {
            assert_eq!(listed(&test_repo), found, "{when}");
            assert!(removed.is_empty(), "{when}");
        }
        assert_whole(&test_repo, &when);
        assert!(forget(&test_repo, &what).unwrap()[0].is_empty(), "{when}");
    }
    true
}

fn policy_of(count: u64) -> Policy {
    Policy::new([Rule::Last(Period::Each, Count::Most(count))])
}

/// Makes a plan for a fault at the n-th call. Some plans count all calls, others only writes.
type PlanAt = fn(u64, Fault) -> Plan;

#[test]
fn forget_survives_a_crash_or_failure_at_any_call_of_the_store() {
    let (base, ids) = store_with(&BACKUPS);
    let keep = kept(&ids);
    let faults: [(PlanAt, Fault); 5] = [
        (Plan::at, Fault::Die(Moment::Before)),
        (Plan::at, Fault::Die(Moment::After)),
        (Plan::at_write, Fault::Tear),
        (Plan::at_write, Fault::Fail(StorageErrorKind::Denied)),
        (Plan::at_write, Fault::FailAfter(StorageErrorKind::Io)),
    ];
    for (at, fault) in faults {
        let calls = (1..).take_while(|n| crash_once(&base, &keep, at(*n, fault)));
        let least = if at(1, fault) == Plan::at(1, fault) {
            12
        } else {
            4
        };
        let calls = calls.count();
        assert!(
            calls >= least,
            "{fault:?}: {calls} calls are too few for a meaningful test"
        );
    }
}

#[test]
fn forget_stores_the_entry_of_the_log_before_it_deletes_a_record() {
    let (base, ids) = store_with(&BACKUPS);
    let store = FaultBackend::holding(&base);
    let test_repo = open(&store);
    let _ = store.take_log();
    let [removed, _] = forget(&test_repo, &last(2)).unwrap();
    let log = store.take_log();
    let records = |call: &&Call| call.name.contains("/backups/");
    let gone = log
        .iter()
        .filter(records)
        .filter(|call| call.operation == StorageOperation::Delete);
    let deleted: BTreeSet<ObjectHash> = gone
        .map(|call| call.name.rsplit('/').next().unwrap().parse().unwrap())
        .collect();
    let at = |operation, directory: &str| {
        let mut calls = log.iter();
        calls.position(|call| call.operation == operation && call.name.contains(directory))
    };
    let put = at(StorageOperation::Put, "/log/").unwrap();
    assert!(
        at(StorageOperation::Put, "/leases/").unwrap() < put,
        "{log:?}"
    );
    assert!(
        put < at(StorageOperation::Delete, "/backups/").unwrap(),
        "{log:?}"
    );
    assert_eq!(deleted, removed);
    assert_eq!(listed(&test_repo), kept(&ids));
    // A forget with nothing to do writes nothing.
    forget(&test_repo, &last(2)).unwrap();
    let writes = [StorageOperation::Put, StorageOperation::Delete];
    assert!(
        store
            .take_log()
            .iter()
            .all(|call| !writes.contains(&call.operation))
    );
}

#[test]
fn check_reports_backups_that_vanished_but_not_those_that_were_forgotten() {
    let (store, ids) = store_with(&BACKUPS);
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &last(2)).unwrap();
    assert_whole(&test_repo, "after forgetting");
    // Delete a record without adding an entry to the log.
    let id = ids[&("disk".to_owned(), 7)];
    let name = ObjectRef::Backup(test_repo.project.id, id).name();
    store.delete(&name).unwrap();
    let (report, findings) = host.check(&test_repo, false);
    assert_eq!(
        (report.vanished, report.errors),
        (vec![id], 1),
        "{findings:?}"
    );

    // Without the log, forgotten backups count as vanished, too.
    for object in store.list("").unwrap() {
        if object.name.as_str().contains("/log/") {
            store.delete(&object.name).unwrap();
        }
    }
    let (report, _) = host.check(&test_repo, false);
    assert!(report.vanished.len() > 1, "{report:?}");
}

#[test]
fn check_does_not_report_a_damaged_record_as_vanished() {
    let (store, _) = store_with(&BACKUPS);
    let objects = store.list("").unwrap();
    let records = objects
        .iter()
        .filter(|o| o.name.as_str().contains("/backups/"));
    let test_repo = open(&store);
    for record in records {
        let intact = store.get(&record.name, 1 << 20).unwrap();
        let mut bytes = intact.clone();
        *bytes.last_mut().unwrap() ^= 1;
        store.put(&record.name, &[&bytes]).unwrap();
        let (report, findings) = Host::without_cache().check(&test_repo, false);
        assert_eq!((report.errors, report.vanished), (1, vec![]));
        assert!(
            matches!(
                findings[0],
                Finding::ObjectDamaged {
                    object: ObjectRef::Backup(..),
                    ..
                }
            ),
            "{findings:?}"
        );
        store.put(&record.name, &[&intact]).unwrap();
    }
}

#[test]
fn check_reports_a_damaged_entry_of_the_log() {
    let (store, _) = store_with(&BACKUPS);
    let test_repo = open(&store);
    forget(&test_repo, &last(2)).unwrap();
    let objects = store.list("").unwrap();
    let entry = objects
        .iter()
        .find(|o| o.name.as_str().contains("/log/"))
        .unwrap();
    let mut bytes = store.get(&entry.name, 1 << 20).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&entry.name, &[&bytes]).unwrap();
    let (report, findings) = Host::without_cache().check(&test_repo, false);
    assert!(
        matches!(
            findings[0],
            Finding::ObjectDamaged {
                object: ObjectRef::Log(..),
                ..
            }
        ),
        "{findings:?}"
    );
    assert!(report.errors > report.vanished.len() as u64);
    // `ops::forget` still works. The command would fail, because it calls `ops::require_history`
    // first.
    forget(&test_repo, &last(1)).unwrap();
}

#[test]
fn a_running_backup_may_name_a_backup_that_is_forgotten_meanwhile() {
    let (store, ids) = store_with(&BACKUPS);
    let test_repo = open(&store);
    let mut record = test_repo.backups()[0].record.clone();
    let forgotten = ids[&("disk".to_owned(), 1)];
    forget(&test_repo, &last(2)).unwrap();
    record.time = "2026-11-22T10:00:00Z".parse().unwrap();
    record.heads = vec![forgotten];
    record.base = Some(forgotten);
    put(&test_repo, &record);
    assert_whole(&test_repo, "afterwards");
}

/// Returns a request to forget all backups without the label `pin`.
fn pinned() -> Forget {
    let pin = "pin".parse().unwrap();
    by_policy([Rule::Label(pin)])
}

#[test]
fn if_two_concurrent_forgets_would_empty_a_volume_the_later_one_fails() {
    let (store, ids) = store_with(&[("disk", 1, &["pin"]), ("disk", 2, &[])]);
    let (first, second) = (open(&store), open(&store));
    let context = Host::without_cache();
    let records = Records::load(&second.project).unwrap();
    let log = Log::load(&second.project).unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    let late = ops::plan_forget(&records, &log, &pinned(), now).unwrap();
    forget(&first, &last(1)).unwrap();
    let refused = ops::forget(&second.project, &late, None, &context.context());
    assert!(
        matches!(&refused, Err(OpsError::LostRace { volume }) if volume == "disk"),
        "{refused:?}"
    );
    let newest = ids[&("disk".to_owned(), 2)];
    assert_eq!(listed(&first), [newest].into());
    let left = store.list("").unwrap();
    let left = left.iter().filter(|o| o.name.as_str().contains("/log/"));
    assert_eq!(left.count(), 1, "the refused forget stores no entry");
    assert!(!Log::load(&first.project).unwrap().excuses(newest));
    assert_whole(&first, "afterwards");

    // Two forgets with the same plan both succeed.
    let (store, _) = store_with(&BACKUPS);
    let (first, second) = (open(&store), open(&store));
    let records = Records::load(&second.project).unwrap();
    let log = Log::load(&second.project).unwrap();
    let same = ops::plan_forget(&records, &log, &last(2), now).unwrap();
    forget(&first, &last(2)).unwrap();
    ops::forget(&second.project, &same, None, &context.context()).unwrap();
    assert_whole(&first, "afterwards");
}

/// Takes the lease of another forget. The lease states which backups of volume “disk” this forget
/// removes and which it keeps, both given by their days.
fn other_forget(
    test_repo: &TestRepo,
    ids: &BTreeMap<(String, u8), ObjectHash>,
    removes: &[u8],
    keeps: &[u8],
) -> Lease {
    let by = Worker {
        host: Some("elsewhere"),
        tool: "test",
    };
    let lease = Lease::take(&test_repo.project, Work::Forget, by).unwrap();
    let of_days = |days: &[u8]| -> Vec<ObjectHash> {
        let days = days.iter().map(|day| ids[&("disk".to_owned(), *day)]);
        days.collect()
    };
    let (removes, keeps) = (of_days(removes), of_days(keeps));
    lease.intend_to_remove(&removes, &keeps).unwrap();
    lease
}

/// `last(2)` removes the backups of days 1, 3 and 5 of volume “disk”, and keeps days 7 and 9.
#[test]
fn a_forget_stops_if_the_lease_of_another_forget_contradicts_it() {
    for (removes, keeps, contradicts) in [
        (&[7][..], &[9][..], true),
        (&[1], &[3], true),
        (&[1, 3], &[7, 9], false),
        (&[1, 3, 5], &[], false),
        (&[], &[], false),
    ] {
        let when = format!("removes {removes:?}, keeps {keeps:?}");
        let (store, ids) = store_with(&BACKUPS);
        let test_repo = open(&store);
        let all = listed(&test_repo);
        let other = other_forget(&test_repo, &ids, removes, keeps);
        let ran = forget(&test_repo, &last(2));
        if contradicts {
            let lost = matches!(&ran, Err(OpsError::LostRace { volume }) if volume == "disk");
            assert!(lost, "{when}: {ran:?}");
            assert_eq!(listed(&test_repo), all, "{when}");
            let log = Log::load(&test_repo.project).unwrap();
            assert!(log.newest().is_none(), "{when}: no entry was stored");
            drop(other);
            forget(&test_repo, &last(2)).unwrap();
        } else {
            ran.unwrap();
        }
        assert_eq!(listed(&test_repo), kept(&ids), "{when}");
        assert_whole(&test_repo, &when);
    }
}

#[test]
fn a_backup_that_exists_although_the_log_removed_it_counts_like_any_other() {
    let (store, ids) = store_with(&[("disk", 1, &["pin"]), ("disk", 2, &[]), ("dump", 3, &[])]);
    let test_repo = open(&store);
    let (old, new) = (ids[&("disk".to_owned(), 1)], ids[&("disk".to_owned(), 2)]);
    // The log removes both backups, but they still exist. This is the state after two forgets that
    // contradict each other and crash before they delete anything. It is also the state after both
    // backups were copied back from a replica.
    for hash in [old, new] {
        let kind = LogKind::Record;
        let described = removed_record(hash, &test_repo.backup(hash).record, true, "test");
        let entry = NewEntry {
            removed: vec![LogItem { kind, hash }],
            details: LogDetails {
                removed_records: vec![described],
                ..LogDetails::default()
            },
            ..NewEntry::default()
        };
        let by = Worker {
            host: None,
            tool: "test",
        };
        let mut log = Log::load(&test_repo.project).unwrap();
        log.append(&test_repo.project, entry, by).unwrap();
    }
    let all = listed(&test_repo);
    assert_eq!(forget(&test_repo, &last(5)).unwrap()[0], BTreeSet::new());
    assert_eq!(listed(&test_repo), all);
    // A policy that keeps only the newer of the two backups removes the older one again.
    let removed = forget(&test_repo, &last(1)).unwrap();
    assert_eq!(removed, [[old].into(), [old].into()]);
    assert_whole(&test_repo, "afterwards");
    // A forget that names the backup by its id removes it.
    assert_eq!(forget(&test_repo, &last(5)).unwrap()[0], BTreeSet::new());
    forget(&test_repo, &these(&[new.to_string()], false)).unwrap();
    assert_eq!(listed(&test_repo).len(), 1);
    let log = Log::load(&test_repo.project).unwrap();
    assert_eq!(
        log.newest().unwrap().number,
        2,
        "no entry removes a backup again"
    );
}

#[test]
fn forget_removes_only_the_named_backups() {
    let (store, ids) = store_with(&BACKUPS);
    let test_repo = open(&store);
    let all = listed(&test_repo);
    let id = |volume: &str, day| ids[&(volume.to_owned(), day)];
    let refused = forget(&test_repo, &these(&["dump".into(), "dump~2".into()], false));
    assert!(
        matches!(&refused, Err(OpsError::Protected { backup, .. }) if *backup == id("dump", 2)),
        "{refused:?}"
    );
    let refused = forget(&test_repo, &these(&["disk".into(), "nope".into()], true));
    assert!(
        matches!(&refused, Err(OpsError::Repo(RepoError::NoBackup { .. }))),
        "{refused:?}"
    );
    assert_eq!(listed(&test_repo), all, "nothing was removed");

    // All names are resolved before anything is removed. A backup may be named twice.
    let names = ["disk", "disk~1", "disk~1", &id("disk", 7).to_string()].map(str::to_owned);
    let [removed, _] = forget(&test_repo, &these(&names, false)).unwrap();
    assert_eq!(removed, [id("disk", 9), id("disk", 7)].into());
    forget(&test_repo, &these(&["dump~2".into()], true)).unwrap();
    assert!(!listed(&test_repo).contains(&id("dump", 2)));
    assert_whole(&test_repo, "afterwards");

    // The last backup of a volume is removed only if it is named by its id.
    forget(&test_repo, &these(&["dump".into()], false)).unwrap();
    let refused = forget(&test_repo, &these(&["dump".into()], false));
    assert!(
        matches!(&refused, Err(OpsError::LastOfVolume { volume, .. }) if volume == "dump"),
        "{refused:?}"
    );
    forget(
        &test_repo,
        &these(&[id("dump", 4).to_string()[..12].to_owned()], false),
    )
    .unwrap();
    let left: BTreeSet<_> = test_repo.backups().into_iter().map(volume_of).collect();
    assert_eq!(left, ["disk".to_owned()].into());
    assert_whole(&test_repo, "afterwards");
}

fn volume_of(backup: Backup) -> String {
    backup.record.volume.name
}

#[test]
fn a_policy_applies_only_to_the_named_volumes() {
    let (store, ids) = store_with(&BACKUPS);
    let test_repo = open(&store);
    let only = |volume: &str| Forget::ByPolicy {
        policy: policy_of(1),
        volumes: vec![volume.to_owned()],
        labels: Vec::new(),
        zone: TimeZone::UTC,
    };
    let refused = forget(&test_repo, &only("disc"));
    assert!(
        matches!(&refused, Err(OpsError::NoVolume { volume }) if volume == "disc"),
        "{refused:?}"
    );
    forget(&test_repo, &only("dump")).unwrap();
    let gone = [ids[&("dump".to_owned(), 4)]].into();
    let all: BTreeSet<_> = ids.values().copied().collect();
    assert_eq!(&all - &listed(&test_repo), gone);
}
