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

/// A backup that takes longer is assumed to hang.
const TIMEOUT: Duration = Duration::from_mins(1);
const ON_PURPOSE: &str = "on purpose";

/// Panics at the n-th call.
#[derive(Clone, Default)]
struct PanicTrigger(Arc<AtomicU64>);

impl PanicTrigger {
    /// Makes it panic at the n-th call from now on, counted from 1. With 0, it never panics.
    fn panic_at(&self, n: u64) {
        self.0.store(n, Ordering::SeqCst);
    }

    /// Returns whether it has panicked, or will never panic.
    fn has_panicked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    fn call(&self) {
        let less = |n: u64| n.checked_sub(1);
        let before = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        assert!(before != Ok(1), "{ON_PURPOSE}");
    }
}

/// A store that panics.
#[derive(Clone, Default)]
struct PanickingStore {
    store: MemoryBackend,
    trigger: PanicTrigger,
}

impl Backend for PanickingStore {
    fn location(&self) -> &'static str {
        "memory"
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.trigger.call();
        self.store.put(name, parts)
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.trigger.call();
        self.store.put_new(name, parts)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.trigger.call();
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.trigger.call();
        self.store.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.trigger.call();
        self.store.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.trigger.call();
        self.store.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.trigger.call();
        self.store.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.trigger.call();
        self.store.delete(name)
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.trigger.call();
        self.store.remove_leftovers(directory, age)
    }
}

/// An observer that panics.
#[derive(Clone, Default)]
struct PanickingObserver(PanicTrigger);

impl Observer for PanickingObserver {
    fn progress(&self, _: Progress) {
        self.0.call();
    }

    fn notice(&self, _: Notice) {
        self.0.call();
    }
}

/// A stream whose reads panic.
struct PanickingStream(PanicTrigger, std::io::Cursor<Vec<u8>>);

impl std::io::Read for PanickingStream {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.call();
        let most = into.len().min(100 * KIB);
        self.1.read(&mut into[..most])
    }
}

/// How a backup ended.
#[derive(Debug, PartialEq)]
enum End {
    Done,
    Panicked,
}

/// Runs a backup in a separate thread. Fails if the backup returns an error, or does not end within
/// [`TIMEOUT`].
fn run_with_timeout(
    when: &str,
    run: impl FnOnce() -> Result<(), OpsError> + Send + 'static,
) -> End {
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let ending = catch_unwind(AssertUnwindSafe(run));
        let _ = ended.send(ending.map_err(drop));
    });
    let end = end.recv_timeout(TIMEOUT);
    match end.unwrap_or_else(|_| panic!("{when}: the backup hangs")) {
        Ok(Ok(())) => End::Done,
        Ok(Err(error)) => panic!("{when}: an error instead of the panic: {error:?}"),
        Err(()) => End::Panicked,
    }
}

/// Returns the image of day `number`. It has many more leaves than the pipeline can hold. Half of
/// its chunks are the same every day.
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

/// Backs up again and again, with a panic at a later call each time, until a run ends without one.
/// Returns the number of runs that panicked.
fn sweep(what: &str, trigger: &PanicTrigger, mut back_up: impl FnMut(&str) -> End) -> u64 {
    let mut n = 1;
    let mut panicked = 0;
    loop {
        trigger.panic_at(n);
        let when = format!("{what}, call {n}");
        match (back_up(&when), trigger.has_panicked()) {
            (End::Panicked, true) => panicked += 1,
            (End::Done, false) => break,
            (end, out) => panic!("{when}: {end:?}, has panicked: {out}"),
        }
        // The first calls all differ. Later ones are similar, so test only some of them.
        n += if n < 30 { 1 } else { 7 };
    }
    panicked
}

/// Returns a repository with one backup of the first day.
fn with_one_backup() -> MemoryBackend {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    host.back_up(&test_repo, "disk", &day(0)).unwrap();
    store
}

/// Asserts that the repository is whole and that the next backup succeeds.
fn assert_usable(store: &MemoryBackend, what: &str) {
    let host = Host::without_cache();
    let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
    host.check_clean(&test_repo, what);
    let made = host.back_up(&test_repo, "disk", &day(1)).unwrap();
    let backup = test_repo.backup(made.id);
    assert!(host.restore_image(&test_repo, &backup).unwrap() == day(1));
}

/// Backs up once to a copy of `base`. After some of the panics, asserts that this copy is usable.
fn run_in(
    base: &MemoryBackend,
    trigger: &PanicTrigger,
    observer_trigger: &PanicTrigger,
    when: &str,
    input: impl FnOnce(&Host) -> Input + Send + 'static,
) -> End {
    let store = base.copy();
    let backend = PanickingStore {
        store: store.clone(),
        trigger: trigger.clone(),
    };
    let observer = PanickingObserver(observer_trigger.clone());
    // Opening the repository calls the store, too; these calls are not tested here.
    let n = trigger.0.swap(0, Ordering::SeqCst);
    let test_repo = TestRepo::open(backend, &RecordingObserver::default()).unwrap();
    trigger.panic_at(n);
    let end = run_with_timeout(when, move || {
        let host = Host::without_cache();
        let input = input(&host);
        let mut options = options("disk");
        // Some packs become full during the backup, others are closed at its end.
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
        assert_usable(&store, when);
    }
    end
}

#[test]
fn a_panic_of_the_store_ends_a_backup_without_a_deadlock() {
    let base = with_one_backup();
    let (calls, never) = (PanicTrigger::default(), PanicTrigger::default());
    let panicked = sweep("an image", &calls, |when| {
        run_in(&base, &calls, &never, when, |host| {
            host.image(&day(1)).unwrap()
        })
    });
    assert!(panicked > 30, "{panicked}");
    let panicked = sweep("a stream", &calls, |when| {
        run_in(&base, &calls, &never, when, |_| stream(&noise(5, 12 << 20)))
    });
    assert!(panicked > 15, "{panicked}");
}

#[test]
fn a_panic_of_the_observer_ends_a_backup_without_a_deadlock() {
    let base = with_one_backup();
    let (seen, never) = (PanicTrigger::default(), PanicTrigger::default());
    let panicked = sweep("an image", &seen, |when| {
        run_in(&base, &never, &seen, when, |host| {
            host.image(&day(1)).unwrap()
        })
    });
    assert!(panicked > 30, "{panicked}");
    let panicked = sweep("a stream", &seen, |when| {
        run_in(&base, &never, &seen, when, |_| stream(&noise(5, 12 << 20)))
    });
    assert!(panicked > 3, "{panicked}");
}

#[test]
fn a_panic_of_the_source_ends_a_backup_without_a_deadlock() {
    let base = with_one_backup();
    let (reads, never) = (PanicTrigger::default(), PanicTrigger::default());
    let panicked = sweep("a stream", &reads, |when| {
        let source = PanickingStream(reads.clone(), std::io::Cursor::new(noise(6, 12 << 20)));
        run_in(&base, &never, &never, when, |_| stream_of(source))
    });
    assert!(panicked > 30, "{panicked}");
}
