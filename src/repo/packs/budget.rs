//! One bound on all bytes between compression and the store.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::Cancelled;

/// Bytes that may be under way at once.
pub(super) struct Budget {
    /// `None` once nobody gives back any more.
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

    /// Whether there was room at once.
    pub(super) fn try_take(&self, bytes: usize) -> Result<bool, Cancelled> {
        let mut left = lock(&self.left);
        let free = left.as_mut().ok_or(Cancelled)?;
        let fits = *free >= bytes;
        if fits {
            *free -= bytes;
        }
        Ok(fits)
    }

    /// Waits for room.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Cancelled> {
        let mut left = lock(&self.left);
        loop {
            match &mut *left {
                None => return Err(Cancelled),
                Some(free) if *free >= bytes => {
                    *free -= bytes;
                    return Ok(());
                }
                Some(_) => {
                    left = self
                        .changed
                        .wait(left)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    pub(super) fn give_back(&self, bytes: usize) {
        if let Some(free) = &mut *lock(&self.left) {
            *free += bytes;
        }
        self.changed.notify_all();
    }
}

/// Closes a budget whatever way its giver ends.
pub(super) struct CloseOnDrop<'a>(pub(super) &'a Budget);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        *lock(&self.0.left) = None;
        self.0.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
