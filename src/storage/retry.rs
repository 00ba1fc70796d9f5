//! Repeats operations that failed with a transient error.
//!
//! Only operations that fail with an error of the class [`Transient`](StorageErrorClass::Transient)
//! are repeated. The promises of [`Backend`] still hold:
//!
//! | operation | effect of a repetition |
//! |---|---|
//! | `get`, `get_range`, `size`, `list`, `directories` | none: the operation changes nothing |
//! | `put` | stores the same object again |
//! | `put_new` | if the name is taken by an object with the same bytes, returns success |
//! | `delete` | if the object is missing, returns success |
//! | `remove_leftovers` | returns only the number of files that the last attempt removed |
//!
//! A repeated `put_new` or `delete` can find that an earlier attempt succeeded although its answer
//! was lost.

use std::time::{Duration, Instant};

use crate::base::Cancel;

use super::backend::{Backend, ObjectInfo};
use super::error::{StorageError, StorageErrorClass, StorageErrorKind};
use super::name::Name;
use super::rate::Limits;

/// How often, and for how long, an operation is repeated.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// The pause before each new attempt. There are at most as many repetitions as pauses.
    pub pauses: Vec<Duration>,
    /// If this much time has passed since the first failure, a failed attempt is not repeated.
    pub deadline: Duration,
}

impl RetryPolicy {
    /// Returns a policy with this deadline. Its pauses add up to about seven seconds, since a
    /// server needs some seconds to restart.
    #[must_use]
    pub fn with_deadline(deadline: Duration) -> Self {
        let pauses = vec![
            Duration::from_millis(200),
            Duration::from_secs(2),
            Duration::from_secs(5),
        ];
        Self { pauses, deadline }
    }
}

/// A store that repeats operations after transient errors. It does not repeat the opening of the
/// inner store, so a wrong address or password is reported at once.
#[derive(Debug)]
pub struct RetryBackend<B> {
    inner: B,
    policy: RetryPolicy,
    cancel: Cancel,
}

impl<B: Backend> RetryBackend<B> {
    /// Wraps a store. After `cancel` is set, no operation is repeated, and pauses end.
    pub fn new(inner: B, policy: RetryPolicy, cancel: Cancel) -> Self {
        Self {
            inner,
            policy,
            cancel,
        }
    }

    /// Runs `attempt` until it succeeds or fails with an error that is not transient. Also stops,
    /// with the last error, if the policy allows no further attempt, or if `cancel` is set.
    ///
    /// The argument of `attempt` is true if an earlier attempt failed. The earlier attempt may have
    /// had an effect.
    fn run<T>(
        &self,
        mut attempt: impl FnMut(bool) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut failing_since = None;
        let mut pauses = self.policy.pauses.iter();
        let mut repeated = false;
        loop {
            let error = match attempt(repeated) {
                Err(error) if error.kind.class() == StorageErrorClass::Transient => error,
                result => return result,
            };
            let since = *failing_since.get_or_insert_with(Instant::now);
            let Some(pause) = pauses.next() else {
                return Err(error);
            };
            if since.elapsed() >= self.policy.deadline || self.cancel.sleep(*pause).is_err() {
                return Err(error);
            }
            repeated = true;
        }
    }

    /// Succeeds if the existing object has the bytes of `parts`: an earlier attempt stored it. If
    /// reading the object fails with a transient error, returns this error, so that the operation
    /// is repeated. In all other cases, fails with `taken`.
    fn confirm(
        &self,
        name: &Name,
        parts: &[&[u8]],
        taken: StorageError,
    ) -> Result<(), StorageError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        match self.inner.get(name, len as u64) {
            Ok(found) if is_concatenation(&found, parts) => Ok(()),
            Err(error) if error.kind.class() == StorageErrorClass::Transient => Err(error),
            _ => Err(taken),
        }
    }
}

fn is_concatenation(whole: &[u8], parts: &[&[u8]]) -> bool {
    let rest = parts
        .iter()
        .try_fold(whole, |rest, part| rest.strip_prefix(*part));
    rest.is_some_and(<[u8]>::is_empty)
}

impl<B: Backend> Backend for RetryBackend<B> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.run(|_| self.inner.put(name, parts))
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.run(|repeated| match self.inner.put_new(name, parts) {
            Err(error) if repeated && error.kind == StorageErrorKind::Exists => {
                self.confirm(name, parts, error)
            }
            result => result,
        })
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.run(|_| self.inner.get(name, limit))
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.run(|_| self.inner.get_range(name, offset, buf))
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.run(|_| self.inner.size(name))
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.run(|_| self.inner.list(directory))
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.run(|_| self.inner.directories(directory))
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.run(|repeated| match self.inner.delete(name) {
            Err(error) if repeated && error.kind == StorageErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        self.run(|_| self.inner.remove_leftovers(directory, age))
    }

    fn limit_blocks(&mut self, limits: &Limits) -> bool {
        self.inner.limit_blocks(limits)
    }
}
