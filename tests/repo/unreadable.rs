//! Objects that the store has and that this process cannot read: no permission, or a bad sector.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::ops::{self, Forget, MaxUnused, OpsError, PruneOptions, PruneReport};
use cuttlebone::repo::{Index, Lease, Log, Records, RepoErrorKind, Work, Worker};
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

const GRACE: Duration = Duration::from_hours(24);

fn prune(test_repo: &TestRepo) -> Result<PruneReport, OpsError> {
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace: GRACE,
        accept_loss: ops::AcceptedLoss::default(),
        host: Some("here".into()),
    };
    let host = Host::without_cache();
    ops::plan_prune(&test_repo.project, &options, false, &host.context())?.run()
}

/// Makes a store with a backup, and with a mark for the packs of another one that was forgotten.
fn with_mark() -> MemoryBackend {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    for seed in 1..=2 {
        let image = Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK));
        host.back_up(&test_repo, &format!("disk{seed}"), &image)
            .unwrap();
    }
    let records = Records::load(&test_repo.project).unwrap();
    let forgotten = Forget::Named {
        backups: vec![records.all()[1].id.to_string()],
        force: true,
    };
    let now = jiff::Timestamp::now();
    let log = Log::default();
    let plan = ops::plan_forget(&records, &log, &forgotten, now).unwrap();
    let by = Some("here");
    ops::forget(&test_repo.project, &plan, by, &host.context()).unwrap();
    store.age(GRACE);
    assert!(prune(&test_repo).unwrap().marked.packs > 0);
    store
}

/// Another process may be able to read the mark and delete the packs that it names. This process
/// does not know these packs, and so must not rely on any pack.
#[test]
fn a_backup_and_a_prune_fail_if_a_mark_cannot_be_read() {
    let store = with_mark();
    let image = Image::new(LEAF).with(0, &noise(2, 4 * CHUNK));
    for kind in [StorageErrorKind::Denied, StorageErrorKind::Unreadable] {
        let unreadable = Intercepted::unreadable(&store, "/marks/", kind);
        let test_repo = TestRepo::open(unreadable, &RecordingObserver::default()).unwrap();
        let host = Host::without_cache();
        let made = host.back_up(&test_repo, "disk3", &image).map(drop);
        for refused in [made, prune(&test_repo).map(drop)] {
            match refused {
                Err(OpsError::Repo(error)) => {
                    assert_eq!(error.kind(), RepoErrorKind::Storage(kind));
                }
                other => panic!("{other:?}"),
            }
        }
        let backups = test_repo.backups();
        assert_eq!(backups.len(), 1);
        // Neither a restore nor a check needs the mark.
        host.restore(&test_repo, &backups[0]).unwrap();
        host.check_clean(&test_repo, "the mark is not damaged");
    }
    let test_repo = TestRepo::open(store, &RecordingObserver::default()).unwrap();
    let host = Host::without_cache();
    host.back_up(&test_repo, "disk3", &image).unwrap();
}

#[test]
fn a_prune_says_why_records_cannot_be_read() {
    let denied = Intercepted::unreadable(&with_mark(), "/backups/", StorageErrorKind::Denied);
    let test_repo = TestRepo::open(denied, &RecordingObserver::default()).unwrap();
    match prune(&test_repo) {
        Err(OpsError::Unreadable { records }) => {
            assert!(
                records[0].contains("could not read projects/"),
                "{records:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

/// Readers look at the state of their lease for every chunk, so they must not wait for the store.
#[test]
fn the_state_of_a_lease_is_known_while_the_store_takes_long_to_renew_it() {
    let store = MemoryBackend::new();
    let (renewing, is_renewing) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new((renewing, released));
    drop(TestRepo::init(store.clone(), CHUNK).unwrap());
    let slow = Intercepted::new(&store, move |operation, name| {
        if operation == StorageOperation::Put && name.contains("/leases/") {
            let (renewing, released) = &*gate.lock().unwrap();
            renewing.send(()).unwrap();
            // This fails after the test has dropped `release`, and then the wait is over.
            let _ = released.recv();
        }
        Ok(())
    });
    let test_repo = TestRepo::open(slow, &RecordingObserver::default()).unwrap();
    let worker = Worker {
        host: None,
        tool: "test",
    };
    release.send(()).unwrap();
    let lease = Lease::take(&test_repo.project, Work::Backup, worker).unwrap();
    is_renewing.recv().unwrap();
    thread::scope(|scope| {
        let renewed = scope.spawn(|| lease.intend(&[]));
        is_renewing.recv().unwrap();
        let (answer, answered) = mpsc::channel();
        let lease = &lease;
        scope.spawn(move || answer.send(lease.may_have_expired()));
        let answer = answered.recv_timeout(Duration::from_secs(10));
        drop(release);
        assert_eq!(answer, Ok(false));
        renewed.join().unwrap().unwrap();
    });
}

/// Another user, who may read the pack, may have found the damage.
#[test]
fn a_pack_that_may_not_be_read_is_not_reported_as_damaged_and_its_damage_stays_noted() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&test_repo, "disk", &image).unwrap();
    let is_pack = |name: &Name| name.as_str().contains("/packs/");
    let stored = store.list("projects").unwrap().into_iter();
    let name = stored.map(|object| object.name).find(is_pack).unwrap();
    let pack = name.last().parse::<ObjectHash>().unwrap();
    let mut bytes = store.get(&name, 1 << 30).unwrap();
    let at = bytes.len() - 50;
    bytes[at] ^= 1;
    store.put(&name, &[&bytes]).unwrap();
    let damaged = |test_repo: &TestRepo| {
        let cache = host.cache.as_deref().unwrap();
        let index = Index::open(&test_repo.project, cache, host.notices.clone()).unwrap();
        index.note_damaged_outside_runs(pack);
        let damaged = index.damaged_outside_runs().unwrap();
        index.close();
        damaged.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(damaged(&test_repo), [pack]);
    let denied = Intercepted::unreadable(&store, "/packs/", StorageErrorKind::Denied);
    let denied = TestRepo::open(denied, &RecordingObserver::default()).unwrap();
    assert_eq!(damaged(&denied), []);
    let cache = host.cache.as_deref().unwrap();
    let index = Index::open(&test_repo.project, cache, host.notices.clone()).unwrap();
    let damaged = index.damaged_outside_runs().unwrap();
    assert!(damaged.contains_key(&pack), "the note stays");
    index.close();
}
