//! Runs calls that do not depend on each other on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `each` for all items, up to `threads` at a time, and returns the results in the order of
/// the items. If threads cannot be started, fewer calls run at the same time.
pub(super) fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    each: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return done;
            };
            done.push((number, each(item)));
        }
    };
    let others = threads.min(items.len()).saturating_sub(1);
    let mut done = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..others).filter_map(start).collect();
        let mut done = work();
        for thread in threads {
            done.extend(
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn results_are_in_the_order_of_the_items_and_calls_run_at_the_same_time() {
        let barrier = Barrier::new(3);
        let double = |number: &u32| {
            barrier.wait();
            number * 2
        };
        assert_eq!(side_by_side(&[1, 2, 3], 3, double), [2, 4, 6]);
        assert_eq!(side_by_side(&[1, 2, 3], 0, |n| n + 1), [2, 3, 4]);
        assert!(side_by_side(&[(); 0], 8, |()| ()).is_empty());
    }
}
