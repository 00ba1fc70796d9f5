//! The store crashes or fails at each of its calls in turn. If it keeps its promises, committed
//! backups are not affected, and the next backup uses the stored data. If a crash loses a write
//! that the store had reported as durable, `check` reports the affected backups.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cuttlebone::format::ContentKind;
use cuttlebone::ops::OpsError;
use cuttlebone::repo::{Backup, RepoErrorKind};
use cuttlebone::storage::{Backend, Fault, FaultBackend, Moment, Plan, StorageErrorKind};

use super::sweep::{Work, deaths, failures, lose_each_write, sweep};
use super::{CHUNK, Host, Image, KIB, LEAF, TestRepo, noise, options, stream_of};

/// The contents of the volumes on two days.
struct Days {
    first: Image,
    second: Image,
    stream: Vec<u8>,
}

impl Days {
    fn new() -> Self {
        let chunk = CHUNK as u64;
        let first = Image::new(5 * LEAF + 1000)
            .with(0, &noise(1, 2 * CHUNK))
            .with(LEAF, &noise(2, 2 * CHUNK))
            .with(3 * LEAF, &noise(3, CHUNK))
            .with(5 * LEAF, &noise(4, 1000));
        let second = first
            .clone()
            // In this order: changed data, zeroed data, new data in an existing leaf and in a new
            // leaf, a zeroed leaf, a copy of existing data.
            .with(chunk, &noise(5, 2 * CHUNK))
            .with(LEAF, &vec![0; CHUNK])
            .with(LEAF + 9 * chunk, &noise(6, 2 * CHUNK))
            .with(2 * LEAF, &noise(7, 2 * CHUNK))
            .with(3 * LEAF, &vec![0; CHUNK])
            .with(4 * LEAF, &noise(1, CHUNK));
        Self {
            first,
            second,
            stream: [noise(8, 150 * KIB), vec![0; 90 * KIB], noise(9, 150 * KIB)].concat(),
        }
    }
}

impl Work for Days {
    const CHUNK: usize = CHUNK;
    const BEFORE: usize = 1;
    const MADE: usize = 2;
    const AGAIN: bool = true;

    fn prepare(&self, host: &Host, test_repo: &TestRepo) {
        host.back_up(test_repo, "disk", &self.first).unwrap();
    }

    fn run(&self, host: &Host, test_repo: &TestRepo) -> Result<u64, OpsError> {
        let image = host.back_up(test_repo, "disk", &self.second)?;
        let stream = host.back_up_stream(test_repo, "dump", &self.stream)?;
        Ok(image.chunks_new + stream.chunks_new)
    }

    fn run_reread(&self, host: &Host, test_repo: &TestRepo) -> Result<(), OpsError> {
        host.back_up_again(test_repo, "disk", &self.second)?;
        host.back_up_stream_again(test_repo, "dump", &self.stream)?;
        Ok(())
    }

    fn restores(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        backup: &Backup,
    ) -> Result<bool, OpsError> {
        Ok(match backup.record.content.kind {
            ContentKind::Image => {
                let image = host.restore_image(test_repo, backup)?;
                image == self.first || image == self.second
            }
            ContentKind::Stream => host.restore(test_repo, backup)? == self.stream,
        })
    }
}

#[test]
fn a_backup_survives_a_crash_at_any_call_of_the_store() {
    let calls = sweep(&Days::new(), false, deaths);
    assert!(
        calls > 40,
        "{calls} calls are too few for a meaningful test"
    );
}

#[test]
fn a_backup_with_a_cache_survives_a_crash_at_any_call_of_the_store() {
    let calls = sweep(&Days::new(), true, deaths);
    assert!(
        calls > 40,
        "{calls} calls are too few for a meaningful test"
    );
}

#[test]
fn a_backup_survives_a_failure_of_any_write() {
    for with_cache in [false, true] {
        let writes = sweep(&Days::new(), with_cache, failures);
        assert!(
            writes > 20,
            "{writes} writes are too few for a meaningful test"
        );
    }
}

/// If a crash loses a write, `check` reports the backups that the loss damages. Chunks are stored
/// only once, so at least one lost write must damage a backup.
#[test]
fn if_a_crash_loses_a_write_of_a_backup_check_reports_it_and_only_chunks_are_lost() {
    let damaged = lose_each_write(&Days::new());
    assert!(damaged > 0, "lost chunks cannot be replaced");
}

/// A pipe that delivers its bytes and then stays open without data.
struct Idle {
    bytes: Cursor<Vec<u8>>,
    asked: Arc<AtomicU64>,
}

impl Read for Idle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(into)?;
        if read > 0 {
            return Ok(read);
        }
        thread::sleep(Duration::from_millis(5));
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(
            asked < 2000,
            "the source does not notice that the backup has failed"
        );
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn a_backup_of_an_idle_stream_fails_as_soon_as_the_store_fails() {
    let store = FaultBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let source = |asked: &Arc<AtomicU64>| {
        let bytes = Cursor::new(noise(1, 11 << 20));
        let asked = Arc::clone(asked);
        stream_of(Idle { bytes, asked })
    };
    let asked = Arc::default();
    store.set_plan(Plan::at_write(1, Fault::Fail(StorageErrorKind::Full)));
    let failed = host.run(&test_repo, source(&asked), &options("dump"));
    let full = RepoErrorKind::Storage(StorageErrorKind::Full);
    assert!(
        matches!(&failed, Err(OpsError::Repo(e)) if e.kind() == full),
        "{failed:?}"
    );

    let asked = Arc::default();
    let stopped = thread::scope(|scope| {
        let running = scope.spawn(|| host.run(&test_repo, source(&asked), &options("dump")));
        while asked.load(Ordering::Relaxed) < 3 && !running.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        host.cancel.cancel();
        running.join().unwrap()
    });
    assert!(
        matches!(&stopped, Err(OpsError::Repo(e)) if e.kind() == RepoErrorKind::Cancelled),
        "{stopped:?}"
    );
}

#[test]
fn creating_a_repository_succeeds_or_leaves_no_repository() {
    let whole = FaultBackend::new();
    TestRepo::init(whole.clone(), CHUNK).unwrap();
    let faults = [
        Fault::Die(Moment::Before),
        Fault::Die(Moment::After),
        Fault::Tear,
        Fault::Volatile,
        Fault::Fail(StorageErrorKind::Full),
        Fault::FailAfter(StorageErrorKind::Io),
    ];
    let image = Image::new(LEAF).with(0, &noise(1, CHUNK));
    for fault in faults {
        for n in 1..=whole.calls() {
            let when = format!("{fault:?} at {n}");
            let store = FaultBackend::new();
            store.set_plan(Plan::at(n, fault));
            let made = TestRepo::init(store.clone(), CHUNK).is_ok();
            let store = store.crash();
            let host = Host::without_cache();
            let test_repo = match TestRepo::open(store.clone(), &host.notices) {
                Ok(test_repo) => test_repo,
                Err(error) => {
                    assert!(!made, "{when}: {error}");
                    assert_eq!(error.kind(), RepoErrorKind::NoRepository, "{when}");
                    TestRepo::init(store.clone(), CHUNK).unwrap();
                    TestRepo::open(store.clone(), &host.notices).unwrap()
                }
            };
            let id = host.back_up(&test_repo, "disk", &image).unwrap().id;
            let restored = host
                .restore_image(&test_repo, &test_repo.backup(id))
                .unwrap();
            assert!(restored == image, "{when}");
            let (report, _) = host.check(&test_repo, true);
            assert!(report.backups_affected.is_empty(), "{when}");
            assert!(!store.list("").unwrap().is_empty());
        }
    }
}
