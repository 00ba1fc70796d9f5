//! Copies of a repository to another store that are interrupted at any write. Also tests batches: a
//! batch is a file whose records and log entries begin to exist at the same moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, ProjectId};
use cuttlebone::format::{Batch, BatchedKind, NewBatchedObject};
use cuttlebone::ops::{
    self, AcceptedLoss, Finding, MaxUnused, OpsError, PruneOptions, ReplicateOptions,
    ReplicateReport, Side,
};
use cuttlebone::repo::{ObjectKind, ObjectRef, Objects, RepoError, RepoErrorKind};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Name, Plan, StorageErrorKind,
};

use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

pub(super) fn page(number: u64) -> Image {
    Image::new(LEAF).with(0, &noise(number, 4096))
}

/// Copies with one thread, so that the order of the calls is always the same.
pub(super) fn replicate(
    source: &(impl Backend + Clone + 'static),
    target: &(impl Backend + Clone + 'static),
    options: &ReplicateOptions,
) -> Result<(ReplicateReport, Vec<(Side, Finding)>), OpsError> {
    let mut host = Host::without_cache();
    host.threads = 1;
    let (source, target) = (Arc::new(source.clone()), Arc::new(target.clone()));
    replicate_on(&host, source, target, options)
}

/// Copies on this host. Also returns the findings, of which the report has the number.
pub(super) fn replicate_on(
    host: &Host,
    source: Arc<dyn Backend>,
    target: Arc<dyn Backend>,
    options: &ReplicateOptions,
) -> Result<(ReplicateReport, Vec<(Side, Finding)>), OpsError> {
    let (source, target) = (Objects::new(source), Objects::new(target));
    let mut findings = Vec::new();
    let report = ops::replicate(
        &source,
        &target,
        options,
        &host.context(),
        &mut |side, finding| findings.push((side, finding.clone())),
    )?;
    assert_eq!(report.errors, findings.len() as u64, "{findings:#?}");
    Ok((report, findings))
}

#[track_caller]
pub(super) fn copied(
    source: &(impl Backend + Clone + 'static),
    target: &(impl Backend + Clone + 'static),
) -> ReplicateReport {
    let (report, findings) = replicate(source, target, &ReplicateOptions::default()).unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    report
}

pub(super) fn open(store: &(impl Backend + Clone + 'static)) -> Result<TestRepo, RepoError> {
    TestRepo::open(store.clone(), &RecordingObserver::default())
}

pub(super) fn ids(test_repo: &TestRepo) -> BTreeSet<ObjectHash> {
    let backups = test_repo.backups();
    backups.iter().map(|backup| backup.id).collect()
}

/// Removes a backup, and deletes the data that no backup needs.
pub(super) fn remove(store: &MemoryBackend, test_repo: &TestRepo, backup: ObjectHash) {
    let host = Host::without_cache();
    let log = cuttlebone::repo::Log::load(&test_repo.project).unwrap();
    let records = cuttlebone::repo::Records::load(&test_repo.project).unwrap();
    let what = ops::Forget::Named {
        backups: vec![backup.to_string()],
        force: true,
    };
    let now = "2027-02-01T00:00:00Z".parse().unwrap();
    let plan = ops::plan_forget(&records, &log, &what, now).unwrap();
    ops::forget(&test_repo.project, &plan, None, &host.context()).unwrap();
    prune(store, test_repo);
}

fn prune(store: &MemoryBackend, test_repo: &TestRepo) {
    store.age(Duration::from_hours(1));
    let host = Host::without_cache();
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: true,
        grace: Duration::ZERO,
        accept_loss: AcceptedLoss::default(),
        host: None,
    };
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    planned.unwrap().run().unwrap();
}

/// A source with backups that name earlier ones. Some of the backups were removed.
pub(super) struct Source {
    pub(super) store: MemoryBackend,
    pub(super) test_repo: TestRepo,
    host: Host,
}

impl Source {
    pub(super) fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let source = Self {
            store,
            test_repo,
            host: Host::without_cache(),
        };
        source.change(1);
        source
    }

    /// Makes two backups, of which the second names the first, and removes the first.
    pub(super) fn change(&self, seed: u64) {
        let first = self.back_up(seed);
        self.back_up(seed + 100);
        remove(&self.store, &self.test_repo, first);
    }

    /// Does the same as `change`, and then removes the backups that existed before.
    pub(super) fn replace(&self, seed: u64) {
        let before = self.test_repo.backups();
        self.change(seed);
        for backup in before {
            remove(&self.store, &self.test_repo, backup.id);
        }
    }

    pub(super) fn back_up(&self, seed: u64) -> ObjectHash {
        let made = self.host.back_up(&self.test_repo, "volume", &page(seed));
        made.unwrap().id
    }
}

#[test]
fn a_copy_that_is_interrupted_at_any_write_is_a_complete_repository() {
    let source = Source::new();
    let old = MemoryBackend::new();
    copied(&source.store, &old);
    let before = ids(&open(&old).unwrap());
    source.change(2);
    source.change(3);
    let after = ids(&source.test_repo);
    let mut seen = BTreeSet::new();
    for begin in [&old, &MemoryBackend::new()] {
        let is_new = begin.list("").unwrap().is_empty();
        for n in 1.. {
            let mut reached = false;
            for moment in [Moment::Before, Moment::After] {
                let when = format!("{moment:?} write {n}, new: {is_new}");
                let store = FaultBackend::holding(begin);
                store.set_plan(Plan::at_write(n, Fault::Die(moment)));
                let ran = replicate(&source.store, &store, &ReplicateOptions::default());
                reached |= !store.is_planned();
                assert_eq!(ran.is_ok(), store.is_planned(), "{when}");
                let store = store.crash();
                match open(&store) {
                    Ok(test_repo) => {
                        let (_, found) = Host::without_cache().check(&test_repo, true);
                        // Two copies of one object cannot be stored at the same moment.
                        let is_one_copy = |f: &Finding| matches!(f, Finding::CopyDamaged { .. });
                        assert!(
                            found.len() <= 1 && found.iter().all(is_one_copy),
                            "{when}: {found:?}"
                        );
                        let found = ids(&test_repo);
                        let whole = found == after
                            || if is_new {
                                found.is_empty()
                            } else {
                                found == before
                            };
                        assert!(whole, "{when}: {found:?}");
                        seen.insert((is_new, found.len()));
                    }
                    Err(RepoError::NoRepository { .. }) if is_new => {}
                    Err(error) => unreachable!("{when}: {error}"),
                }
                copied(&source.store, &store);
                let test_repo = open(&store).unwrap();
                Host::without_cache().check_clean(&test_repo, &when);
                assert!(ids(&test_repo).is_superset(&after), "{when}");
            }
            if !reached {
                assert!(n > 10, "{n}");
                break;
            }
        }
    }
    // Each of the two targets was seen in the state before the copy and in the state after it.
    assert!(seen.len() >= 4, "{seen:?}");
}

/// Makes a second store with the objects of `target`, and replicates to that store. The store fails
/// before its n-th put below the directory `part`. Returns the objects that it has then.
pub(super) fn interrupted_at(
    source: &Source,
    target: &MemoryBackend,
    part: &'static str,
    n: u64,
) -> MemoryBackend {
    let store = FaultBackend::holding(target);
    store.set_plan(Plan::at_put_below(part, n, Fault::Die(Moment::Before)));
    replicate(&source.store, &store, &ReplicateOptions::default()).unwrap_err();
    let crashed = store.crash();
    let copy = MemoryBackend::new();
    for info in crashed.list("").unwrap() {
        let bytes = crashed.get(&info.name, u64::MAX).unwrap();
        copy.put(&info.name, &[&bytes]).unwrap();
    }
    copy
}

/// Returns the names of all batches of a project.
pub(super) fn batches(store: &dyn Backend, project: ProjectId) -> Vec<Name> {
    let listed = store.list(&ObjectKind::Batch.directory(project)).unwrap();
    listed.into_iter().map(|info| info.name).collect()
}

#[test]
fn without_its_batch_an_interrupted_copy_lacks_history() {
    let source = Source::new();
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let store = interrupted_at(&source, &target, "log", 1);
    let test_repo = open(&store).unwrap();
    let found = batches(&store, test_repo.project.id);
    assert_eq!(found.len(), 1);
    Host::without_cache().check_clean(&test_repo, "with the batch");
    assert_eq!(
        ids(&test_repo)
            .intersection(&ids(&source.test_repo))
            .count(),
        ids(&source.test_repo).len()
    );
    // Without a batch, either the log or the records would be stored first. Each needs the other.
    for kind in [ObjectKind::Log, ObjectKind::Backup] {
        let store = interrupted_at(&source, &target, "log", 1);
        let project = test_repo.project.id;
        store.delete(&batches(&store, project)[0]).unwrap();
        for kept in [ObjectKind::Log, ObjectKind::Backup] {
            for name in names_below(&source.store, &kept.directory(project)) {
                let bytes = source.store.get(&name, u64::MAX).unwrap();
                if kept == kind {
                    store.put(&name, &[&bytes]).unwrap();
                } else if target.size(&name).is_err() {
                    let _ = store.delete(&name);
                }
            }
        }
        let (report, _) = Host::without_cache().check(&open(&store).unwrap(), false);
        assert!(!report.vanished.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_copy_whose_target_is_full_while_a_batch_is_unpacked_is_whole_and_goes_on() {
    let source = Source::new();
    let old = MemoryBackend::new();
    copied(&source.store, &old);
    source.change(2);
    source.change(3);
    let (project, after) = (source.test_repo.project.id, ids(&source.test_repo));
    for (part, fault) in [
        ("backups", Fault::Fail(StorageErrorKind::Full)),
        ("log", Fault::Fail(StorageErrorKind::Full)),
        ("log", Fault::Tear),
    ] {
        for n in 1.. {
            let when = format!("{fault:?} at {n} below {part}");
            let store = FaultBackend::holding(&old);
            store.set_plan(Plan::at_put_below(part, n, fault));
            let ran = replicate(&source.store, &store, &ReplicateOptions::default());
            if store.is_planned() {
                assert!(ran.is_ok() && n > 2, "{when}");
                break;
            }
            let failed = ran.unwrap_err();
            if let Fault::Fail(kind) = fault {
                let is_cause = matches!(&failed, OpsError::Repo(error)
                    if error.kind() == RepoErrorKind::Storage(kind));
                assert!(is_cause, "{when}: {failed:?}");
            }
            let store = store.crash();
            let test_repo = open(&store).unwrap();
            assert_eq!(batches(&store, project).len(), 1, "{when}");
            Host::without_cache().check_clean(&test_repo, &when);
            assert!(ids(&test_repo).is_superset(&after), "{when}");
            copied(&source.store, &store);
            assert!(batches(&store, project).is_empty(), "{when}");
            Host::without_cache().check_clean(&open(&store).unwrap(), &when);
        }
    }
}

#[test]
fn a_forget_and_a_prune_of_an_interrupted_copy_remove_the_backup_from_the_batch_too() {
    let source = Source::new();
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let store = interrupted_at(&source, &target, "backups", 1);
    let test_repo = open(&store).unwrap();
    let project = test_repo.project.id;
    assert_eq!(batches(&store, project).len(), 1);
    let all = ids(&test_repo);
    let newest = test_repo.backups().last().unwrap().id;
    remove(&store, &test_repo, newest);
    assert!(batches(&store, project).is_empty());
    let test_repo = open(&store).unwrap();
    Host::without_cache().check_clean(&test_repo, "without the newest");
    let left = ids(&test_repo);
    assert!(!left.contains(&newest));
    assert_eq!(left.len(), all.len() - 1);
}

#[test]
fn a_batch_adds_only_undamaged_objects_of_its_own_project() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let backups = source.test_repo.backups();
    let record = |id| {
        let name = ObjectRef::Backup(project, id).name();
        (source.store.get(&name, u64::MAX).unwrap(), name)
    };
    let hash = backups[0].id;
    let (bytes, own) = record(hash);
    let batch = |of, hash, bytes: &[u8]| {
        let (kind, bytes) = (BatchedKind::Record, bytes.to_vec());
        Batch::encode(of, &[NewBatchedObject { kind, hash, bytes }])
    };
    let put = |bytes: &[u8]| {
        let hash = ObjectHash::from_bytes(*blake3::hash(bytes).as_bytes());
        let name = ObjectRef::Batch(project, hash).name();
        source.store.put(&name, &[bytes]).unwrap();
        name
    };
    // A batch with wrong bytes for a record does not hide or replace the record.
    let mut wrong = bytes.clone();
    wrong[80] ^= 1;
    let hostile = put(&batch(project, hash, &wrong));
    Host::without_cache().check(&source.test_repo, true);
    assert_eq!(ids(&source.test_repo).len(), backups.len());
    source.store.delete(&own).unwrap();
    let host = Host::without_cache();
    let (report, found) = host.check(&open(&source.store).unwrap(), false);
    assert_eq!(report.records_damaged, [hash], "{found:?}");
    source.store.delete(&hostile).unwrap();

    let other = put(&batch(ProjectId::from_bytes([1; 16]), hash, &bytes));
    let (_, found) = host.check(&open(&source.store).unwrap(), false);
    let is_batch = |f: &Finding| {
        matches!(
            f,
            Finding::ObjectDamaged {
                object: ObjectRef::Batch(..),
                ..
            }
        )
    };
    assert!(found.iter().any(is_batch), "{found:?}");
    assert_eq!(ids(&open(&source.store).unwrap()).len(), backups.len() - 1);
    source.store.delete(&other).unwrap();

    let right = put(&batch(project, hash, &bytes));
    let test_repo = open(&source.store).unwrap();
    assert_eq!(ids(&test_repo).len(), backups.len());
    host.check_clean(&test_repo, "the record is in a batch");
    // A copy to a new store writes the record as a file of its own, and leaves no batch there.
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    assert_eq!(target.get(&own, u64::MAX).unwrap(), bytes);
    assert!(batches(&target, project).is_empty());
    // A copy to the store that has the batch unpacks this batch.
    copied(&target, &source.store);
    assert!(source.store.get(&right, u64::MAX).is_err());
    assert_eq!(source.store.get(&own, u64::MAX).unwrap(), bytes);
}

pub(super) fn names_below(store: &MemoryBackend, directory: &str) -> BTreeSet<Name> {
    let listed = store.list(directory).unwrap();
    listed.into_iter().map(|info| info.name).collect()
}
