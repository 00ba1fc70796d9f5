//! The store dies, or fails, at every single call: nothing committed suffers, and what was stored is used.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cuttlebone::base::{BlobId, ObjectHash};
use cuttlebone::format::{BlobKind, ContentKind};
use cuttlebone::ops::{Input, OpsError};
use cuttlebone::repo::{
    Backup, BlobReader, ErrorKind, ImageReader, Index, Repository, read_listing,
};
use cuttlebone::storage::{
    Backend, ErrorKind as Failure, Fault, FaultBackend, MemoryBackend, Moment, Plan,
};

use super::{CHUNK, Heard, Host, House, Image, KIB, SLOT, is_damage, noise, options};

/// What the volumes hold, before and after a day.
struct Days {
    first: Image,
    second: Image,
    stream: Vec<u8>,
}

impl Days {
    fn new() -> Self {
        let chunk = CHUNK as u64;
        let first = Image::new(5 * SLOT + 1000)
            .with(0, &noise(1, 2 * CHUNK))
            .with(SLOT, &noise(2, 2 * CHUNK))
            .with(3 * SLOT, &noise(3, CHUNK))
            .with(5 * SLOT, &noise(4, 1000));
        let second = first
            .clone()
            // Changed, zeroed, new in a slot that was there, new in one that was not, what another has.
            .with(chunk, &noise(5, 2 * CHUNK))
            .with(SLOT, &vec![0; CHUNK])
            .with(SLOT + 9 * chunk, &noise(6, 2 * CHUNK))
            .with(2 * SLOT, &noise(7, 2 * CHUNK))
            .with(3 * SLOT, &vec![0; CHUNK])
            .with(4 * SLOT, &noise(1, CHUNK));
        Self {
            first,
            second,
            stream: [noise(8, 150 * KIB), vec![0; 90 * KIB], noise(9, 150 * KIB)].concat(),
        }
    }

    /// The second day's backups. How many chunks were new.
    fn second_day(&self, host: &Host, house: &House) -> Result<u64, OpsError> {
        let image = host.back_up(house, "disk", &self.second)?;
        let stream = host.back_up_stream(house, "dump", &self.stream)?;
        Ok(image.chunks_new + stream.chunks_new)
    }

    /// The same, made good whatever was lost.
    fn second_day_again(&self, host: &Host, house: &House) -> Result<(), OpsError> {
        host.back_up_again(house, "disk", &self.second)?;
        host.back_up_stream_again(house, "dump", &self.stream)?;
        Ok(())
    }

    /// Whether a backup restores to what it is of; if it does not restore, why.
    fn restores(&self, host: &Host, house: &House, backup: &Backup) -> Result<bool, OpsError> {
        Ok(match backup.record.content.kind {
            ContentKind::Image => {
                let image = host.restore_image(house, backup)?;
                image == self.first || image == self.second
            }
            ContentKind::Stream => host.restore(house, backup)? == self.stream,
        })
    }
}

/// The chunks in all packs that segments name.
fn indexed(house: &House) -> HashSet<BlobId> {
    let heard = Heard::default();
    let index = Index::in_memory(&house.project, &heard).unwrap();
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
fn noted(host: &Host, house: &House) -> HashSet<BlobId> {
    let Some(cache) = &host.cache else {
        return HashSet::new();
    };
    let project = &house.project;
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

/// The chunks that the backups of the second day are made of.
fn wanted(house: &House) -> HashSet<BlobId> {
    let heard = Heard::default();
    let index = Index::in_memory(&house.project, &heard).unwrap();
    let blobs = BlobReader::new(&index);
    let mut ids = HashSet::new();
    for backup in &house.backups()[1..] {
        ImageReader::new(&blobs, backup)
            .each_chunk(|chunk| {
                ids.insert(chunk.id);
                Ok(())
            })
            .unwrap();
    }
    ids
}

/// A store with the first day's backup.
fn first_day(days: &Days) -> MemoryBackend {
    let store = MemoryBackend::new();
    let house = House::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    host.back_up(&house, "disk", &days.first).unwrap();
    store
}

/// Every committed backup is whole, and those from this number on are what they should be.
fn all_whole(host: &Host, house: &House, days: &Days, from: usize, when: &str) {
    host.check_clean(house, when);
    for backup in &house.backups()[from..] {
        assert!(days.restores(host, house, backup).unwrap(), "{when}");
    }
}

/// Runs the second day's backups with the fault, crashes, and looks at what is left. Whether the fault came.
fn crash_once(
    base: &MemoryBackend,
    days: &Days,
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
    let ran = House::open(store.clone(), &host.heard)
        .map_err(OpsError::from)
        .and_then(|house| days.second_day(&host, &house));
    if store.is_planned() {
        return false;
    }
    // A lost copy or answer can be survived; that is no reason to go on as if all were well.
    let store = store.crash();
    let house = House::open(store.clone(), &host.heard).unwrap();
    all_whole(&Host::without_cache(), &house, days, 0, &when);
    let committed = house.backups().len();
    assert!(committed >= 1, "{when}: the first day's backup is there");
    assert!(
        committed == 3 || ran.is_err(),
        "{when}: what was reported is there"
    );

    let held: HashSet<_> = indexed(&house)
        .union(&noted(&host, &house))
        .copied()
        .collect();
    let missing = wanted.difference(&held).count() as u64;
    let new = days.second_day(&host, &house).unwrap();
    assert_eq!(new, missing, "{when}: stored is what was not there");
    assert_eq!(house.backups().len(), committed + 2, "{when}");
    all_whole(&host, &house, days, committed, &when);
    true
}

fn sweep(with_cache: bool, plans: impl Fn(u64) -> Vec<Plan>) -> u64 {
    let days = Days::new();
    let base = first_day(&days);
    let whole = base.copy();
    let house = House::open(whole, &Heard::default()).unwrap();
    days.second_day(&Host::without_cache(), &house).unwrap();
    let wanted = wanted(&house);
    for n in 1.. {
        let came = plans(n)
            .into_iter()
            .map(|plan| crash_once(&base, &days, &wanted, with_cache, plan))
            .fold(false, |some, came| some | came);
        if !came {
            return n - 1;
        }
    }
    unreachable!("a sweep ends behind the last call")
}

fn deaths(n: u64) -> Vec<Plan> {
    [Moment::Before, Moment::After]
        .map(|moment| Plan::at(n, Fault::Die(moment)))
        .to_vec()
}

fn failures(n: u64) -> Vec<Plan> {
    [
        Fault::Tear,
        Fault::Fail(Failure::Full),
        Fault::FailAfter(Failure::Io),
    ]
    .map(|fault| Plan::at_write(n, fault))
    .to_vec()
}

#[test]
fn a_store_that_dies_at_any_call_of_a_backup() {
    let calls = sweep(false, deaths);
    assert!(calls > 40, "{calls} calls are too few to tell much");
}

#[test]
fn a_store_that_dies_at_any_call_of_a_backup_on_a_host_with_a_cache() {
    let calls = sweep(true, deaths);
    assert!(calls > 40, "{calls} calls are too few to tell much");
}

#[test]
fn a_store_that_fails_any_write_of_a_backup() {
    let writes = sweep(false, failures);
    assert!(writes > 20, "{writes} writes are too few to tell much");
    assert_eq!(sweep(true, failures), writes);
}

/// A store that lies about what is durable loses one object. Nobody can make up for a chunk, but it is told,
/// and every other object has a second life.
/// A pipe that gives what it has, and then nothing, not even its end, as long as somebody asks.
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
        assert!(asked < 2000, "nobody hears that the backup has failed");
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[test]
fn an_idle_stream_does_not_keep_a_failure_waiting() {
    let store = FaultBackend::new();
    let house = House::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let source = |asked: &Arc<AtomicU64>| {
        let bytes = Cursor::new(noise(1, 11 << 20));
        let asked = Arc::clone(asked);
        Input::Stream(Box::new(Idle { bytes, asked }))
    };
    let asked = Arc::default();
    store.set_plan(Plan::at_write(1, Fault::Fail(Failure::Full)));
    let failed = host.run(&house, source(&asked), &options("dump"));
    assert!(
        matches!(&failed, Err(OpsError::Repo(e)) if e.kind() == ErrorKind::Storage(Failure::Full)),
        "{failed:?}"
    );

    let asked = Arc::default();
    let stopped = thread::scope(|scope| {
        let running = scope.spawn(|| host.run(&house, source(&asked), &options("dump")));
        while asked.load(Ordering::Relaxed) < 3 && !running.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        host.cancel.cancel();
        running.join().unwrap()
    });
    assert!(
        matches!(&stopped, Err(OpsError::Repo(e)) if e.kind() == ErrorKind::Cancelled),
        "{stopped:?}"
    );
}

#[test]
fn a_store_that_loses_any_one_write_in_a_crash() {
    let days = Days::new();
    let base = first_day(&days);
    let mut damaged = 0;
    for n in 1.. {
        let when = format!("write {n} lost");
        let store = FaultBackend::holding(&base);
        store.set_plan(Plan::at_write(n, Fault::Volatile));
        let host = Host::without_cache();
        let house = House::open(store.clone(), &host.heard).unwrap();
        days.second_day(&host, &house).unwrap();
        if store.is_planned() {
            break;
        }
        let house = House::open(store.crash(), &host.heard).unwrap();
        let backups = house.backups();
        let (report, _) = host.check(&house, true);
        for (number, backup) in backups.iter().enumerate() {
            let affected = report.backups_affected.contains(&backup.id);
            match days.restores(&host, &house, backup) {
                Ok(right) => assert!(right && !affected, "{when}: backup {number}"),
                Err(error) => {
                    assert!(is_damage(&error) && affected, "{when}: {error:?}");
                    assert!(number > 0, "{when}: what was durable before stays");
                    damaged += 1;
                }
            }
        }
        days.second_day_again(&host, &house).unwrap();
        for backup in &house.backups()[backups.len()..] {
            assert!(days.restores(&host, &house, backup).unwrap(), "{when}");
        }
    }
    assert!(damaged > 0, "a lost chunk is not made up for");
}

#[test]
fn making_a_repository_is_all_or_nothing() {
    let whole = FaultBackend::new();
    House::init(whole.clone(), CHUNK).unwrap();
    let faults = [
        Fault::Die(Moment::Before),
        Fault::Die(Moment::After),
        Fault::Tear,
        Fault::Volatile,
        Fault::Fail(Failure::Full),
        Fault::FailAfter(Failure::Io),
    ];
    let image = Image::new(SLOT).with(0, &noise(1, CHUNK));
    for fault in faults {
        for n in 1..=whole.calls() {
            let when = format!("{fault:?} at {n}");
            let store = FaultBackend::new();
            store.set_plan(Plan::at(n, fault));
            let made = House::init(store.clone(), CHUNK).is_ok();
            let store = store.crash();
            let host = Host::without_cache();
            let house = match House::open(store.clone(), &host.heard) {
                Ok(house) => house,
                Err(error) => {
                    assert!(!made, "{when}: {error}");
                    assert_eq!(error.kind(), ErrorKind::NoRepository, "{when}");
                    assert!(!Repository::exists(&store).unwrap(), "{when}");
                    House::init(store.clone(), CHUNK).unwrap();
                    House::open(store.clone(), &host.heard).unwrap()
                }
            };
            let id = host.back_up(&house, "disk", &image).unwrap().id;
            let restored = host.restore_image(&house, &house.backup(id)).unwrap();
            assert!(restored == image, "{when}");
            let (report, _) = host.check(&house, true);
            assert!(report.backups_affected.is_empty(), "{when}");
            assert!(!store.list("").unwrap().is_empty());
        }
    }
}
