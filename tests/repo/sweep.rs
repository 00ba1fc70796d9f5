//! Helpers for crash tests. They let work fail at every single call of the store, and check the
//! conditions that must hold afterwards.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use cuttlebone::base::{BlobId, ObjectHash};
use cuttlebone::format::BlobKind;
use cuttlebone::ops::OpsError;
use cuttlebone::repo::{
    Backup, BlobReader, ImageReader, Index, ObjectRef, RepoError, read_listing,
};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind,
};

use super::{Host, RecordingObserver, TestRepo, is_damage};
use crate::support::program::files;

/// The backups made before the fault, and those made during it.
pub(super) trait Work {
    /// The chunk size of the project, in bytes.
    const CHUNK: usize;
    /// Number of backups that `prepare` makes.
    const BEFORE: usize;
    /// Number of backups that `run` makes.
    const MADE: usize;
    /// Whether `run` makes new backups even if it has made its backups before.
    const AGAIN: bool;

    /// Opens the repository as the client that makes the backups.
    fn client<B: Backend + Clone + 'static>(&self, store: &B) -> Result<TestRepo, RepoError> {
        TestRepo::open(store.clone(), &RecordingObserver::default())
    }

    /// Makes the backups that exist before the fault.
    fn prepare(&self, host: &Host, test_repo: &TestRepo);

    /// Makes the backups during the fault. Returns the number of new chunks.
    fn run(&self, host: &Host, test_repo: &TestRepo) -> Result<u64, OpsError>;

    /// Makes the same backups with --reread, which stores lost data again.
    fn run_reread(&self, host: &Host, test_repo: &TestRepo) -> Result<(), OpsError>;

    /// Restores a backup. Returns whether it has the right content.
    fn restores(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        backup: &Backup,
    ) -> Result<bool, OpsError>;
}

/// Returns the chunks in all packs that segments name.
fn indexed(test_repo: &TestRepo) -> HashSet<BlobId> {
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let mut ids = HashSet::new();
    index
        .each_pack(|pack| {
            if pack.contents.kind == BlobKind::Chunk {
                ids.extend(pack.contents.blobs().map(|blob| blob.id));
            }
            Ok(())
        })
        .unwrap();
    ids
}

/// Returns the chunks of all existing packs that the host's list of unindexed packs names.
fn unindexed(host: &Host, test_repo: &TestRepo) -> HashSet<BlobId> {
    let Some(cache) = &host.cache else {
        return HashSet::new();
    };
    let project = &test_repo.project;
    let mut ids = HashSet::new();
    let lists = files(&cache.join(project.repository.to_string()))
        .into_iter()
        .filter(|path| path.ends_with("index-0.pending"));
    let lists: String = lists
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for line in lists.lines() {
        let pack: ObjectHash = line.parse().unwrap();
        if let Ok(listing) = read_listing(project, ObjectRef::Pack(project.id, pack), None) {
            ids.extend(listing.contents.blobs().map(|blob| blob.id));
        }
    }
    ids
}

/// Returns the chunks of all backups except the first `from`.
fn wanted(test_repo: &TestRepo, from: usize) -> HashSet<BlobId> {
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut ids = HashSet::new();
    for backup in &test_repo.backups()[from..] {
        for content in backup.record.contents() {
            ImageReader::of(&blobs, &content)
                .each_chunk(|chunk| {
                    ids.insert(chunk.id);
                    Ok::<(), RepoError>(())
                })
                .unwrap();
        }
    }
    ids
}

/// Returns a store with the backups that exist before the fault.
fn prepared<W: Work>(work: &W) -> MemoryBackend {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), W::CHUNK).unwrap();
    work.prepare(&Host::without_cache(), &test_repo);
    assert_eq!(test_repo.backups().len(), W::BEFORE);
    store
}

/// Asserts that every committed backup is whole, and that all except the first `from` have the
/// right content.
fn assert_all_whole(work: &impl Work, host: &Host, test_repo: &TestRepo, from: usize, when: &str) {
    host.check_clean(test_repo, when);
    for backup in &test_repo.backups()[from..] {
        assert!(work.restores(host, test_repo, backup).unwrap(), "{when}");
    }
}

/// Runs the work with the fault, crashes, and checks the store. Returns false if the fault was
/// never reached.
fn crash_once<W: Work>(
    work: &W,
    base: &MemoryBackend,
    wanted: &HashSet<BlobId>,
    with_cache: bool,
    plan: Plan,
) -> bool {
    let when = format!("{plan:?}, cache: {with_cache}");
    let store = FaultBackend::holding(base);
    let mut host = Host::without_cache();
    host.threads = 1;
    if with_cache {
        host.cache = Some(host.path("cache"));
    }
    store.set_plan(plan);
    let ran = work
        .client(&store)
        .map_err(OpsError::from)
        .and_then(|test_repo| work.run(&host, &test_repo));
    if store.is_planned() {
        return false;
    }
    // Crash and check even if the work has succeeded in spite of the fault.
    let store = store.crash();
    let test_repo = TestRepo::open(store.clone(), &host.notices).unwrap();
    assert_all_whole(work, &Host::without_cache(), &test_repo, 0, &when);
    let committed = test_repo.backups().len();
    assert!(
        committed >= W::BEFORE,
        "{when}: earlier backups still exist"
    );
    assert!(
        committed == W::BEFORE + W::MADE || ran.is_err(),
        "{when}: if the work succeeded, its backups exist"
    );

    let held: HashSet<_> = indexed(&test_repo)
        .union(&unindexed(&host, &test_repo))
        .copied()
        .collect();
    let missing = wanted.difference(&held).count() as u64;
    let client = work.client(&store).unwrap();
    let new = work.run(&host, &client).unwrap();
    assert_eq!(new, missing, "{when}: only missing chunks are stored");
    let before = if W::AGAIN { committed } else { W::BEFORE };
    assert_eq!(test_repo.backups().len(), before + W::MADE, "{when}");
    assert_all_whole(work, &host, &test_repo, committed, &when);
    true
}

/// Runs the work with each of the plans that `plans(n)` returns, for n from 1, until no fault
/// occurs. Returns the number of calls (or writes) at which a fault occurred.
pub(super) fn sweep<W: Work>(work: &W, with_cache: bool, plans: impl Fn(u64) -> Vec<Plan>) -> u64 {
    let base = prepared(work);
    let whole = base.copy();
    let test_repo = TestRepo::open(whole.clone(), &RecordingObserver::default()).unwrap();
    let client = work.client(&whole).unwrap();
    work.run(&Host::without_cache(), &client).unwrap();
    let wanted = wanted(&test_repo, W::BEFORE);
    for n in 1.. {
        let came = plans(n)
            .into_iter()
            .map(|plan| crash_once(work, &base, &wanted, with_cache, plan))
            .fold(false, |some, came| some | came);
        if !came {
            return n - 1;
        }
    }
    unreachable!("the loop ends after the last call")
}

/// Returns plans in which the store fails for good at the n-th call.
pub(super) fn deaths(n: u64) -> Vec<Plan> {
    [Moment::Before, Moment::After]
        .map(|moment| Plan::at(n, Fault::Die(moment)))
        .to_vec()
}

/// Returns plans in which the n-th write fails.
pub(super) fn failures(n: u64) -> Vec<Plan> {
    [
        Fault::Tear,
        Fault::Fail(StorageErrorKind::Full),
        Fault::FailAfter(StorageErrorKind::Io),
    ]
    .map(|fault| Plan::at_write(n, fault))
    .to_vec()
}

/// Loses each write in turn, like a store that reports data as durable when it is not. A check must
/// report a lost chunk, and a backup with --reread must store it again. If a record is lost, its
/// backup does not exist. Every other object exists twice or can be rebuilt. Returns the number of
/// affected backups in all runs.
pub(super) fn lose_each_write<W: Work>(work: &W) -> u64 {
    // Threads change the order of writes, so a sweep over all writes can miss the packs of chunks.
    lose_each(work, "write", |n| Plan::at_write(n, Fault::Volatile))
        + lose_each(work, "pack of chunks", |n| {
            Plan::at_put_below("packs", n, Fault::Volatile)
        })
}

fn lose_each<W: Work>(work: &W, what: &str, plan: impl Fn(u64) -> Plan) -> u64 {
    let base = prepared(work);
    let mut damaged = 0;
    for n in 1.. {
        let when = format!("{what} {n} lost");
        let store = FaultBackend::holding(&base);
        store.set_plan(plan(n));
        let host = Host::without_cache();
        let test_repo = TestRepo::open(store.clone(), &host.notices).unwrap();
        work.run(&host, &test_repo).unwrap();
        if store.is_planned() {
            break;
        }
        let test_repo = TestRepo::open(store.crash(), &host.notices).unwrap();
        let backups = test_repo.backups();
        let (report, _) = host.check(&test_repo, true);
        for (number, backup) in backups.iter().enumerate() {
            let affected = report.backups_affected.contains(&backup.id);
            match work.restores(&host, &test_repo, backup) {
                Ok(right) => assert!(right && !affected, "{when}: backup {number}"),
                Err(error) => {
                    assert!(is_damage(&error) && affected, "{when}: {error:?}");
                    assert!(
                        number >= W::BEFORE,
                        "{when}: earlier backups are not affected"
                    );
                    damaged += 1;
                }
            }
        }
        work.run_reread(&host, &test_repo).unwrap();
        for backup in &test_repo.backups()[W::BEFORE..] {
            assert!(work.restores(&host, &test_repo, backup).unwrap(), "{when}");
        }
    }
    damaged
}
