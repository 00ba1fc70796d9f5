//! Tests of pruning. No used data is deleted, and all unused data is deleted in the end. The same
//! must hold while other processes run, and if calls fail.

mod backups;
mod copies;
mod faults;
mod hooked;
mod marked;
mod model;
mod pack_repair;
mod put_back;
mod readers;
mod refused;
mod small;
mod unused;
mod write_keys;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{BlobId, ObjectHash};
use cuttlebone::ops::{self, Finding, Forget, MaxUnused, OpsError, PruneOptions, PruneReport};
use cuttlebone::repo::{
    BlobReader, ImageReader, Index, Log, NodeReader, ObjectRef, Records, RepoError, Worker,
    read_listing,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

pub(super) use self::backups::hooked_source;
use self::hooked::Hooked;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

const HOUR: Duration = Duration::from_hours(1);
const GRACE: Duration = Duration::from_hours(24);
/// The clock error that a prune tolerates.
const CLOCK_ERROR: Duration = Duration::from_mins(10);
/// Longer than the lifetime of a lease.
const EXPIRED: Duration = Duration::from_mins(11);

fn limits(grace: Duration, max_unused: MaxUnused) -> PruneOptions {
    PruneOptions {
        max_unused,
        max_repack: None,
        merge_small: false,
        grace,
        accept_loss: ops::AcceptedLoss::default(),
        host: Some("here".into()),
    }
}

/// Returns the options of a prune that also merges small packs.
fn merging(limits: PruneOptions) -> PruneOptions {
    PruneOptions {
        merge_small: true,
        ..limits
    }
}

/// Prunes, and tolerates no unused space.
pub(super) fn prune(
    test_repo: &TestRepo,
    host: &Host,
    grace: Duration,
) -> Result<PruneReport, OpsError> {
    let options = limits(grace, MaxUnused::Bytes(0));
    ops::plan_prune(&test_repo.project, &options, false, &host.context())?.run()
}

pub(super) fn forget(test_repo: &TestRepo, backups: &[ObjectHash]) {
    try_forget(test_repo, backups).unwrap();
}

pub(super) fn try_forget(test_repo: &TestRepo, backups: &[ObjectHash]) -> Result<(), OpsError> {
    let records = Records::load(&test_repo.project)?;
    let log = Log::load(&test_repo.project)?;
    let request = Forget::Named {
        backups: backups.iter().map(ToString::to_string).collect(),
        force: true,
    };
    let plan = ops::plan_forget(&records, &log, &request, jiff::Timestamp::now())?;
    let host = Host::without_cache();
    ops::forget(&test_repo.project, &plan, None, &host.context())?;
    Ok(())
}

fn open(store: &(impl Backend + Clone + 'static)) -> TestRepo {
    TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap()
}

/// Returns the last parts of the names of all objects in this directory of the project.
pub(super) fn names(store: &dyn Backend, directory: &str) -> Vec<String> {
    let objects = store.list("projects").unwrap();
    let names = objects.iter().map(|object| object.name.as_str());
    let below = names.filter(|name| name.split('/').nth(2) == Some(directory));
    below
        .map(|name| name.rsplit('/').next().unwrap().to_owned())
        .collect()
}

/// Returns whether an object is a pack of chunks or of tree nodes.
pub(crate) fn is_pack(name: &Name) -> bool {
    ObjectRef::parse(name).is_some_and(|(object, _)| object.blob_kind().is_some())
}

/// Returns the packs in the store, of chunks and of tree nodes.
fn packs(store: &dyn Backend) -> Vec<ObjectRef> {
    let objects = store.list("projects").unwrap();
    let objects = objects.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let packs = objects.filter(|(object, _)| object.blob_kind().is_some());
    packs.map(|(object, _)| object).collect()
}

/// Returns the names of the packs in the store, of chunks and of tree nodes.
fn pack_names(store: &dyn Backend) -> Vec<String> {
    let packs = packs(store).into_iter();
    packs.map(|pack| pack.hash().unwrap().to_string()).collect()
}

/// Returns the pack with this hash. Panics if the store does not have it.
fn pack_object(store: &dyn Backend, pack: ObjectHash) -> ObjectRef {
    let mut packs = packs(store).into_iter();
    packs.find(|object| object.hash() == Some(pack)).unwrap()
}

/// Returns the number of packs that have each blob.
fn stored(test_repo: &TestRepo, store: &dyn Backend) -> BTreeMap<BlobId, u64> {
    let mut found = BTreeMap::new();
    for object in packs(store) {
        let listing = read_listing(&test_repo.project, object, None).unwrap();
        for blob in listing.contents.blobs() {
            *found.entry(blob.id).or_default() += 1;
        }
    }
    found
}

/// Returns the blobs that the backups use, and the number of packs that must have each: one for
/// chunks, two for nodes.
fn used(test_repo: &TestRepo) -> BTreeMap<BlobId, u64> {
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut found = BTreeMap::new();
    let backups = test_repo.backups();
    for content in backups.iter().flat_map(|b| b.record.contents()) {
        let reader = ImageReader::of(&blobs, &content);
        let mut nodes = BTreeSet::new();
        reader
            .each_chunk_but(
                |id| {
                    nodes.insert(*id);
                    true
                },
                |chunk| {
                    found.insert(chunk.id, 1);
                    Ok::<(), RepoError>(())
                },
            )
            .unwrap();
        for node in nodes {
            blobs.read(&node).unwrap();
            found.insert(node, 2);
        }
    }
    found
}

/// Asserts that the store has only data that the backups use: no unused blob, no mark, no lease.
/// Also asserts that the index names exactly the packs that exist.
fn assert_tidy(test_repo: &TestRepo, store: &dyn Backend, when: &str) {
    assert_eq!(stored(test_repo, store), used(test_repo), "{when}");
    for directory in ["marks", "leases"] {
        assert_eq!(names(store, directory), Vec::<String>::new(), "{when}");
    }
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let mut named = BTreeSet::new();
    index
        .each_pack(|pack| {
            named.insert(pack.pack.to_string());
            Ok(())
        })
        .unwrap();
    let stored_packs: BTreeSet<_> = pack_names(store).into_iter().collect();
    assert_eq!(named, stored_packs, "{when}");
    assert_eq!(index.replaced_segments().unwrap(), [], "{when}");
}

/// Images of one volume on successive days. Each shares some chunks with the others.
struct Series {
    days: Vec<Image>,
}

impl Series {
    fn new() -> Self {
        Self::of(5)
    }

    fn of(count: u64) -> Self {
        let chunk = CHUNK as u64;
        let mut days = vec![
            Image::new(5 * LEAF + 1000)
                .with(0, &noise(1, 3 * CHUNK))
                .with(LEAF, &noise(2, 2 * CHUNK))
                .with(4 * LEAF, &noise(3, CHUNK)),
        ];
        for day in 1..count {
            let before = days.last().unwrap().clone();
            let next = before
                .with((day % 3) * chunk, &noise(10 + day, CHUNK))
                .with(LEAF + day * chunk, &noise(20 + day, CHUNK))
                .with(2 * LEAF + day * chunk, &noise(30 + day, 2 * CHUNK));
            days.push(next);
        }
        Self { days }
    }

    /// Makes a store with a backup of each day, an hour old. Returns the store and the ids of the
    /// backups.
    fn backed_up(&self) -> (MemoryBackend, Vec<ObjectHash>) {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::without_cache();
        let days = self.days.iter();
        let ids = days.map(|day| host.back_up(&test_repo, "disk", day).unwrap().id);
        let ids = ids.collect();
        store.age(HOUR);
        (store, ids)
    }

    /// Asserts that a check finds nothing and that every backup restores to one of the days.
    fn assert_restores(&self, test_repo: &TestRepo, when: &str) {
        let host = Host::without_cache();
        host.check_clean(test_repo, when);
        for backup in test_repo.backups() {
            let restored = host.restore_image(test_repo, &backup).unwrap();
            assert!(self.days.contains(&restored), "{when}");
        }
    }
}

/// Makes a backup and deletes its index segments. A backup that is killed before it stores them
/// leaves the same packs, but here, the record stays. Returns the id of the backup.
fn leave_unnamed_packs(test_repo: &TestRepo, store: &MemoryBackend) -> ObjectHash {
    let named: BTreeSet<_> = names(store, "index").into_iter().collect();
    let image = Image::new(LEAF).with(0, &noise(77, 3 * CHUNK));
    let host = Host::without_cache();
    let gone = host.back_up(test_repo, "gone", &image).unwrap().id;
    for segment in names(store, "index") {
        if !named.contains(&segment) {
            let object = ObjectRef::Index(test_repo.project.id, segment.parse().unwrap());
            test_repo.project.objects.delete(object).unwrap();
        }
    }
    gone
}

/// Checks all data on a host that knows of no damage. Returns the byte ranges that each affected
/// backup has lost.
fn losses(test_repo: &TestRepo) -> BTreeMap<ObjectHash, Vec<Range<u64>>> {
    let (_, findings) = Host::without_cache().check(test_repo, true);
    let affected = findings.into_iter().filter_map(|found| match found {
        Finding::BackupAffected(backup) => Some((backup.id, backup.holes)),
        _ => None,
    });
    affected.collect()
}

fn damage(store: &MemoryBackend, pack: ObjectHash) {
    let object = pack_object(store, pack);
    let mut bytes = store.get(&object.name(), 1 << 30).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&object.name(), &[&bytes]).unwrap();
}

/// A process on another host.
const ELSEWHERE: Worker<'static> = Worker {
    host: Some("elsewhere"),
    tool: "test",
};
