//! A panic in any thread of a backup ends the backup with that panic, and not with a deadlock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cuttlebone::base::{Cancel, Notice, Observer, Progress};
use cuttlebone::ops::{Context, OpsError};
use cuttlebone::repo::PackSizes;
use cuttlebone::storage::{Backend, MemoryBackend, Name, ObjectInfo, StorageError};

use super::{
    CHUNK, Host, Image, Input, KIB, LEAF, RecordingObserver, TestRepo, back_up, noise, options,
    stream, stream_of,
};

/// A backup that takes longer waits for ever.
const PATIENCE: Duration = Duration::from_mins(1);
const ON_PURPOSE: &str = "on purpose";

/// Panics at the n-th call.
#[derive(Clone, Default)]
struct Fuse(Arc<AtomicU64>);

impl Fuse {
    /// The n-th call from now on; the first is 1, and 0 is none.
    fn light(&self, n: u64) {
        self.0.store(n, Ordering::SeqCst);
    }

    /// Whether it has burnt down, or was never lit.
    fn is_out(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    fn burn(&self) {
        let less = |n: u64| n.checked_sub(1);
        let before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        assert!(before != Ok(1), "{ON_PURPOSE}");
    }
}

/// A store with a fuse.
#[derive(Clone, Default)]
struct Panicking {
    store: MemoryBackend,
    calls: Fuse,
}

impl Backend for Panicking {
    fn location(&self) -> &'static str {
        "memory"
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.calls.burn();
        self.store.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.calls.burn();
        self.store.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.calls.burn();
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.calls.burn();
        self.store.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.calls.burn();
        self.store.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.calls.burn();
        self.store.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.calls.burn();
        self.store.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.calls.burn();
        self.store.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.calls.burn();
        self.store.remove_leftovers(directory, age)
    }
}

/// An observer with a fuse.
#[derive(Clone, Default)]
struct Startled(Fuse);

impl Observer for Startled {
    fn progress(&self, _: Progress) {
        self.0.burn();
    }

    fn notice(&self, _: Notice) {
        self.0.burn();
    }
}

/// Reads as a stream that panics, as a library behind it may.
struct Broken(Fuse, std::io::Cursor<Vec<u8>>);

impl std::io::Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.burn();
        let most = into.len().min(100 * KIB);
        self.1.read(&mut into[..most])
    }
}

/// How a run ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    Panicked,
}

/// Runs it in a thread of its own; fails if that does not end.
fn watched(when: &str, run: impl FnOnce() -> Result<(), OpsError> + Send + 'static) -> End {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let ending = catch_unwind(AssertUnwindSafe(run));
        let _ = ended.send(ending.map_err(drop));
    });
    let end = end.recv_timeout(PATIENCE);
    match end.unwrap_or_else(|_| panic!("{when}: it hangs")) {
        Ok(Ok(())) => End::Done,
        Ok(Err(error)) => panic!("{when}: an error instead of the panic: {error:?}"),
        Err(()) => End::Panicked,
    }
}

/// What is backed up: many leaves more than may be under way, of which the base has some.
fn day(number: u64) -> Image {
    let mut image = Image::new(40 * LEAF);
    for leaf in 0..40 {
        image.write(leaf * LEAF, &noise(leaf, CHUNK));
        image.write(
            leaf * LEAF + 2 * CHUNK as u64,
            &noise(1000 * number + leaf, CHUNK),
        );
    }
    image
}

/// Backs up with every fuse at every call, until none burns down. In how many runs one did.
fn sweep(what: &str, fuse: &Fuse, mut back_up: impl FnMut(&str) -> End) -> u64 {
    let mut n = 1;
    let mut panicked = 0;
    loop {
        fuse.light(n);
        let when = format!("{what}, call {n}");
        match (back_up(&when), fuse.is_out()) {
            (End::Panicked, true) => panicked += 1,
            (End::Done, false) => break,
            (end, out) => panic!("{when}: {end:?}, fuse out: {out}"),
        }
        // The first calls are each something else, later ones are much alike.
        n += if n < 30 { 1 } else { 7 };
    }
    panicked
}

/// A repository with one backup of the first day.
fn founded() -> MemoryBackend {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    host.back_up(&test_repo, "disk", &day(0)).unwrap();
    store
}

/// After all that, what is there is whole, and the next backup works.
fn is_well(store: &MemoryBackend, what: &str) {
    let host = Host::without_cache();
    let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
    host.check_clean(&test_repo, what);
    let made = host.back_up(&test_repo, "disk", &day(1)).unwrap();
    let backup = test_repo.backup(made.id);
    assert!(host.restore_image(&test_repo, &backup).unwrap() == day(1));
}

/// Backs up once, in a store of its own, and looks whether that harmed it.
fn run_in(
    founded: &MemoryBackend,
    calls: &Fuse,
    surprises: &Fuse,
    when: &str,
    input: impl FnOnce(&Host) -> Input + Send + 'static,
) -> End {
    let store = founded.copy();
    let backend = Panicking {
        store: store.clone(),
        calls: calls.clone(),
    };
    let observer = Startled(surprises.clone());
    // Opening the repository has its calls too; they are not what is looked at here.
    let lit = calls.0.swap(0, Ordering::SeqCst);
    let test_repo = TestRepo::open(backend, &RecordingObserver::default()).unwrap();
    calls.light(lit);
    let end = watched(when, move || {
        let host = Host::without_cache();
        let input = input(&host);
        let mut options = options("disk");
        // Packs that are not full before the end, and packs that are.
        options.pack_sizes = PackSizes::new(500 * KIB, 4 * KIB, 2);
        let context = Context {
            observer: Arc::new(observer),
            cancel: &Cancel::default(),
            threads: 2,
            cache: None,
        };
        back_up(&test_repo.project, input, &options, &context).map(drop)
    });
    if end == End::Panicked && when.ends_with('5') {
        is_well(&store, when);
    }
    end
}

#[test]
fn a_panic_of_the_store_ends_a_backup_without_a_deadlock() {
    let founded = founded();
    let (calls, never) = (Fuse::default(), Fuse::default());
    let panicked = sweep("an image", &calls, |when| {
        run_in(&founded, &calls, &never, when, |host| {
            host.image(&day(1)).unwrap()
        })
    });
    assert!(panicked > 30, "{panicked}");
    let panicked = sweep("a stream", &calls, |when| {
        run_in(&founded, &calls, &never, when, |_| {
            stream(&noise(5, 12 << 20))
        })
    });
    assert!(panicked > 15, "{panicked}");
}

#[test]
fn a_panic_of_the_observer_ends_a_backup_without_a_deadlock() {
    let founded = founded();
    let (seen, never) = (Fuse::default(), Fuse::default());
    let panicked = sweep("an image", &seen, |when| {
        run_in(&founded, &never, &seen, when, |host| {
            host.image(&day(1)).unwrap()
        })
    });
    assert!(panicked > 30, "{panicked}");
    let panicked = sweep("a stream", &seen, |when| {
        run_in(&founded, &never, &seen, when, |_| {
            stream(&noise(5, 12 << 20))
        })
    });
    assert!(panicked > 3, "{panicked}");
}

#[test]
fn a_panic_of_the_source_ends_a_backup_without_a_deadlock() {
    let founded = founded();
    let (reads, never) = (Fuse::default(), Fuse::default());
    let panicked = sweep("a stream", &reads, |when| {
        let source = Broken(reads.clone(), std::io::Cursor::new(noise(6, 12 << 20)));
        run_in(&founded, &never, &never, when, |_| stream_of(source))
    });
    assert!(panicked > 30, "{panicked}");
}
