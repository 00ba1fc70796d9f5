//! Calls to the store that do not depend on each other, side by side.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::error::RepoError;

/// Calls that may be under way at once. Each mostly waits for its answer.
const AT_ONCE: usize = 8;

/// Does the same to each, several at a time; what came of it is in their order. After a failure no more are begun; of
/// several failures the first in their order counts.
pub(super) fn several<T: Sync, R: Send>(
    items: &[T],
    each: impl Fn(&T) -> Result<R, RepoError> + Sync,
) -> Result<Vec<R>, RepoError> {
    let threads = items.len().min(AT_ONCE);
    if threads <= 1 {
        return items.iter().map(each).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return done;
            };
            let result = each(item);
            if result.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((number, result));
        }
    };
    let mut done = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().flat_map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| resume_unwind(panic))
        });
        done.collect::<Vec<_>>()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Does both at the same time.
pub(super) fn both<A, B: Send>(
    one: impl FnOnce() -> A,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let one = one();
        let other = other.join().unwrap_or_else(|panic| resume_unwind(panic));
        (one, other)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_order_and_failures_end_it() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = several(&items, |item| Ok(item * 2)).unwrap();
        assert!(doubled.iter().copied().eq((0..100).map(|item| item * 2)));
        let begun = AtomicUsize::new(0);
        let failed = several(&items, |item| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item < AT_ONCE {
                Err(RepoError::Tree)
            } else {
                Ok(())
            }
        });
        assert!(matches!(failed, Err(RepoError::Tree)));
        // A thread whose item failed may only have been slow to tell the others.
        assert!(begun.into_inner() <= 2 * AT_ONCE);
    }

    #[test]
    fn they_are_under_way_at_once() {
        let barrier = Barrier::new(AT_ONCE);
        let together = |_: &usize| {
            barrier.wait();
            Ok(())
        };
        several(&[0; AT_ONCE], together).unwrap();
    }
}
