//! Turns panics of redb into errors.
//!
//! redb verifies an untrusted file when it opens the file, but later damage can make it panic. For
//! a cache, this is an error like any other: the cache is rebuilt, and the panic must not be
//! printed.
//!
//! A process has only one panic hook. So the first call of [`catch`] replaces the hook. The new
//! hook prints nothing in a thread that is inside `catch`, and calls the previous hook in all other
//! threads. If a program that uses this library installs its own hook later, panics of redb are
//! printed, but still caught.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// An error of the database, or a panic of redb.
pub(super) type DbError = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    /// Whether this thread is inside [`catch`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step on a database. A panic in it is returned as an error and not printed.
pub(super) fn catch<T>(step: impl FnOnce() -> Result<T, DbError>) -> Result<T, DbError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CATCHING.get() {
                print(info);
            }
        }));
    });
    let before = CATCHING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(step));
    CATCHING.set(before);
    result.unwrap_or_else(|_| Err("it is damaged".into()))
}
