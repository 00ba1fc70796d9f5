//! Locks that can be used after a thread has panicked while it held them.
//!
//! A thread that panics while it holds a lock poisons the lock. The functions here return the guard
//! of a poisoned lock, too. The first panic ends the operation, and the user needs the report of
//! this panic. A second panic would only hide the first one. The data behind a lock is either
//! replaced in one step, or not used after a failure.

use std::sync::{
    LockResult, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

/// Locks a mutex, even if it is poisoned.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    recover(mutex.lock())
}

/// Locks for reading, even if the lock is poisoned.
pub(crate) fn read_lock<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    recover(lock.read())
}

/// Locks for writing, even if the lock is poisoned.
pub(crate) fn write_lock<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    recover(lock.write())
}

/// Returns the guard or value of any lock operation, even if the lock is poisoned.
pub(crate) fn recover<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}
