//! Makes independent calls to the store in parallel.

use std::panic::resume_unwind;
use std::thread;

use super::error::RepoError;
use crate::base::map_in_threads;

/// Maximum number of concurrent calls. The number does not depend on the number of cores, since a
/// call spends most of its time waiting for an answer.
const CALLS_MAX: usize = 8;

/// Calls `each` for all items, up to [`CALLS_MAX`] at a time, and returns the results in the order
/// of the items. After a failure, threads take no further items. If several calls fail, returns the
/// error of the first of their items.
pub(super) fn parallel_map<T: Sync, R: Send>(
    items: &[T],
    each: impl Fn(&T) -> Result<R, RepoError> + Sync,
) -> Result<Vec<R>, RepoError> {
    let results = map_in_threads(items, CALLS_MAX, each, Result::is_err);
    results.into_iter().collect()
}

/// Runs both closures at the same time and returns both results. If no thread can be started, runs
/// neither of them and fails.
pub(super) fn join<A, B: Send>(
    one: impl FnOnce() -> A,
    other: impl FnOnce() -> B + Send,
) -> Result<(A, B), RepoError> {
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, other);
        let other = other.map_err(RepoError::Thread)?;
        let one = one();
        let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((one, other))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use super::*;

    #[test]
    fn parallel_map_keeps_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = parallel_map(&items, |item| Ok(item * 2)).unwrap();
        assert!(doubled.iter().copied().eq((0..100).map(|item| item * 2)));
    }

    #[test]
    fn parallel_map_starts_at_most_one_call_per_thread_after_a_failure() {
        let items: Vec<usize> = (0..100).collect();
        let started = AtomicUsize::new(0);
        let failed = parallel_map(&items, |item| {
            started.fetch_add(1, Ordering::Relaxed);
            if *item < CALLS_MAX {
                Err(RepoError::Tree)
            } else {
                Ok(())
            }
        });
        assert!(matches!(failed, Err(RepoError::Tree)));
        // Another thread may take one more item before it sees the failure.
        assert!(started.into_inner() <= 2 * CALLS_MAX);
    }

    #[test]
    fn parallel_map_runs_its_calls_at_the_same_time() {
        let running = Mutex::new(0);
        let changed = Condvar::new();
        let wait_for_all = |_: &usize| {
            let mut count = running.lock().unwrap();
            *count += 1;
            changed.notify_all();
            let timeout = Duration::from_mins(1);
            let all_run = |count: &mut usize| *count < CALLS_MAX;
            let (_count, waited) = changed.wait_timeout_while(count, timeout, all_run).unwrap();
            Ok(!waited.timed_out())
        };
        let met = parallel_map(&[0; CALLS_MAX], wait_for_all).unwrap();
        assert_eq!(met, [true; CALLS_MAX]);
    }
}
