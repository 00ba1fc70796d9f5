//! A request to stop. Each loop that may run for long checks whether there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A flag that asks all working threads to stop. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// The work stopped because someone called [`Cancel::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// Asks the work to stop. This cannot be undone.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails if [`cancel`](Self::cancel) has been called.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.0.load(Ordering::Relaxed) {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// Sleeps for `duration`. Fails at once if [`cancel`](Self::cancel) was called before. If it is
    /// called during the sleep, fails at most a tenth of a second later.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        const SLICE: Duration = Duration::from_millis(100);
        let mut left = duration;
        self.check()?;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            thread::sleep(slice);
            left -= slice;
            self.check()?;
        }
        Ok(())
    }
}
