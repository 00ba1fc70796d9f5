//! A limit for the bytes between compression and the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::super::pack_memory::PackMemory;
use crate::base::{Cancelled, lock, recover};

/// The bytes that the threads of one packer take and give back. All packers of an open project take
/// them from the same memory. When a budget is dropped, it gives back what is still taken.
pub(super) struct Budget {
    memory: Arc<PackMemory>,
    taken: AtomicUsize,
    /// The closed packs of this packer that have not given back their bytes.
    closed_packs: AtomicUsize,
    /// Whether nothing can be taken any more.
    closed: AtomicBool,
}

impl Budget {
    pub(super) fn new(memory: &Arc<PackMemory>) -> Self {
        Self {
            memory: Arc::clone(memory),
            taken: AtomicUsize::new(0),
            closed_packs: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Takes bytes. If too few are left, waits for others to give some back, at most for `timeout`.
    /// Returns whether it took the bytes. Fails if the budget is closed.
    pub(super) fn take_within(&self, bytes: usize, timeout: Duration) -> Result<bool, Cancelled> {
        let memory = &*self.memory;
        let is_short = |left: &mut usize| *left < bytes && !self.is_closed();
        let waited = memory
            .changed
            .wait_timeout_while(lock(&memory.left), timeout, is_short);
        let (mut left, _) = recover(waited);
        if self.is_closed() {
            return Err(Cancelled);
        }
        let fits = *left >= bytes;
        if fits {
            *left -= bytes;
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(fits)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        *lock(&self.memory.left) += bytes;
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.changed.notify_all();
    }

    /// Whether a closed pack of any packer will give back bytes.
    pub(super) fn waits_for_packs(&self) -> bool {
        self.memory.closed.load(Ordering::Relaxed) > 0
    }

    /// Counts packs that were closed and will give back their bytes.
    pub(super) fn add_closed(&self, packs: usize) {
        self.closed_packs.fetch_add(packs, Ordering::Relaxed);
        self.memory.closed.fetch_add(packs, Ordering::Relaxed);
    }

    /// Counts a pack that gives back its bytes.
    pub(super) fn remove_closed(&self) {
        self.closed_packs.fetch_sub(1, Ordering::Relaxed);
        self.memory.closed.fetch_sub(1, Ordering::Relaxed);
    }

    fn close(&self) {
        // A thread that tests the flag and then waits holds the lock in between.
        let _left = lock(&self.memory.left);
        self.closed.store(true, Ordering::Relaxed);
        self.memory.changed.notify_all();
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let packs = *self.closed_packs.get_mut();
        self.memory.closed.fetch_sub(packs, Ordering::Relaxed);
        *lock(&self.memory.left) += *self.taken.get_mut();
        self.memory.changed.notify_all();
    }
}

/// Closes a budget when dropped. The thread that gives bytes back holds it: once this thread has
/// ended, waiting for bytes would never end.
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Budget);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Closes a budget if the thread that took bytes panics, since it would never give them back.
pub(super) struct CloseOnPanic<'a>(pub(super) &'a Budget);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget of one byte.
    fn budget() -> Budget {
        Budget::new(&Arc::new(PackMemory::new(1)))
    }

    #[test]
    fn two_budgets_share_one_memory_and_a_dropped_one_gives_back_what_it_took() {
        let memory = Arc::new(PackMemory::new(10));
        let (first, second) = (Budget::new(&memory), Budget::new(&memory));
        assert_eq!(first.take_within(8, Duration::ZERO), Ok(true));
        assert_eq!(second.take_within(3, Duration::ZERO), Ok(false));
        first.give_back(2);
        assert_eq!(second.take_within(3, Duration::ZERO), Ok(true));
        first.add_closed(1);
        assert!(second.waits_for_packs());
        // A closed budget does not close the other one.
        drop(CloseOnDrop(&first));
        assert_eq!(first.take_within(1, Duration::ZERO), Err(Cancelled));
        drop(first);
        assert!(!second.waits_for_packs());
        assert_eq!(second.take_within(7, Duration::ZERO), Ok(true));
    }

    #[test]
    fn a_panic_after_taking_bytes_wakes_those_that_wait() {
        let budget = budget();
        let waited = thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let timeout = Duration::from_mins(1);
                while budget.take_within(2, timeout)? {}
                Ok::<_, Cancelled>(())
            });
            let taking = scope.spawn(|| {
                let _closing = CloseOnPanic(&budget);
                assert!(
                    !budget.take_within(1, Duration::ZERO).unwrap(),
                    "on purpose"
                );
            });
            assert!(taking.join().is_err());
            waiting.join().unwrap()
        });
        assert_eq!(waited, Err(Cancelled));
        let calm = self::budget();
        drop(CloseOnPanic(&calm));
        assert_eq!(calm.take_within(1, Duration::ZERO), Ok(true));
    }
}
