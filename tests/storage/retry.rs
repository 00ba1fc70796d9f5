//! Tests of `RetryBackend`, which repeats calls that fail with a transient error.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use cuttlebone::base::Cancel;
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Name, ObjectInfo, Plan, RetryBackend,
    RetryPolicy, StorageError, StorageErrorClass, StorageErrorKind, StorageOperation,
};

use super::{kind, name, names};

/// Returns a policy of three repetitions, almost without pauses.
pub(super) fn quickly() -> RetryPolicy {
    RetryPolicy {
        pauses: vec![Duration::from_millis(1); 3],
        deadline: Duration::from_mins(1),
    }
}

/// A store that executes every call, but returns an error from some calls that succeeded. Clones
/// are the same store. The calls of each thread are counted separately. Otherwise one operation
/// could lose all its answers because of concurrent threads.
#[derive(Clone)]
pub(super) struct LostAnswers {
    store: MemoryBackend,
    calls: Arc<Mutex<HashMap<ThreadId, u64>>>,
    is_lost: Arc<dyn Fn(u64) -> bool + Send + Sync>,
}

impl LostAnswers {
    /// Returns a store that loses the answer to every `n`-th call of a thread.
    pub(super) fn every(n: u64) -> Self {
        Self::to_calls(move |call| call.is_multiple_of(n))
    }

    /// Returns a store that loses the answers to the calls for whose number `is_lost` is true. The
    /// first call of a thread has the number 1.
    fn to_calls(is_lost: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        Self {
            store: MemoryBackend::new(),
            calls: Arc::default(),
            is_lost: Arc::new(is_lost),
        }
    }

    fn count_call(&self) -> u64 {
        let mut calls = self.calls.lock().unwrap();
        let of_thread = calls.entry(thread::current().id()).or_default();
        *of_thread += 1;
        *of_thread
    }

    fn answer<T>(
        &self,
        operation: StorageOperation,
        result: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let call = self.count_call();
        let value = result?;
        if (self.is_lost)(call) {
            return Err(StorageError {
                kind: StorageErrorKind::Unavailable,
                operation,
                object: format!("call {call}"),
                location: self.location().to_owned(),
                is_remote: true,
                source: None,
            });
        }
        Ok(value)
    }
}

impl Backend for LostAnswers {
    fn location(&self) -> &str {
        self.store.location()
    }

    fn put(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.answer(StorageOperation::Put, self.store.put(name, parts))
    }

    fn put_new(&self, name: &Name, parts: &[&[u8]]) -> Result<(), StorageError> {
        self.answer(StorageOperation::Put, self.store.put_new(name, parts))
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.answer(StorageOperation::Get, self.store.get(name, limit))
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let result = self.store.get_range(name, offset, buf);
        self.answer(StorageOperation::Get, result)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.answer(StorageOperation::Size, self.store.size(name))
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.answer(StorageOperation::List, self.store.list(directory))
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.answer(StorageOperation::List, self.store.directories(directory))
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.answer(StorageOperation::Delete, self.store.delete(name))
    }

    fn remove_leftovers(&self, directory: &str, age: Duration) -> Result<u64, StorageError> {
        let result = self.store.remove_leftovers(directory, age);
        self.answer(StorageOperation::RemoveLeftovers, result)
    }
}

/// Makes every kind of call, and checks its result.
fn use_store(store: &dyn Backend) {
    let (a, b) = (name("a/1"), name("b/2"));
    store.put(&a, &[b"one", b"two"]).unwrap();
    store.put(&a, &[b"three", b"", b"four"]).unwrap();
    store.put_new(&b, &[b"five", b"six"]).unwrap();
    let taken = store.put_new(&b, &[b"fivesix!"]);
    assert_eq!(kind(taken), Some(StorageErrorKind::Exists));
    assert_eq!(store.get(&a, 100).unwrap(), b"threefour");
    let mut range = [0; 3];
    store.get_range(&b, 4, &mut range).unwrap();
    assert_eq!(&range, b"six");
    assert_eq!(store.size(&a).unwrap(), 9);
    assert_eq!(names(store, ""), ["a/1", "b/2"]);
    let directories: BTreeSet<_> = store.directories("").unwrap().into_iter().collect();
    assert_eq!(directories, BTreeSet::from(["a".into(), "b".into()]));
    store.delete(&a).unwrap();
    let absent = store.get(&a, 100);
    assert_eq!(kind(absent), Some(StorageErrorKind::NotFound));
    let age = Duration::from_hours(1);
    assert_eq!(store.remove_leftovers("", age).unwrap(), 0);
    assert_eq!(names(store, ""), ["b/2"]);
}

#[test]
fn a_single_transient_error_in_any_call_does_not_show() {
    let counted = FaultBackend::new();
    use_store(&counted);
    for call in 1..=counted.calls() {
        for kind in [
            StorageErrorKind::Unavailable,
            StorageErrorKind::ClosedAfterLogin,
        ] {
            for fault in [Fault::Fail(kind), Fault::FailAfter(kind)] {
                let store = FaultBackend::new();
                store.set_plan(Plan::at(call, fault));
                let retry = RetryBackend::new(store.clone(), quickly(), Cancel::default());
                use_store(&retry);
                assert!(!store.is_planned(), "call {call}");
            }
        }
    }
}

#[test]
fn only_calls_with_transient_errors_are_repeated() {
    for kind in [
        StorageErrorKind::NotFound,
        StorageErrorKind::Exists,
        StorageErrorKind::Unreadable,
        StorageErrorKind::Truncated,
        StorageErrorKind::TooLarge,
        StorageErrorKind::Full,
        StorageErrorKind::ReadOnly,
        StorageErrorKind::Denied,
        StorageErrorKind::LoginRefused,
        StorageErrorKind::HostKeyChanged,
        StorageErrorKind::Greeting,
        StorageErrorKind::NoProgram,
        StorageErrorKind::Io,
    ] {
        assert_ne!(kind.class(), StorageErrorClass::Transient);
        let store = FaultBackend::new();
        store.set_plan(Plan::at(1, Fault::Fail(kind)));
        let retry = RetryBackend::new(store.clone(), quickly(), Cancel::default());
        let error = retry.put(&name("a"), &[b"1"]).unwrap_err();
        assert_eq!((error.kind, store.calls()), (kind, 1));
    }
}

#[test]
fn a_store_that_stays_unavailable_is_given_up() {
    let store = FaultBackend::new();
    store.set_plan(Plan::at(1, Fault::Die(Moment::Before)));
    let retry = RetryBackend::new(store.clone(), quickly(), Cancel::default());
    let put = retry.put(&name("a"), &[b"1"]);
    assert_eq!(kind(put), Some(StorageErrorKind::Unavailable));
    assert_eq!(store.calls(), 4);
}

#[test]
fn nothing_is_repeated_after_the_deadline() {
    let store = FaultBackend::new();
    store.set_plan(Plan::at(1, Fault::Die(Moment::Before)));
    let mut policy = quickly();
    policy.deadline = Duration::ZERO;
    let retry = RetryBackend::new(store.clone(), policy, Cancel::default());
    let size = retry.size(&name("a"));
    assert_eq!(kind(size), Some(StorageErrorKind::Unavailable));
    assert_eq!(store.calls(), 1);
}

#[test]
fn cancelling_ends_the_pause_before_a_repetition() {
    let store = FaultBackend::new();
    store.set_plan(Plan::at(1, Fault::Die(Moment::Before)));
    let policy = RetryPolicy {
        pauses: vec![Duration::from_hours(1)],
        deadline: Duration::from_hours(2),
    };
    let cancel = Cancel::default();
    let retry = RetryBackend::new(store.clone(), policy, cancel.clone());
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while store.calls() == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            cancel.cancel();
        });
        let size = retry.size(&name("a"));
        assert_eq!(kind(size), Some(StorageErrorKind::Unavailable));
    });
    assert!(begun.elapsed() < Duration::from_mins(10));
    assert_eq!(store.calls(), 1);
    // After the cancellation nothing is repeated.
    retry.size(&name("a")).unwrap_err();
    assert_eq!(store.calls(), 2);
}

#[test]
fn a_new_object_whose_answer_was_lost_is_confirmed_by_its_content() {
    // Calls: put_new, put_new (taken), get, put_new (taken), get. The answer to the first get is
    // lost, too.
    let store = LostAnswers::to_calls(|call| call == 1 || call == 3);
    let retry = RetryBackend::new(store.clone(), quickly(), Cancel::default());
    retry.put_new(&name("a"), &[b"1", b"23"]).unwrap();
    assert_eq!(store.count_call(), 6);
    for other in [&b"12"[..], b"1234", b"124", b"123"] {
        let taken = retry.put_new(&name("a"), &[other]);
        assert_eq!(kind(taken), Some(StorageErrorKind::Exists));
    }
}

/// The first attempt fails without effect. Then another client takes the name before the second
/// attempt.
#[test]
fn a_name_that_another_client_takes_between_two_attempts_is_refused() {
    for theirs in [&b"their"[..], b"ours!!", b"theirs!", b""] {
        let store = FaultBackend::new();
        let fault = Fault::Fail(StorageErrorKind::Unavailable);
        store.set_plan(Plan::at(1, fault));
        let policy = RetryPolicy {
            pauses: vec![Duration::from_secs(2)],
            deadline: Duration::from_mins(1),
        };
        let retry = RetryBackend::new(store.clone(), policy, Cancel::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                while store.calls() == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                store.put_new(&name("a"), &[theirs]).unwrap();
            });
            let put = retry.put_new(&name("a"), &[b"ours", b"!!!"]);
            assert_eq!(kind(put), Some(StorageErrorKind::Exists));
        });
        assert_eq!(store.get(&name("a"), 100).unwrap(), theirs);
    }
}
