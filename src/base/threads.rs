//! Runs functions that do not depend on each other in several threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Calls `each` for all items, and returns the results in the order of the items. Up to `threads`
/// calls (0 counts as 1) run at the same time, or fewer if threads cannot be started.
///
/// After `is_last` has returned true for a result, no thread takes another item. The calls for the
/// items already taken are still made. So the results are those of the first items, without a gap.
pub(crate) fn map_in_threads<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    each: impl Fn(&T) -> R + Sync,
    is_last: impl Fn(&R) -> bool + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return done;
            };
            let result = each(item);
            if is_last(&result) {
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((number, result));
        }
    };
    let others = threads.min(items.len()).saturating_sub(1);
    let mut done = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..others).filter_map(start).collect();
        let mut done = work();
        for thread in threads {
            let joined = thread.join();
            done.extend(joined.unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Calls two functions at the same time, the first one in a thread of its own. If no thread can be
/// started, calls one after the other.
pub(crate) fn join<A: Send, B>(first: impl Fn() -> A + Sync, second: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let started = thread::Builder::new().spawn_scoped(scope, &first);
        let second = second();
        let first = match started {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => first(),
        };
        (first, second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::mpsc::{self, RecvTimeoutError, Sender};
    use std::sync::{Barrier, Mutex};
    use std::time::Duration;

    #[test]
    fn two_functions_run_at_the_same_time() {
        let barrier = Barrier::new(2);
        let first = || {
            barrier.wait();
            1
        };
        let second = || {
            barrier.wait();
            "two"
        };
        assert_eq!(join(first, second), (1, "two"));
    }

    #[test]
    fn results_are_in_the_order_of_the_items_and_calls_run_at_the_same_time() {
        let barrier = Barrier::new(3);
        let double = |number: &u32| {
            barrier.wait();
            number * 2
        };
        assert_eq!(map_in_threads(&[1, 2, 3], 3, double, |_| false), [2, 4, 6]);
        let next = |number: &u32| number + 1;
        assert_eq!(map_in_threads(&[1, 2, 3], 0, next, |_| false), [2, 3, 4]);
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            map_in_threads(&items, 8, |number| *number, |_| false),
            items
        );
        assert!(map_in_threads(&[(); 0], 8, |()| (), |()| false).is_empty());
    }

    #[test]
    fn all_items_before_the_last_one_have_a_result() {
        let items: Vec<usize> = (0..100).collect();
        let done = map_in_threads(&items, 8, |number| *number, |number| *number == 10);
        // Before item 10 is known to be the last one, other threads may take further items.
        assert!(done.len() >= 11, "{done:?}");
        assert_eq!(done, items[..done.len()]);
        let done = map_in_threads(&items, 1, |number| *number, |number| *number == 10);
        assert_eq!(done, items[..11]);
    }

    #[test]
    fn the_other_threads_take_no_further_item_after_the_last_one() {
        thread_local! {
            /// The receiver notices when the thread with this sender has ended.
            static END: Cell<Option<Sender<()>>> = const { Cell::new(None) };
        }
        let (sender, receiver) = mpsc::channel();
        let (sender, receiver) = (Mutex::new(Some(sender)), Mutex::new(receiver));
        let this = thread::current().id();
        // For the other thread, `is_last` returns true at its first call. In this thread, each call
        // waits until the other thread has ended.
        let is_last = |_: &u32| {
            if thread::current().id() == this {
                let ended = receiver
                    .lock()
                    .unwrap()
                    .recv_timeout(Duration::from_mins(1));
                assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
                return false;
            }
            if let Some(sender) = sender.lock().unwrap().take() {
                END.set(Some(sender));
            }
            true
        };
        let items: Vec<u32> = (0..100).collect();
        let done = map_in_threads(&items, 2, is_last, |is_last| *is_last);
        assert!(done == [true] || done == [false, true], "{done:?}");
    }
}
