//! A limit for the bytes between compression and the store.

use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::base::{Cancelled, lock, recover};

/// A number of bytes that threads take and give back.
pub(super) struct Budget {
    /// The bytes that are not taken; `None` after the budget was closed.
    left: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Mutex::new(Some(bytes)),
            changed: Condvar::new(),
        }
    }

    /// Takes bytes. If too few are left, waits until other threads give some back, for at most
    /// `timeout`. Returns whether it took the bytes. Fails if the budget is closed.
    pub(super) fn take_within(&self, bytes: usize, timeout: Duration) -> Result<bool, Cancelled> {
        let is_short = |left: &mut Option<usize>| left.is_some_and(|free| free < bytes);
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.left), timeout, is_short);
        let (mut left, _) = recover(waited);
        let free = left.as_mut().ok_or(Cancelled)?;
        let fits = *free >= bytes;
        if fits {
            *free -= bytes;
        }
        Ok(fits)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        if let Some(free) = &mut *lock(&self.left) {
            *free += bytes;
        }
        self.changed.notify_all();
    }

    fn close(&self) {
        *lock(&self.left) = None;
        self.changed.notify_all();
    }
}

/// Closes a budget when dropped. The thread that gives bytes back owns this value. When that thread
/// ends, nothing gives bytes back, so other threads would wait for bytes forever.
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Budget);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Closes a budget if a panic drops this value. The bytes that the thread took are then never given
/// back, so other threads would wait for them forever.
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

    #[test]
    fn a_panic_after_taking_bytes_wakes_waiting_threads() {
        let budget = Budget::new(1);
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
                    "this assertion fails on purpose"
                );
            });
            assert!(taking.join().is_err());
            waiting.join().unwrap()
        });
        assert_eq!(waited, Err(Cancelled));
        let calm = Budget::new(1);
        drop(CloseOnPanic(&calm));
        assert_eq!(calm.take_within(1, Duration::ZERO), Ok(true));
    }
}
