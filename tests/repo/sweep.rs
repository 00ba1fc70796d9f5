//! Helpers of crash tests: work that fails at every single call of the store, and the conditions
//! that must hold afterwards.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use cuttlebone::base::{BlobId, ObjectHash};
use cuttlebone::format::BlobKind;
use cuttlebone::ops::OpsError;
use cuttlebone::repo::{Backup, BlobReader, ImageReader, Index, RepoError, read_listing};
use cuttlebone::storage::{Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind};

use super::{Host, RecordingObserver, TestRepo, is_damage};

/// What is backed up before the fault, and what while it comes.
pub(super) trait Work {
    /// Of the project, in bytes.
    const CHUNK: usize;
    /// Backups that are there before.
    const BEFORE: usize;
    /// Backups that are made.
    const MADE: usize;
    /// Whether those are made once more when the work is done again, even if they are there.
    const AGAIN: bool;

    /// Makes the backups that are there before.
    fn prepare(&self, host: &Host, test_repo: &TestRepo);

    /// Makes the backups. How many chunks were new.
    fn run(&self, host: &Host, test_repo: &TestRepo) -> Result<u64, OpsError>;

    /// The same, made good whatever was lost.
    fn mend(&self, host: &Host, test_repo: &TestRepo) -> Result<(), OpsError>;

    /// Whether a backup restores to what it is of; if it does not restore, why.
    fn restores(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        backup: &Backup,
    ) -> Result<bool, OpsError>;
}

/// The chunks in all packs that segments name.
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

/// The chunks in all packs that the host's journal notes and the store has.
fn noted(host: &Host, test_repo: &TestRepo) -> HashSet<BlobId> {
    let Some(cache) = &host.cache else {
        return HashSet::new();
    };
    let project = &test_repo.project;
    let directory = cache
        .join(project.repository.to_string())
        .join(project.id.to_string());
    let mut ids = HashSet::new();
    let Ok(journal) = fs::read_to_string(directory.join("index-0.pending")) else {
        return ids;
    };
    for line in journal.lines() {
        let pack: ObjectHash = line.parse().unwrap();
        if let Ok(listing) = read_listing(project, pack, None)
            && listing.contents.kind == BlobKind::Chunk
        {
            ids.extend(listing.contents.blobs().map(|blob| blob.id));
        }
    }
    ids
}

/// The chunks that the backups from this number on are made of.
fn wanted(test_repo: &TestRepo, from: usize) -> HashSet<BlobId> {
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut ids = HashSet::new();
    for backup in &test_repo.backups()[from..] {
        ImageReader::new(&blobs, backup)
            .each_chunk(|chunk| {
                ids.insert(chunk.id);
                Ok::<(), RepoError>(())
            })
            .unwrap();
    }
    ids
}

/// A store with the backups that are there before.
fn prepared<W: Work>(work: &W) -> MemoryBackend {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), W::CHUNK).unwrap();
    work.prepare(&Host::without_cache(), &test_repo);
    assert_eq!(test_repo.backups().len(), W::BEFORE);
    store
}

/// Every committed backup is whole, and those from this number on are what they should be.
fn all_whole(work: &impl Work, host: &Host, test_repo: &TestRepo, from: usize, when: &str) {
    host.check_clean(test_repo, when);
    for backup in &test_repo.backups()[from..] {
        assert!(work.restores(host, test_repo, backup).unwrap(), "{when}");
    }
}

/// Runs the work with the fault, crashes, and looks at what is left. Whether the fault came.
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
    let ran = TestRepo::open(store.clone(), &host.notices)
        .map_err(OpsError::from)
        .and_then(|test_repo| work.run(&host, &test_repo));
    if store.is_planned() {
        return false;
    }
    // A lost copy or answer can be survived; that is no reason to go on as if all were well.
    let store = store.crash();
    let test_repo = TestRepo::open(store.clone(), &host.notices).unwrap();
    all_whole(work, &Host::without_cache(), &test_repo, 0, &when);
    let committed = test_repo.backups().len();
    assert!(committed >= W::BEFORE, "{when}: what was there is there");
    assert!(
        committed == W::BEFORE + W::MADE || ran.is_err(),
        "{when}: what was reported is there"
    );

    let held: HashSet<_> = indexed(&test_repo)
        .union(&noted(&host, &test_repo))
        .copied()
        .collect();
    let missing = wanted.difference(&held).count() as u64;
    let new = work.run(&host, &test_repo).unwrap();
    assert_eq!(new, missing, "{when}: stored is what was not there");
    let there = if W::AGAIN { committed } else { W::BEFORE };
    assert_eq!(test_repo.backups().len(), there + W::MADE, "{when}");
    all_whole(work, &host, &test_repo, committed, &when);
    true
}

/// Spoils one call after the other until none is left; how many there were.
pub(super) fn sweep<W: Work>(work: &W, with_cache: bool, plans: impl Fn(u64) -> Vec<Plan>) -> u64 {
    let base = prepared(work);
    let whole = base.copy();
    let test_repo = TestRepo::open(whole, &RecordingObserver::default()).unwrap();
    work.run(&Host::without_cache(), &test_repo).unwrap();
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
    unreachable!("a sweep ends behind the last call")
}

/// The store dies at this call.
pub(super) fn deaths(n: u64) -> Vec<Plan> {
    [Moment::Before, Moment::After]
        .map(|moment| Plan::at(n, Fault::Die(moment)))
        .to_vec()
}

/// This write fails in one way or another.
pub(super) fn failures(n: u64) -> Vec<Plan> {
    [
        Fault::Tear,
        Fault::Fail(StorageErrorKind::Full),
        Fault::FailAfter(StorageErrorKind::Io),
    ]
    .map(|fault| Plan::at_write(n, fault))
    .to_vec()
}

/// Loses each write in turn, as a store does that reports data as durable when it is not. A lost
/// chunk cannot be replaced, but it is reported; every other object exists twice or can be rebuilt.
/// Returns the number of backups that suffered, over all runs.
pub(super) fn lose_each_write<W: Work>(work: &W) -> u64 {
    let base = prepared(work);
    let mut damaged = 0;
    for n in 1.. {
        let when = format!("write {n} lost");
        let store = FaultBackend::holding(&base);
        store.set_plan(Plan::at_write(n, Fault::Volatile));
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
                    assert!(number >= W::BEFORE, "{when}: what was durable before stays");
                    damaged += 1;
                }
            }
        }
        work.mend(&host, &test_repo).unwrap();
        for backup in &test_repo.backups()[W::BEFORE..] {
            assert!(work.restores(&host, &test_repo, backup).unwrap(), "{when}");
        }
    }
    damaged
}
