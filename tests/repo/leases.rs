//! Leases whose holder was paused or has ended. The tests use the store's clock, since only this
//! clock shows that a virtual machine was paused. The modification time of a lease does not show
//! whether anyone renews the lease.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cuttlebone::base::{LeaseId, ObjectHash, Role, Silent};
use cuttlebone::format::LeaseBody;
use cuttlebone::ops::{self, Forget, MaxUnused, OpsError, PruneOptions};
use cuttlebone::repo::{
    CommitCheck, Index, Lease, Leases, Log, ObjectKind, ObjectRef, Packer, PackerOptions,
    PruneGuard, Records, RepoError, UnindexedPacks, Work, Worker,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageOperation};

use super::intercepted::Intercepted;
use super::provenance::client;
use super::prune::{forget, names, prune};
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

/// Longer than the lifetime of a lease, in seconds.
const EXPIRED: u64 = 601;

const ELSEWHERE: Worker<'static> = Worker {
    host: Some("elsewhere"),
    tool: "test",
};

fn image(seed: u64) -> Image {
    Image::new(2 * LEAF).with(0, &noise(seed, 2 * CHUNK))
}

fn open(store: &MemoryBackend) -> TestRepo {
    TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap()
}

/// Returns a store with two backups of different content, and their ids.
fn two_backups() -> (MemoryBackend, [ObjectHash; 2]) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let ids = [1, 2].map(|seed| {
        let volume = format!("disk{seed}");
        let made = host.back_up(&test_repo, &volume, &image(seed));
        made.unwrap().id
    });
    (store, ids)
}

/// Opens the repository on a store that calls `paused` once: before the first call for which `at`
/// is true. While the returned flag is false, the store does not call `paused`.
fn open_and_pause(
    store: &MemoryBackend,
    at: impl Fn(StorageOperation, &str) -> bool + Send + Sync + 'static,
    paused: impl Fn(&MemoryBackend) + Send + Sync + 'static,
) -> (TestRepo, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let intercepted = {
        let (armed, store) = (Arc::clone(&armed), store.clone());
        Intercepted::new(&store.clone(), move |operation, name| {
            if at(operation, name) && armed.swap(false, Ordering::SeqCst) {
                paused(&store);
            }
            Ok(())
        })
    };
    let test_repo = TestRepo::open(intercepted, &RecordingObserver::default()).unwrap();
    armed.store(true, Ordering::SeqCst);
    (test_repo, armed)
}

fn only_lease(store: &MemoryBackend) -> Name {
    let objects = store.list("projects").unwrap();
    let mut leases = objects
        .into_iter()
        .filter(|object| object.name.as_str().contains("/leases/"));
    let lease = leases.next().unwrap().name;
    assert!(leases.next().is_none());
    lease
}

fn refused(test_repo: &TestRepo) -> (Option<String>, Name) {
    match prune(test_repo, &Host::without_cache(), Duration::ZERO) {
        Err(OpsError::PruneRuns { host, lease, .. }) => (host, lease.name()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_refusal_of_a_second_prune_names_the_lease_the_host_and_the_time() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    let _other = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let lease = only_lease(&store);
    let error = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap_err();
    let text = error.to_string();
    let today = jiff::Timestamp::now().to_string();
    for part in [lease.as_str(), "elsewhere", &today[..8]] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_lease_from_the_future_that_nobody_renews_expires() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    std::mem::forget(Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap());
    let lease = only_lease(&store);
    let year = Duration::from_hours(24 * 365);
    store.set_modified(&lease, SystemTime::now() + year);
    assert_eq!(refused(&test_repo).1, lease);
    store.advance_clock(300);
    assert_eq!(refused(&test_repo).1, lease);
    store.advance_clock(301);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(names(&store, "leases").is_empty(), "the lease was removed");
}

#[test]
fn a_backup_with_a_lease_from_the_future_may_have_missed_a_mark() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    std::mem::forget(Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap());
    let year = Duration::from_hours(24 * 365);
    store.set_modified(&only_lease(&store), SystemTime::now() + year);
    let own = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let leases = Leases::load(&test_repo.project, Some(&own)).unwrap();
    assert!(leases.may_have_missed(leases.now));
}

#[test]
fn a_lease_that_is_put_back_again_and_again_expires() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    for work in [Work::Prune, Work::Backup] {
        let old = Lease::take(&test_repo.project, work, ELSEWHERE).unwrap();
        let lease = only_lease(&store);
        let bytes = store.get(&lease, 1 << 20).unwrap();
        drop(old);
        let own = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
        let is_held = || {
            let leases = Leases::load(&test_repo.project, Some(&own)).unwrap();
            assert_eq!(leases.others.len(), 1);
            leases.others[0].is_held_for(work)
        };
        for _ in 0..6 {
            store.put(&lease, &[&bytes]).unwrap();
            assert!(is_held());
            store.advance_clock(110);
        }
        store.put(&lease, &[&bytes]).unwrap();
        assert!(!is_held(), "the lease was put back, not renewed");
        Lease::remove_expired(
            &test_repo.project,
            &Leases::load(&test_repo.project, Some(&own)).unwrap().others[0],
        )
        .unwrap();
        store.put(&lease, &[&bytes]).unwrap();
        assert!(!is_held(), "the lease was removed, but is remembered");
        store.delete(&lease).unwrap();
    }
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
}

/// Stores `count` copies of a lease. The names of the copies are consecutive numbers from `first`.
fn store_copies(store: &MemoryBackend, lease: &Name, bytes: &[u8], first: u128, count: u128) {
    let (directory, _) = lease.as_str().rsplit_once('/').unwrap();
    for number in first..first + count {
        let name = Name::new(format!("{directory}/{number:032x}")).unwrap();
        store.put(&name, &[bytes]).unwrap();
    }
}

#[test]
fn copies_of_an_old_lease_under_other_names_stop_no_prune_for_longer_than_ten_minutes() {
    const COPIES: u128 = 1500;
    let (store, _) = two_backups();
    let test_repo = open(&store);
    let old = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let lease = only_lease(&store);
    let bytes = store.get(&lease, 1 << 20).unwrap();
    drop(old);
    for round in 0..3 {
        store_copies(&store, &lease, &bytes, round * COPIES, COPIES);
        let leases = names(&store, "leases").len() as u128;
        if round < 2 {
            refused(&test_repo);
            assert_eq!(names(&store, "leases").len() as u128, leases);
        } else {
            prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
            assert!(
                names(&store, "leases").is_empty(),
                "all leases were removed"
            );
        }
        // The next round stores copies under new names, before the copies of this round expire.
        store.advance_clock(540);
    }
}

/// An attacker can copy every version of every lease, and store an old version again later. A
/// client that has never seen this version recognizes it as old only by its content.
#[test]
fn a_lease_that_was_stored_long_ago_does_not_count_even_if_nobody_has_seen_it() {
    for work in [Work::Prune, Work::Forget, Work::Backup] {
        let (store, _) = two_backups();
        let lease = Lease::take(&open(&store).project, work, ELSEWHERE).unwrap();
        lease.confirm().unwrap();
        let name = only_lease(&store);
        let bytes = store.get(&name, 1 << 20).unwrap();
        drop(lease);
        for (passed, is_held) in [(0, true), (1190, true), (10, false), (86_400, false)] {
            store.advance_clock(passed);
            store.put(&name, &[&bytes]).unwrap();
            // Use another client each time.
            let reader = open(&store);
            let own = Lease::take(&reader.project, Work::Read, ELSEWHERE).unwrap();
            let leases = Leases::load(&reader.project, Some(&own)).unwrap();
            assert_eq!(leases.others.len(), 1);
            assert_eq!(
                leases.others[0].is_held_for(work),
                is_held,
                "{work:?} {passed}"
            );
        }
    }
}

#[test]
fn a_lease_of_a_prune_or_forget_counts_only_with_a_plausible_time_of_the_store() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    let lease = |work: &str, store_time: Option<u64>| {
        let time = store_time.map_or(String::new(), |time| format!(",\"store_time\":{time}"));
        let body = format!("{{\"work\":\"{work}\",\"running_seconds\":0{time}}}");
        let sealed = test_repo.project.seal(ObjectKind::Lease, body.as_bytes());
        let id = LeaseId::from_bytes([7; 16]);
        let name = ObjectRef::Lease(test_repo.project.id, id).name();
        store.put(&name, &[&sealed.unwrap()]).unwrap();
        let own = Lease::take(&test_repo.project, Work::Read, ELSEWHERE).unwrap();
        let leases = Leases::load(&test_repo.project, Some(&own)).unwrap();
        !leases.others[0].expired
    };
    let now = store.clock().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    for work in ["prune", "forget"] {
        assert!(!lease(work, None), "{work}");
        assert!(lease(work, Some(now)), "{work}");
        assert!(lease(work, Some(now + 19 * 60)), "{work}");
        // Such a lease was stored when the clock of the store was wrong.
        assert!(!lease(work, Some(now + 21 * 60)), "{work}");
        assert!(!lease(work, Some(u64::MAX)), "{work}");
    }
    for work in ["backup", "read"] {
        assert!(lease(work, None) && lease(work, Some(u64::MAX)), "{work}");
    }
}

/// An attacker can copy any stored version of a lease, even the first. So a prune first stores its
/// lease with the work `read`. Only the second version has the work `prune`, and also the time of
/// the store.
#[test]
fn a_prune_stores_no_prune_lease_without_the_time_of_the_store() {
    let (store, _) = two_backups();
    let stored = Arc::new(Mutex::new(Vec::new()));
    let copied = {
        let (stored, store) = (Arc::clone(&stored), store.clone());
        Intercepted::new(&store.clone(), move |operation, name| {
            // After each put of the lease, the program lists the leases. Before this listing, copy
            // the lease.
            if operation == StorageOperation::List && name.ends_with("/leases") {
                let lease = store.get(&only_lease(&store), 1 << 20).unwrap();
                stored.lock().unwrap().push(lease);
            }
            Ok(())
        })
    };
    let test_repo = TestRepo::open(copied, &RecordingObserver::default()).unwrap();
    drop(Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap());
    let stored = std::mem::take(&mut *stored.lock().unwrap());
    let object = ObjectRef::Lease(test_repo.project.id, LeaseId::from_bytes([7; 16]));
    let bodies: Vec<_> = stored
        .iter()
        .map(|bytes| {
            let opened = test_repo.project.open(object, bytes, 1 << 20).unwrap();
            LeaseBody::decode(&opened.body).unwrap()
        })
        .collect();
    let works: Vec<_> = bodies.iter().map(|body| &body.work[..]).collect();
    assert_eq!(works, ["read", "prune"]);
    assert!(bodies[1].store_time.is_some());
}

#[test]
fn a_prune_that_another_prune_stops_deletes_the_leases_that_have_expired() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    std::mem::forget(Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap());
    let expired = only_lease(&store);
    store.advance_clock(EXPIRED);
    let running = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let (_, other) = refused(&test_repo);
    assert_ne!(other, expired);
    assert_eq!(only_lease(&store), other);
    drop(running);
}

#[test]
fn a_lease_that_a_revoked_key_stores_again_does_not_count() {
    let (store, _) = two_backups();
    let full = open(&store);
    let client = client(&store, Role::Write, 1);
    let lease = Lease::take(&client.project, Work::Backup, ELSEWHERE).unwrap();
    let leases = || {
        let own = Lease::take(&full.project, Work::Prune, ELSEWHERE).unwrap();
        let leases = Leases::load(&full.project, Some(&own)).unwrap();
        leases.others.len()
    };
    assert_eq!(leases(), 1);
    // Another process revokes the key. This process learns of the revocation when it reads the log.
    // It reads the log before it reads the leases.
    let other = open(&store);
    let certificates = other.project.certificates(&Silent).unwrap();
    let signer = client.project.keys.signing().public();
    let key = certificates.of_signer(&signer).unwrap();
    ops::revoke_key(&other.project, key, Vec::new(), None).unwrap();
    lease.confirm().unwrap();
    Log::load(&full.project).unwrap();
    assert_eq!(leases(), 0, "the key of the lease was revoked");
}

#[test]
fn a_backup_that_was_paused_while_it_stored_its_record_withdraws_it() {
    let (store, [first, _]) = two_backups();
    let is_record =
        |operation, name: &str| operation == StorageOperation::Put && name.contains("/backups/");
    let (test_repo, _) = open_and_pause(&store, is_record, move |store| {
        // While this machine is paused, its lease expires. So no lease stops another host from
        // deleting the chunks of the first backup, which the paused backup relies on.
        store.advance_clock(EXPIRED);
        let elsewhere = open(store);
        forget(&elsewhere, &[first]);
        store.age(Duration::from_hours(1));
        prune(&elsewhere, &Host::without_cache(), Duration::ZERO).unwrap();
    });
    let host = Host::without_cache();
    let made = host.back_up(&test_repo, "late", &image(1));
    assert!(
        matches!(&made, Err(OpsError::LostToPrune { volume }) if volume == "late"),
        "{made:?}"
    );
    let test_repo = open(&store);
    assert_eq!(test_repo.backups().len(), 1);
    host.check_clean(&test_repo, "afterwards");
    let made = host.back_up(&test_repo, "late", &image(1)).unwrap();
    let backup = test_repo.backup(made.id);
    assert!(host.restore_image(&test_repo, &backup).unwrap() == image(1));
}

#[test]
fn a_backup_that_was_paused_before_it_stored_its_record_commits_none() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    let project = &test_repo.project;
    let record = test_repo.backups()[0].record.clone();
    let index = Index::in_memory(project, Arc::new(RecordingObserver::default())).unwrap();
    let options = PackerOptions::default();
    let unindexed = UnindexedPacks::none().0;
    let stored = Packer::scope(&index, unindexed, options, |_| Ok::<_, RepoError>(()));
    let ((), receipt, _) = stored.unwrap();
    let mut guard = PruneGuard::begin(project, ELSEWHERE).unwrap();
    let CommitCheck::Permitted(permit) = guard.clear(&index, &[]).unwrap() else {
        panic!("no other process is running");
    };
    store.advance_clock(EXPIRED);
    let before = names(&store, "backups");
    let refused = Records::commit(project, &record, &receipt.unwrap(), &permit);
    assert!(matches!(refused, Err(RepoError::LostRace)), "{refused:?}");
    assert_eq!(names(&store, "backups"), before);
    // The next call of `clear` also notices that the lease has lapsed. The call after it succeeds,
    // because the lease was stored again under another name.
    let disturbed = guard.clear(&index, &[]).unwrap();
    assert!(matches!(disturbed, CommitCheck::Disturbed));
    let permitted = guard.clear(&index, &[]).unwrap();
    assert!(matches!(permitted, CommitCheck::Permitted(_)));
    assert_eq!(names(&store, "leases").len(), 1);
}

#[test]
fn a_lease_that_lapsed_by_the_clock_of_the_store_gets_another_name() {
    let (store, _) = two_backups();
    let test_repo = open(&store);
    let lease = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    let first = only_lease(&store);
    lease.confirm().unwrap();
    store.advance_clock(290);
    lease.confirm().unwrap();
    assert_eq!(only_lease(&store), first);
    assert!(!lease.has_lapsed());
    store.advance_clock(310);
    lease.confirm().unwrap();
    assert_ne!(only_lease(&store), first);
    assert!(lease.may_have_expired() && lease.has_lapsed() && !lease.has_lapsed());
}

#[test]
fn a_lease_that_vanishes_as_soon_as_it_is_stored_counts_as_lapsed() {
    let (store, _) = two_backups();
    let is_list =
        |operation, name: &str| operation == StorageOperation::List && name.ends_with("/leases");
    let (test_repo, armed) = open_and_pause(&store, is_list, |store| {
        store.delete(&only_lease(store)).unwrap();
    });
    armed.store(false, Ordering::SeqCst);
    let lease = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    let first = only_lease(&store);
    armed.store(true, Ordering::SeqCst);
    let lost = lease.confirm();
    assert!(matches!(lost, Err(RepoError::LeaseLost)), "{lost:?}");
    assert!(lease.may_have_expired());
    lease.confirm().unwrap();
    assert_ne!(only_lease(&store), first);
}

#[test]
fn a_forget_that_was_paused_before_it_stored_its_log_entry_removes_nothing() {
    let (store, ids) = two_backups();
    let is_log =
        |operation, name: &str| operation == StorageOperation::List && name.ends_with("/log");
    let (test_repo, armed) = open_and_pause(&store, is_log, |store| store.advance_clock(EXPIRED));
    armed.store(false, Ordering::SeqCst);
    let records = Records::load(&test_repo.project).unwrap();
    let log = Log::load(&test_repo.project).unwrap();
    let request = Forget::Named {
        backups: vec![ids[0].to_string()],
        force: true,
    };
    let plan = ops::plan_forget(&records, &log, &request, jiff::Timestamp::now()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let host = Host::without_cache();
    let paused = ops::forget(&test_repo.project, &plan, None, &host.context());
    assert!(matches!(paused, Err(OpsError::PausedTooLong)), "{paused:?}");
    assert_eq!(open(&store).backups().len(), 2);
    assert!(names(&store, "log").is_empty());
}

#[test]
fn a_prune_that_was_paused_after_planning_marks_and_deletes_nothing() {
    let (store, ids) = two_backups();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..1]);
    store.age(Duration::from_hours(1));
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context).unwrap();
    let before = store.list("").unwrap().len();
    store.advance_clock(EXPIRED);
    let paused = planned.run();
    assert!(matches!(paused, Err(OpsError::PausedTooLong)), "{paused:?}");
    assert!(names(&store, "marks").is_empty());
    assert_eq!(
        store.list("").unwrap().len(),
        before - 1,
        "only the lease was removed"
    );
    store.age(Duration::from_hours(1));
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    host.check_clean(&test_repo, "afterwards");
}

#[test]
fn leases_that_a_prune_has_seen_are_remembered_for_the_next_prune() {
    let (store, _) = two_backups();
    let host = Host::with_cache();
    let caches = host.path("cache");
    let test_repo = open(&store);
    let old = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let lease = only_lease(&store);
    let bytes = store.get(&lease, 1 << 20).unwrap();
    drop(old);
    let run = || {
        store.put(&lease, &[&bytes]).unwrap();
        let mut test_repo = open(&store);
        test_repo.project.remember_seen(&caches);
        prune(&test_repo, &Host::without_cache(), Duration::ZERO)
    };
    assert!(matches!(run(), Err(OpsError::PruneRuns { .. })));
    store.advance_clock(EXPIRED);
    run().unwrap();
    assert!(
        !store
            .list("projects")
            .unwrap()
            .iter()
            .any(|o| o.name == lease)
    );
    let object = ObjectRef::parse(&lease).unwrap().0;
    assert!(matches!(object, ObjectRef::Lease(..)));
}
