//! Opened runs in memory, shared by all readers of a process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use crate::base::{ObjectHash, ProjectId, lock};

/// Names a run: its project, its pack and its number in the pack.
pub(crate) type RunKey = (ProjectId, ObjectHash, u64);

/// A run that was fetched, decrypted and decompressed.
pub(crate) struct OpenedRun {
    /// The plain bytes of all blobs of the run, one after another.
    pub(crate) plain: Box<[u8]>,
    /// For each blob of the run, whether its bytes have its id.
    pub(crate) intact: Box<[bool]>,
}

/// A cache of opened runs with a limit for the bytes of plain data. Drops the least recently used
/// run first.
///
/// Even after the cache has dropped a run, the run stays in memory until its last reader is done.
pub struct RunCache {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<RunKey, Entry>,
    /// The keys of the opened runs by the value of `clock` at their last use.
    by_use: BTreeMap<u64, RunKey>,
    /// The number of uses of runs so far, which serves as the time of a use.
    clock: u64,
    /// Bytes of plain data of the opened runs.
    bytes: usize,
}

struct Entry {
    cell: Arc<Cell>,
    /// The value of `clock` at the run's last use, and the run's number of plain bytes. `None`
    /// while the run is being opened.
    opened: Option<(u64, usize)>,
}

/// A run; `None` before it is opened. Locked while it is being opened, so that other threads wait
/// for it.
///
/// Lock order: this lock, then the lock of the cache.
type Cell = Mutex<Option<Arc<OpenedRun>>>;

impl RunCache {
    /// The limit of the cache that all readers of a process share, in bytes.
    pub const DEFAULT_LIMIT: usize = 64 << 20;

    /// Makes a cache of at most `limit` bytes of plain data.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
        })
    }

    /// The cache that all readers of this process share by default.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<RunCache>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Self::new(Self::DEFAULT_LIMIT)))
    }

    /// The bytes of plain data that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Returns a run from the cache, or opens it with `open`. If several threads want the same run
    /// at the same time, only one opens it. If its `open` fails, the next thread calls its own.
    pub(crate) fn get<E>(
        &self,
        key: RunKey,
        open: impl FnOnce() -> Result<OpenedRun, E>,
    ) -> Result<Arc<OpenedRun>, E> {
        let cell = lock(&self.state).cell(key);
        let mut run = lock(&cell);
        if let Some(run) = &*run {
            return Ok(Arc::clone(run));
        }
        let _unopened = Unopened {
            cache: self,
            key,
            cell: &cell,
        };
        let opened = Arc::new(open()?);
        *run = Some(Arc::clone(&opened));
        lock(&self.state).add(key, &cell, opened.plain.len(), self.limit);
        Ok(opened)
    }
}

/// Removes a run from the cache if it could not be opened, even if `open` panicked.
struct Unopened<'a> {
    cache: &'a RunCache,
    key: RunKey,
    cell: &'a Arc<Cell>,
}

impl Drop for Unopened<'_> {
    fn drop(&mut self) {
        lock(&self.cache.state).remove_unopened(&self.key, self.cell);
    }
}

impl State {
    /// Returns the cell of a run, and notes that the run is used now.
    fn cell(&mut self, key: RunKey) -> Arc<Cell> {
        self.clock += 1;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            cell: Arc::default(),
            opened: None,
        });
        if let Some((used, _)) = &mut entry.opened {
            self.by_use.remove(used);
            *used = self.clock;
            self.by_use.insert(self.clock, key);
        }
        Arc::clone(&entry.cell)
    }

    /// Counts a run that was opened just now. Then drops the least recently used runs until the
    /// cache is within its limit.
    fn add(&mut self, key: RunKey, cell: &Arc<Cell>, bytes: usize, limit: usize) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !Arc::ptr_eq(&entry.cell, cell) {
            return;
        }
        self.clock += 1;
        entry.opened = Some((self.clock, bytes));
        self.by_use.insert(self.clock, key);
        self.bytes += bytes;
        while self.bytes > limit {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            let dropped = self.entries.remove(&oldest);
            let bytes = dropped.and_then(|entry| entry.opened);
            self.bytes -= bytes.map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Removes a run that could not be opened. Leaves an opened run.
    fn remove_unopened(&mut self, key: &RunKey, cell: &Arc<Cell>) {
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.cell, cell) && entry.opened.is_none();
        if self.entries.get(key).is_some_and(is_it) {
            self.entries.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn key(number: u64) -> RunKey {
        let (project, pack) = ([1; 16], [2; 32]);
        (
            ProjectId::from_bytes(project),
            ObjectHash::from_bytes(pack),
            number,
        )
    }

    fn run(len: usize) -> OpenedRun {
        OpenedRun {
            plain: vec![7; len].into(),
            intact: vec![true].into(),
        }
    }

    /// Gets a run from the cache. Returns whether it had to be opened.
    fn is_opened(cache: &RunCache, number: u64, len: usize) -> bool {
        let mut opened = false;
        let got = cache.get(key(number), || {
            opened = true;
            Ok::<_, ()>(run(len))
        });
        assert_eq!(got.unwrap().plain.len(), len);
        opened
    }

    #[test]
    fn the_run_that_was_used_longest_ago_is_dropped_first() {
        let cache = RunCache::new(100);
        assert!(is_opened(&cache, 1, 40) && is_opened(&cache, 2, 40));
        assert!(!is_opened(&cache, 1, 40), "the cache holds run 1");
        assert!(is_opened(&cache, 3, 40), "run 3 takes the place of run 2");
        assert_eq!(cache.bytes(), 80);
        assert!(!is_opened(&cache, 1, 40) && !is_opened(&cache, 3, 40));
        assert!(is_opened(&cache, 2, 40), "run 2 was dropped");
    }

    #[test]
    fn a_run_larger_than_the_limit_is_read_and_not_held() {
        let cache = RunCache::new(100);
        assert!(is_opened(&cache, 1, 101) && is_opened(&cache, 1, 101));
        assert_eq!(cache.bytes(), 0);
        let nothing = RunCache::new(0);
        assert!(is_opened(&nothing, 1, 1) && is_opened(&nothing, 1, 1));
        assert_eq!(nothing.bytes(), 0);
    }

    #[test]
    fn the_cache_stays_within_its_limit_while_many_threads_use_it() {
        let cache = RunCache::new(1000);
        thread::scope(|scope| {
            for thread in 0..8_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..500_u64 {
                        let number = (n * 7 + thread * 3) % 40;
                        is_opened(cache, number, 30 + usize::try_from(number).unwrap());
                        assert!(cache.bytes() <= 1000);
                    }
                });
            }
        });
        let state = lock(&cache.state);
        let held: usize = state.entries.values().map(|e| e.opened.unwrap().1).sum();
        assert_eq!(held, state.bytes);
        assert_eq!(state.entries.len(), state.by_use.len());
    }

    #[test]
    fn threads_that_want_one_run_at_the_same_time_open_it_once() {
        let cache = RunCache::new(100);
        let (started, opened) = (Barrier::new(8), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    started.wait();
                    let got = cache.get(key(1), || {
                        opened.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(std::time::Duration::from_millis(20));
                        Ok::<_, ()>(run(10))
                    });
                    assert_eq!(got.unwrap().plain.len(), 10);
                });
            }
        });
        assert_eq!(opened.into_inner(), 1);
    }

    #[test]
    fn a_run_that_cannot_be_opened_is_tried_again_and_leaves_nothing() {
        let cache = RunCache::new(100);
        assert!(cache.get(key(1), || Err(())).is_err());
        assert!(lock(&cache.state).entries.is_empty());
        assert!(is_opened(&cache, 1, 10));
        let panics = || {
            cache.get(key(2), || -> Result<_, ()> {
                panic!("a fault in a decoder")
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(lock(&cache.state).entries.len(), 1, "only run 1 is left");
        assert!(is_opened(&cache, 2, 10));
    }
}
