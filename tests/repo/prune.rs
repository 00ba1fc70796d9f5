//! Pruning: nothing that is used goes, all that is not used goes in the end, whatever runs beside or breaks in between.

mod model;
mod readers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cuttlebone::base::{BlobId, Notice, ObjectHash};
use cuttlebone::format::BlobKind;
use cuttlebone::ops::{self, Forget, MaxUnused, OpsError, PruneOptions, PruneReport};
use cuttlebone::repo::{
    BlobReader, ImageReader, Index, Lease, Marks, NodeReader, ObjectRef, Records, RepoError,
    RepoErrorKind, Tombstones, Work, Worker, read_listing,
};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Name, ObjectInfo, Plan, StorageError,
    StorageErrorKind, StorageOperation,
};

use super::{CHUNK, Heard, Host, Image, Input, LEAF, TestRepo, noise, options, stream_of};

const HOUR: Duration = Duration::from_hours(1);
const GRACE: Duration = Duration::from_hours(24);
/// By so much times may be wrong.
const LATE: Duration = Duration::from_mins(10);
/// Longer than a lease lives.
const DEAD: Duration = Duration::from_mins(11);

fn limits(grace: Duration, max_unused: MaxUnused) -> PruneOptions {
    PruneOptions {
        max_unused,
        max_repack: None,
        grace,
        host: Some("here".into()),
    }
}

/// Leaves nothing that is not used.
fn prune(test_repo: &TestRepo, host: &Host, grace: Duration) -> Result<PruneReport, OpsError> {
    let options = limits(grace, MaxUnused::Bytes(0));
    ops::plan_prune(&test_repo.project, &options, false, &host.context())?.run()
}

fn forget(test_repo: &TestRepo, backups: &[ObjectHash]) {
    try_forget(test_repo, backups).unwrap();
}

fn try_forget(test_repo: &TestRepo, backups: &[ObjectHash]) -> Result<(), OpsError> {
    let records = Records::load(&test_repo.project)?;
    let tombstones = Tombstones::load(&test_repo.project)?;
    let what = Forget::Named {
        backups: backups.iter().map(ToString::to_string).collect(),
        force: true,
    };
    let plan = ops::plan_forget(&records, &tombstones, &what, jiff::Timestamp::now())?;
    let host = Host::without_cache();
    ops::forget(&test_repo.project, &plan, None, &host.context())?;
    Ok(())
}

fn open(store: &(impl Backend + Clone + 'static)) -> TestRepo {
    TestRepo::open(store.clone(), &Heard::default()).unwrap()
}

/// Names of the store's objects in a directory of the project.
fn names(store: &dyn Backend, directory: &str) -> Vec<String> {
    let objects = store.list("projects").unwrap();
    let names = objects.iter().map(|object| object.name.as_str());
    let below = names.filter(|name| name.split('/').nth(2) == Some(directory));
    below
        .map(|name| name.rsplit('/').next().unwrap().to_owned())
        .collect()
}

/// How often each blob lies in the packs of the store.
fn stored(test_repo: &TestRepo, store: &dyn Backend) -> BTreeMap<BlobId, u64> {
    let mut found = BTreeMap::new();
    for pack in names(store, "packs") {
        let listing = read_listing(&test_repo.project, pack.parse().unwrap(), None).unwrap();
        for blob in listing.contents.blobs() {
            *found.entry(blob.id).or_default() += 1;
        }
    }
    found
}

/// What the backups use: chunks once, nodes twice.
fn used(test_repo: &TestRepo) -> BTreeMap<BlobId, u64> {
    let heard = Arc::new(Heard::default());
    let index = Index::in_memory(&test_repo.project, heard.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut found = BTreeMap::new();
    for backup in test_repo.backups() {
        let reader = ImageReader::new(&blobs, &backup);
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

/// In the store is what the backups use, and nothing else.
fn is_tidy(test_repo: &TestRepo, store: &dyn Backend, when: &str) {
    assert_eq!(stored(test_repo, store), used(test_repo), "{when}");
    for directory in ["marks", "leases"] {
        assert_eq!(names(store, directory), Vec::<String>::new(), "{when}");
    }
    // What is named is there, and what is there is named.
    let heard = Arc::new(Heard::default());
    let index = Index::in_memory(&test_repo.project, heard.clone()).unwrap();
    let mut named = BTreeSet::new();
    index
        .each_pack(|pack| {
            named.insert(pack.pack.to_string());
            Ok(())
        })
        .unwrap();
    let there: BTreeSet<_> = names(store, "packs").into_iter().collect();
    assert_eq!(named, there, "{when}");
    assert_eq!(index.replaced_segments().unwrap(), [], "{when}");
}

/// A line of images, of which each shares something with others; what only one has differs in every way.
struct Line {
    days: Vec<Image>,
}

impl Line {
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

    /// A store with a backup of each day, an hour old; their ids.
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

    /// Every backup that there is restores to one of the days.
    fn is_whole(&self, test_repo: &TestRepo, when: &str) {
        let host = Host::without_cache();
        host.check_clean(test_repo, when);
        for backup in test_repo.backups() {
            let restored = host.restore_image(test_repo, &backup).unwrap();
            assert!(self.days.contains(&restored), "{when}");
        }
    }
}

#[test]
fn what_no_backup_uses_goes_and_nothing_else() {
    let line = Line::new();
    for kept in 1..32_u32 {
        let when = format!("{kept:#b}");
        let (store, ids) = line.backed_up();
        let test_repo = open(&store);
        let (keep, gone): (Vec<_>, Vec<_>) = (0..5).partition(|day| kept & 1 << day != 0);
        forget(
            &test_repo,
            &gone.iter().map(|day: &usize| ids[*day]).collect::<Vec<_>>(),
        );
        let before = stored(&test_repo, &store);
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert!(
            gone.is_empty() || report.deleted.packs > 0 || before == used(&test_repo),
            "{when}"
        );
        is_tidy(&test_repo, &store, &when);
        line.is_whole(&test_repo, &when);
        assert_eq!(test_repo.backups().len(), keep.len());
        // And once more there is nothing to do.
        let puts = names(&store, "index");
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert_eq!(
            (
                report.deleted.packs,
                report.marked.packs,
                report.bytes_written
            ),
            (0, 0, 0),
            "{when}: {report:?}"
        );
        assert_eq!(names(&store, "index"), puts, "{when}");
    }
}

#[test]
fn a_stream_keeps_what_it_needs() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = [noise(1, 3 << 20), vec![0; 1 << 20], noise(2, 1 << 20)].concat();
    let second = [noise(1, 2 << 20), noise(3, 1 << 20)].concat();
    let gone = host.back_up_stream(&test_repo, "dump", &first).unwrap().id;
    let stays = host.back_up_stream(&test_repo, "dump", &second).unwrap().id;
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "streams");
    assert!(host.restore(&test_repo, &test_repo.backup(stays)).unwrap() == second);
    host.check_clean(&test_repo, "streams");
}

#[test]
fn the_grace_period_lets_everything_lie() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    let host = Host::with_cache();
    forget(&test_repo, &ids[..3]);
    let all = stored(&test_repo, &store);
    // Too young.
    let report = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!((report.deleted.packs, report.marked.packs), (0, 0));
    assert_eq!(stored(&test_repo, &store), all);
    store.age(GRACE);
    let report = prune(&test_repo, &host, GRACE).unwrap();
    assert!(report.deleted.packs == 0 && report.marked.packs > 0);
    let packs = names(&store, "packs");
    assert!(
        all.keys()
            .all(|id| stored(&test_repo, &store).contains_key(id))
    );
    line.is_whole(&test_repo, "marked");
    // Whoever looks meanwhile does not come to rely on what is going to be deleted.
    host.check_clean(&test_repo, "marked");
    // Nothing has passed.
    store.age(Duration::from_hours(23));
    let again = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!((again.deleted.packs, again.marked.packs), (0, 0));
    assert_eq!(names(&store, "packs"), packs);
    store.age(HOUR);
    let last = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!(last.deleted, report.marked);
    is_tidy(&test_repo, &store, "deleted");
    line.is_whole(&test_repo, "deleted");
    host.back_up(&test_repo, "disk", &line.days[4]).unwrap();
    let rebuilt = host
        .heard
        .take()
        .into_iter()
        .any(|n| matches!(n, Notice::IndexRebuilt(_)));
    assert!(
        !rebuilt,
        "what was deleted is let go of, and the cache is kept"
    );
}

#[test]
fn a_plan_shows_and_touches_nothing() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    forget(&open(&store), &ids[..4]);
    let faulty = FaultBackend::holding(&store);
    let test_repo = open(&faulty);
    let host = Host::without_cache();
    let _ = faulty.take_log();
    let options = limits(Duration::ZERO, MaxUnused::Bytes(0));
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, true, &context).unwrap();
    let (mark, repack, used) = {
        let plan = planned.plan();
        (plan.mark, plan.repack, plan.repack_used)
    };
    planned.close();
    let writes = [StorageOperation::Put, StorageOperation::Delete];
    assert!(
        faulty
            .take_log()
            .iter()
            .all(|call| !writes.contains(&call.operation))
    );
    assert!(mark.packs > 0 && repack.packs > 0 && used > 0 && used < repack.bytes);
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_eq!(report.deleted.packs, mark.packs + repack.packs);
    assert_eq!(report.deleted.bytes, mark.bytes + repack.bytes);
    assert!(report.bytes_read >= used && report.bytes_read <= repack.bytes);
}

#[test]
fn unused_space_is_tolerated_up_to_the_limit() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[1..]);
    let options = limits(Duration::ZERO, MaxUnused::Unlimited);
    let context = host.context();
    let report = ops::plan_prune(&test_repo.project, &options, false, &context)
        .unwrap()
        .run()
        .unwrap();
    assert!(
        report.repacked.packs == 0 && report.deleted.packs > 0,
        "{report:?}"
    );
    line.is_whole(&test_repo, "only whole packs");
    let options = PruneOptions {
        max_repack: Some(0),
        ..limits(Duration::ZERO, MaxUnused::Bytes(0))
    };
    let report = ops::plan_prune(&test_repo.project, &options, false, &context)
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(report.repacked.packs, 0, "{report:?}");
}

/// Backups of some volumes, packed again, do not share packs.
#[test]
fn what_one_volume_uses_stays_together() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let mut gone = Vec::new();
    for day in 0..3_u64 {
        for volume in ["a1", "b2", "c3"] {
            let seed = day + 100 * u64::from(volume.as_bytes()[0]);
            let image = Image::new(LEAF)
                .with(0, &noise(seed, CHUNK))
                .with(LEAF / 2, &noise(seed + 50, CHUNK));
            let kept = Image::new(LEAF).with(0, &noise(seed, CHUNK));
            gone.push(host.back_up(&test_repo, volume, &image).unwrap().id);
            host.back_up(&test_repo, &format!("{volume} stays"), &kept)
                .unwrap();
        }
    }
    forget(&test_repo, &gone);
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    let heard = Arc::new(Heard::default());
    let index = Index::in_memory(&test_repo.project, heard.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut volumes: BTreeMap<ObjectHash, BTreeSet<String>> = BTreeMap::new();
    for backup in test_repo.backups() {
        ImageReader::new(&blobs, &backup)
            .each_chunk(|chunk| {
                let pack = index.find(&chunk.id)?.unwrap().pack();
                let volume = backup.record.volume.name.clone();
                volumes.entry(pack).or_default().insert(volume);
                Ok::<(), RepoError>(())
            })
            .unwrap();
    }
    assert!(
        volumes.values().all(|names| names.len() == 1),
        "{volumes:?}"
    );
}

#[test]
fn many_small_segments_become_few() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let mut image = Image::new(LEAF);
    for day in 0..12_u32 {
        image.write(u64::from(day) * CHUNK as u64, &noise(day.into(), CHUNK));
        host.back_up(&test_repo, "disk", &image).unwrap();
    }
    store.age(HOUR);
    assert!(names(&store, "index").len() >= 12);
    let before = stored(&test_repo, &store);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(
        names(&store, "index").len() <= 2,
        "{:?}",
        names(&store, "index")
    );
    assert!(before.keys().eq(stored(&test_repo, &store).keys()));
    host.check_clean(&test_repo, "merged");
    let made = host.back_up(&test_repo, "disk", &image).unwrap();
    assert_eq!(made.chunks_new, 0);
}

/// Prunes with this fault, crashes, and looks at what is left. Whether the fault came.
fn crash_once(line: &Line, base: &MemoryBackend, grace: Duration, plan: Plan) -> bool {
    let when = format!("{plan:?}, {grace:?}");
    let faulty = FaultBackend::holding(base);
    let mut host = Host::without_cache();
    host.threads = 1;
    let test_repo = open(&faulty);
    let backups = test_repo.backups().len();
    faulty.set_plan(plan);
    let _ = prune(&test_repo, &host, grace);
    if faulty.is_planned() {
        return false;
    }
    drop(test_repo);
    let store = faulty.crash();
    let test_repo = open(&store);
    assert_eq!(test_repo.backups().len(), backups, "{when}");
    line.is_whole(&test_repo, &when);
    // A backup uses what is there, and does not mind.
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
    // The dead run's lease, and the marks, grow old.
    for _ in 0..2 {
        store.age(DEAD.max(grace));
        prune(&test_repo, &host, grace).unwrap();
    }
    store.age(DEAD.max(grace));
    prune(&test_repo, &host, grace).unwrap();
    line.is_whole(&test_repo, &when);
    is_tidy(&test_repo, &store, &when);
    true
}

/// Makes a backup, and takes the names of its packs away, as if it had been killed before they got them. Its record is
/// still there.
fn leave_unnamed(test_repo: &TestRepo, store: &MemoryBackend) -> ObjectHash {
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

/// A store in which something is marked, and something was uploaded and never named.
fn neglected(line: &Line) -> MemoryBackend {
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[1..2]);
    store.age(GRACE);
    prune(&test_repo, &host, GRACE).unwrap();
    let gone = leave_unnamed(&test_repo, &store);
    forget(&test_repo, &[gone, ids[2]]);
    store.age(GRACE);
    store
}

/// A fault, and which calls are counted for it.
type At = (fn(u64, Fault) -> Plan, Fault);

/// Sweeps over all calls of a prune; how many there were with each fault.
fn sweep(grace: Duration, faults: &[At]) {
    let line = Line::of(3);
    let base = neglected(&line);
    for (at, fault) in faults {
        let calls = (1..).take_while(|n| crash_once(&line, &base, grace, at(*n, *fault)));
        let calls = calls.count();
        assert!(calls >= 8, "{fault:?}: {calls} are too few to tell much");
    }
}

const DEATHS: [At; 2] = [
    (Plan::at, Fault::Die(Moment::Before)),
    (Plan::at, Fault::Die(Moment::After)),
];
const FAILURES: [At; 3] = [
    (Plan::at_write, Fault::Tear),
    (Plan::at_write, Fault::Fail(StorageErrorKind::Full)),
    (Plan::at_write, Fault::FailAfter(StorageErrorKind::Io)),
];

#[test]
fn a_store_that_dies_at_any_call_of_a_prune() {
    sweep(GRACE, &DEATHS);
}

#[test]
fn a_store_that_dies_at_any_call_of_a_prune_without_grace() {
    sweep(Duration::ZERO, &DEATHS);
}

#[test]
fn a_store_that_fails_any_write_of_a_prune() {
    sweep(GRACE, &FAILURES);
}

#[test]
fn a_store_that_fails_any_write_of_a_prune_without_grace() {
    sweep(Duration::ZERO, &FAILURES);
}

/// Bytes, before which something happens.
struct After<F> {
    first: Option<F>,
    bytes: Cursor<Vec<u8>>,
}

impl<F: FnOnce()> Read for After<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(first) = self.first.take() {
            first();
        }
        self.bytes.read(into)
    }
}

fn after(bytes: &[u8], first: impl FnOnce() + Send + 'static) -> Input {
    stream_of(After {
        first: Some(first),
        bytes: Cursor::new(bytes.to_vec()),
    })
}

/// A backup finds chunks in the index; then the only backup that used them is forgotten, and a prune marks them.
#[test]
fn a_backup_stores_again_what_is_marked_beside_it() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let content = noise(1, 2 << 20);
    let host = Host::without_cache();
    let old = host.back_up_stream(&test_repo, "old", &content).unwrap().id;
    store.age(2 * GRACE);
    let meanwhile = store.clone();
    let source = after(&content, move || {
        let test_repo = open(&meanwhile);
        forget(&test_repo, &[old]);
        let report = prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
        assert!(report.marked.packs > 0 && report.deleted.packs == 0);
    });
    let new = host.run(&test_repo, source, &options("new")).unwrap().id;
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
    for _ in 0..3 {
        store.age(GRACE + HOUR);
        prune(&test_repo, &host, GRACE).unwrap();
    }
    is_tidy(&test_repo, &store, "later");
    host.check_clean(&test_repo, "later");
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
}

/// The same, but the prune deletes at once: there is nothing left to store again.
#[test]
fn a_backup_gives_up_when_what_it_relies_on_is_deleted_beside_it() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let content = noise(1, 2 << 20);
    let host = Host::without_cache();
    let old = host.back_up_stream(&test_repo, "old", &content).unwrap().id;
    store.age(HOUR);
    let meanwhile = store.clone();
    let source = after(&content, move || {
        let test_repo = open(&meanwhile);
        forget(&test_repo, &[old]);
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert!(report.deleted.packs > 0);
    });
    let failed = host.run(&test_repo, source, &options("new"));
    assert!(
        matches!(&failed, Err(OpsError::OutrunByPrune { .. })),
        "{failed:?}"
    );
    assert_eq!(test_repo.backups().len(), 0);
    let new = host.back_up_stream(&test_repo, "new", &content).unwrap().id;
    host.check_clean(&test_repo, "again");
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
}

/// A backup builds on the tree of another one, most of which it does not look at; that one is forgotten and
/// pruned while it runs.
#[test]
fn a_base_that_goes_takes_nothing_with_it() {
    for grace in [GRACE, Duration::ZERO] {
        for marked_before in [false, true] {
            let when = format!("{grace:?}, marks before: {marked_before}");
            let line = Line::new();
            let store = MemoryBackend::new();
            let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
            let host = Host::without_cache();
            let base = host.back_up(&test_repo, "disk", &line.days[0]).unwrap().id;
            store.age(2 * GRACE);
            if marked_before {
                let image = Image::new(LEAF).with(0, &noise(70, CHUNK));
                let other = host.back_up(&test_repo, "other", &image).unwrap().id;
                forget(&test_repo, &[other]);
                store.age(2 * GRACE);
                prune(&test_repo, &host, GRACE).unwrap();
                assert!(!names(&store, "marks").is_empty());
            }
            // The extents are dealt out before anything is committed: a prune in the midst of it.
            let faulty = Hooked::new(store.clone(), StorageOperation::Put, move |store| {
                let test_repo = open(&store);
                forget(&test_repo, &[base]);
                prune(&test_repo, &Host::without_cache(), grace).unwrap();
            });
            let beside = TestRepo::open(faulty, &Heard::default()).unwrap();
            let made = host.back_up(&beside, "disk", &line.days[1]);
            match &made {
                Ok(made) => {
                    let restored = host
                        .restore_image(&test_repo, &test_repo.backup(made.id))
                        .unwrap();
                    assert!(restored == line.days[1], "{when}");
                }
                Err(OpsError::OutrunByPrune { .. }) => {}
                Err(error) if super::is_damage(error) => {}
                Err(error) => panic!("{when}: {error:?}"),
            }
            host.check_clean(&test_repo, &when);
            host.back_up(&test_repo, "disk", &line.days[1]).unwrap();
            line.is_whole(&test_repo, &when);
            for _ in 0..3 {
                store.age(GRACE + HOUR);
                prune(&test_repo, &host, grace).unwrap();
            }
            is_tidy(&test_repo, &store, &when);
            line.is_whole(&test_repo, &when);
        }
    }
}

/// Puts the records back that are gone, as though nobody had forgotten them.
fn commit_again(store: &MemoryBackend, before: &MemoryBackend) {
    for object in before.list("projects").unwrap() {
        if object.name.as_str().contains("/backups/") {
            let record = before.get(&object.name, 1 << 20).unwrap();
            store.put(&object.name, &[&record]).unwrap();
        }
    }
    for object in store.list("projects").unwrap() {
        if object.name.as_str().contains("/tombstones/") {
            store.delete(&object.name).unwrap();
        }
    }
}

/// A store with a backup of each day, of which one was committed while a prune marked what it uses.
fn marked_and_in_use(line: &Line, day: usize) -> (MemoryBackend, Vec<ObjectHash>) {
    let (store, ids) = line.backed_up();
    let before = store.copy();
    let test_repo = open(&store);
    forget(&test_repo, &[ids[day]]);
    store.age(GRACE);
    prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    assert!(!names(&store, "marks").is_empty());
    commit_again(&store, &before);
    (store, ids)
}

fn damage(test_repo: &TestRepo, store: &MemoryBackend, pack: ObjectHash) {
    let object = ObjectRef::Pack(test_repo.project.id, pack);
    let mut bytes = store.get(&object.name(), 1 << 30).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&object.name(), &[&bytes]).unwrap();
}

/// A backup may be committed on what is marked at the same time, and the prune be killed before it looks again. Then a
/// record needs a pack that has lost its name, while others have none because a backup was killed.
#[test]
fn what_came_into_use_after_it_was_marked_is_found() {
    let line = Line::of(3);
    let (store, ids) = marked_and_in_use(&line, 1);
    let test_repo = open(&store);
    let gone = leave_unnamed(&test_repo, &store);
    forget(&test_repo, &[gone]);
    assert_eq!(test_repo.backups().len(), ids.len());
    store.age(HOUR);

    let report = prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    assert!(report.rescued > 0, "{report:?}");
    line.is_whole(&test_repo, "in use again");
    for _ in 0..3 {
        store.age(2 * GRACE);
        prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    }
    line.is_whole(&test_repo, "later");
    is_tidy(&test_repo, &store, "later");
}

/// What was packed again is damaged where it lies now. What it was packed from is still there, and is deleted by the next
/// prune all the same: a backup that needs it is not whole.
#[test]
fn a_check_does_not_count_on_what_is_going_to_be_deleted() {
    let line = Line::of(3);
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    let before: BTreeSet<_> = names(&store, "packs").into_iter().collect();
    forget(&test_repo, &ids[1..2]);
    let report = prune(&test_repo, &Host::without_cache(), GRACE / 48).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    for pack in names(&store, "packs") {
        if !before.contains(&pack) {
            damage(&test_repo, &store, pack.parse().unwrap());
        }
    }
    let (report, _) = Host::without_cache().check(&test_repo, true);
    assert_eq!(report.backups_affected, ids[2..]);
    // But if the damaged packs are deleted, the next prune comes to need what they were packed from.
    for pack in names(&store, "packs") {
        if !before.contains(&pack) {
            let object = ObjectRef::Pack(test_repo.project.id, pack.parse().unwrap());
            store.delete(&object.name()).unwrap();
        }
    }
    for read_data in [false, true] {
        let (report, findings) = Host::without_cache().check(&test_repo, read_data);
        assert_eq!(report.backups_affected, [], "{findings:#?}");
        assert!(report.packs_damaged > 0);
    }
    prune(&test_repo, &Host::without_cache(), GRACE / 48).unwrap();
    line.is_whole(&test_repo, "rescued");
}

/// The same, and the next backup builds on such a record.
#[test]
fn what_is_marked_and_in_use_can_be_built_upon() {
    let line = Line::of(3);
    let (store, _) = marked_and_in_use(&line, 2);
    let test_repo = open(&store);
    let next = line.days[2].clone().with(0, &noise(79, CHUNK));
    let host = Host::without_cache();
    host.back_up(&test_repo, "disk", &next).unwrap();
    assert!(
        host.restore_image(&test_repo, test_repo.backups().last().unwrap())
            .unwrap()
            == next
    );
    store.age(2 * GRACE);
    prune(&test_repo, &host, GRACE).unwrap();
    host.check_clean(&test_repo, "pruned");
}

/// Packs of a backup that runs have no name for a while. They may look older than the lease of that backup if a put of the
/// lease took minutes, or the store's clock was set.
#[test]
fn what_a_running_backup_stored_stays_whatever_the_clock_says() {
    let line = Line::of(1);
    let (store, _) = line.backed_up();
    let test_repo = open(&store);
    let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    let gone = leave_unnamed(&test_repo, &store);
    forget(&test_repo, &[gone]);
    let packs = names(&store, "packs");
    store.age(LATE);
    running.intend(&[]).unwrap();
    let host = Host::without_cache();
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_eq!((report.marked.packs, report.deleted.packs), (0, 0));
    assert_eq!(names(&store, "packs"), packs);
    drop(running);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "it ended");
}

/// A backup that began before a mark was put finds it when it looks again, although all is done that it was put for.
#[test]
fn a_mark_stays_until_backups_that_may_have_missed_it_have_ended() {
    for grace in [Duration::ZERO, LATE / 2] {
        let line = Line::of(3);
        let (store, ids) = line.backed_up();
        let test_repo = open(&store);
        let host = Host::without_cache();
        let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
        forget(&test_repo, &ids[..2]);
        if !grace.is_zero() {
            prune(&test_repo, &host, grace).unwrap();
            store.age(LATE);
            running.intend(&[]).unwrap();
        }
        let report = prune(&test_repo, &host, grace).unwrap();
        assert!(report.deleted.packs > 0);
        assert!(!names(&store, "marks").is_empty(), "{grace:?}");
        line.is_whole(&test_repo, "a mark of what is gone");
        drop(running);
        store.age(GRACE);
        prune(&test_repo, &host, grace).unwrap();
        is_tidy(&test_repo, &store, "it ended");
        line.is_whole(&test_repo, "it ended");
    }
}

/// What is packed again is also in a pack that nothing names, and that is too young to be marked: there it would not have
/// a name.
#[test]
fn what_also_lies_in_a_pack_without_a_name_is_packed_again() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let image = Image::new(LEAF).with(0, &noise(92, 2 * CHUNK));
    let elsewhere = store.copy();
    let other = Host::without_cache();
    other.back_up(&open(&elsewhere), "gone", &image).unwrap();

    let more = image.clone().with(2 * CHUNK as u64, &noise(93, 5 * CHUNK));
    let gone = host.back_up(&test_repo, "more", &more).unwrap().id;
    host.back_up(&test_repo, "stays", &image).unwrap();
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    for object in elsewhere.list("projects").unwrap() {
        if object.name.as_str().contains("/packs/") {
            let pack = elsewhere.get(&object.name, 1 << 30).unwrap();
            store.put(&object.name, &[&pack]).unwrap();
        }
    }
    // A check asks packs without a name what they hold.
    host.check_clean(&test_repo, "before");
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    Host::without_cache().check_clean(&test_repo, "pruned");
    drop(running);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    Host::without_cache().check_clean(&test_repo, "it ended");
    is_tidy(&test_repo, &store, "it ended");
}

/// A pack that is going to be deleted is not read by a check, unless a backup needs it after all.
#[test]
fn a_check_reads_what_is_marked_if_a_backup_needs_it() {
    let line = Line::of(3);
    let (store, ids) = line.backed_up();
    let before = store.copy();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..2]);
    store.age(GRACE);
    prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    let marked = Marks::load(&test_repo.project).unwrap().packs();
    assert!(!marked.is_empty());
    let read = |test_repo: &TestRepo| Host::without_cache().check(test_repo, true);
    let without = read(&test_repo).0.bytes_read;
    commit_again(&store, &before);
    let (report, findings) = read(&test_repo);
    assert!(findings.is_empty(), "{findings:?}");
    assert!(report.bytes_read > without, "what is marked is in use");
    for pack in marked {
        let name = ObjectRef::Pack(test_repo.project.id, pack).name();
        // Not those of nodes: nothing below them would be looked at.
        if store.size(&name).unwrap() > CHUNK as u64 {
            damage(&test_repo, &store, pack);
        }
    }
    let (report, findings) = read(&test_repo);
    assert_eq!(report.backups_affected, [ids[1]], "{findings:#?}");
    assert!(report.packs_damaged > 0);
}

/// A prune has seen which packs there are, and looks for what it misses. It comes upon segments of backups that were
/// made meanwhile: their packs are not lost because it has not seen them.
#[test]
fn what_is_stored_while_it_looks_again_keeps_its_name() {
    let line = Line::of(3);
    let (store, _) = line.backed_up();
    let test_repo = open(&store);
    leave_unnamed(&test_repo, &store);
    store.age(HOUR);
    let new = line.days[2].clone().with(0, &noise(78, 2 * CHUNK));
    let content = new.clone();
    let hooked = Hooked::new(store.clone(), StorageOperation::Get, move |store| {
        let test_repo = open(&store);
        let host = Host::without_cache();
        host.back_up(&test_repo, "beside", &content).unwrap();
    });
    let beside = TestRepo::open(hooked, &Heard::default()).unwrap();
    prune(&beside, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_eq!(test_repo.backups().len(), 5);
    for volume in ["later", "later still"] {
        Host::without_cache().check_clean(&test_repo, volume);
        let made = Host::without_cache()
            .back_up(&test_repo, volume, &new)
            .unwrap();
        assert_eq!(made.chunks_new, 0, "all of it has its name");
    }
}

/// A backup asks packs that no segment names, relies on one, and somebody deletes it meanwhile.
#[test]
fn what_has_no_name_and_goes_is_not_relied_on() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let gone = leave_unnamed(&test_repo, &store);
    forget(&test_repo, &[gone]);
    let host = Host::without_cache();
    let hooked = Hooked::new(store.clone(), StorageOperation::Put, |store| {
        for object in store.list("projects").unwrap() {
            if object.name.as_str().contains("/packs/") {
                store.delete(&object.name).unwrap();
            }
        }
    });
    let beside = TestRepo::open(hooked, &host.heard).unwrap();
    let held = Image::new(2 * LEAF).with(0, &noise(77, 3 * CHUNK));
    let image = held.with(LEAF, &noise(79, CHUNK));
    let made = host.back_up_again(&beside, "disk", &image);
    assert!(
        matches!(made, Err(OpsError::OutrunByPrune { .. })),
        "{made:?}"
    );
    assert!(test_repo.backups().is_empty());
    // No segment leads others astray.
    host.back_up(&test_repo, "disk", &image).unwrap();
    host.check_clean(&test_repo, "again");
    let backup = test_repo.backups().pop().unwrap();
    assert!(host.restore_image(&test_repo, &backup).unwrap() == image);
}

/// Two backups at the same time have stored the same chunk. One of the packs is packed again, and the other one goes.
#[test]
fn what_lies_in_two_packs_that_go_is_packed_again() {
    // Which of the two it is that is packed again is left to chance.
    for _ in 0..12 {
        two_packs();
    }
}

fn two_packs() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let shared = Image::new(2 * LEAF).with(0, &noise(80, 2 * CHUNK));
    let first = shared.clone();
    let hooked = Hooked::new(store.clone(), StorageOperation::Put, move |store| {
        let host = Host::without_cache();
        host.back_up(&open(&store), "first", &first).unwrap();
    });
    let beside = TestRepo::open(hooked, &Heard::default()).unwrap();
    let more = shared.clone().with(2 * CHUNK as u64, &noise(81, 5 * CHUNK));
    let second = host.back_up(&beside, "second", &more).unwrap();
    assert!(second.chunks_new >= 7, "it did not know of the first");
    forget(&test_repo, &[second.id]);
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    host.check_clean(&test_repo, "pruned");
    let first = test_repo.backups().pop().unwrap();
    assert!(host.restore_image(&test_repo, &first).unwrap() == shared);
    is_tidy(&test_repo, &store, "pruned");
}

/// Somebody on another host.
const ELSEWHERE: Worker<'static> = Worker {
    host: Some("elsewhere"),
    tool: "test",
};

type Hook = Box<dyn FnOnce(MemoryBackend) + Send>;

/// A store on which something happens before the first pack is stored, or before the first part of one is read.
struct Hooked {
    store: MemoryBackend,
    operation: StorageOperation,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    fn new(
        store: MemoryBackend,
        operation: StorageOperation,
        hook: impl FnOnce(MemoryBackend) + Send + 'static,
    ) -> Self {
        let hook: Hook = Box::new(hook);
        Self {
            store,
            operation,
            hook: Mutex::new(Some(hook)),
        }
    }

    fn happen(&self, operation: StorageOperation, name: &Name) {
        if operation == self.operation && name.as_str().contains("/packs/") {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook(self.store.clone());
            }
        }
    }
}

impl Backend for Hooked {
    fn location(&self) -> &str {
        self.store.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.happen(StorageOperation::Put, name);
        self.store.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.store.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.happen(StorageOperation::Get, name);
        self.store.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.store.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.store.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.store.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.store.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.store.remove_leftovers(directory, age)
    }
}

#[test]
fn two_prunes_do_not_run_beside_each_other() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..]);
    let other = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(&refused, Err(OpsError::PruneRuns { host: Some(host), .. }) if host == "elsewhere"),
        "{refused:?}"
    );
    // It dies: no lock stays behind.
    std::mem::forget(other);
    store.age(DEAD);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "afterwards");
}

/// The packs of a backup that runs are no garbage, however long it runs, and whatever the grace.
#[test]
fn what_a_running_backup_has_stored_is_left_alone() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = noise(1, 8 << 20);
    let second = noise(2, 8 << 20);
    let meanwhile = store.clone();
    let begin = Cursor::new(first.clone());
    let pause = After {
        first: Some(move || {
            let test_repo = open(&meanwhile);
            let stored = || !names(&meanwhile, "packs").is_empty();
            let patience = (0..2000).map(|_| thread::sleep(Duration::from_millis(10)));
            assert!(stored() || patience.take_while(|()| !stored()).count() < 2000);
            for grace in [Duration::ZERO, HOUR] {
                let report = prune(&test_repo, &Host::without_cache(), grace).unwrap();
                assert_eq!((report.deleted.packs, report.marked.packs), (0, 0));
            }
        }),
        bytes: Cursor::new(second.clone()),
    };
    let source = stream_of(begin.chain(pause));
    let new = host.run(&test_repo, source, &options("new")).unwrap().id;
    let whole = host.restore(&test_repo, &test_repo.backup(new)).unwrap();
    assert!(whole == [first, second].concat());
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "afterwards");
}

#[test]
fn a_record_that_cannot_be_read_stops_it() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..3]);
    let name = ObjectRef::Backup(test_repo.project.id, ids[4]).name();
    let whole = store.get(&name, 1 << 20).unwrap();
    store.put(&name, &[&whole[..whole.len() - 1]]).unwrap();
    store.age(HOUR);
    let packs = names(&store, "packs");
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(&refused, Err(OpsError::Unreadable { .. })),
        "{refused:?}"
    );
    assert_eq!(names(&store, "packs"), packs);
    store.put(&name, &[&whole]).unwrap();
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "put back");
}

#[test]
fn a_blob_that_is_missing_stops_it() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..1]);
    let heard = Arc::new(Heard::default());
    let index = Index::in_memory(&test_repo.project, heard.clone()).unwrap();
    let mut chunks = Vec::new();
    index
        .each_pack(|pack| {
            if pack.contents.kind == BlobKind::Chunk {
                chunks.push(pack.pack);
            }
            Ok(())
        })
        .unwrap();
    let lost = ObjectRef::Pack(test_repo.project.id, *chunks.last().unwrap()).name();
    let bytes = store.get(&lost, u64::MAX).unwrap();
    store.delete(&lost).unwrap();
    let packs = names(&store, "packs");
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(&refused, Err(OpsError::Repo(e)) if e.kind() == RepoErrorKind::Damaged),
        "{refused:?}"
    );
    assert_eq!(names(&store, "packs"), packs);
    store.put(&lost, &[&bytes]).unwrap();
    store.age(HOUR);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "put back");
}

/// A segment that is damaged is made good: its packs say what they hold, and a new one names them.
#[test]
fn a_segment_that_is_damaged_is_replaced() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..2]);
    let segment = names(&store, "index")[0].parse().unwrap();
    let name = ObjectRef::Index(test_repo.project.id, segment).name();
    let mut bytes = store.get(&name, 1 << 20).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&name, &[&bytes]).unwrap();
    store.age(HOUR);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    is_tidy(&test_repo, &store, "mended");
    line.is_whole(&test_repo, "mended");
}
