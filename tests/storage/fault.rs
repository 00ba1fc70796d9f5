//! Tests of `FaultBackend`, the store that fails on purpose: the calls that it counts, the calls
//! that fail, and the objects that a crash leaves.

use std::thread;
use std::time::{Duration, Instant};

use cuttlebone::storage::{
    Backend, Call, Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind,
    StorageOperation,
};

use super::{kind, name, names};

#[test]
fn calls_are_counted_and_logged() {
    let store = FaultBackend::new();
    store.put(&name("a/b"), &[b"123", b"45"]).unwrap();
    store.put_new(&name("a/b"), &[b"678"]).unwrap_err();
    store.get(&name("a/b"), 100).unwrap();
    store.get_range(&name("a/b"), 1, &mut [0; 2]).unwrap();
    store.get(&name("c"), 100).unwrap_err();
    store.size(&name("a/b")).unwrap();
    store.list("a").unwrap();
    store.delete(&name("a/b")).unwrap();
    assert_eq!(store.calls(), 8);
    let call = |operation, name: &str, bytes, error| Call {
        operation,
        name: name.to_owned(),
        bytes,
        error,
    };
    let expected = [
        call(StorageOperation::Put, "a/b", 5, None),
        call(
            StorageOperation::Put,
            "a/b",
            3,
            Some(StorageErrorKind::Exists),
        ),
        call(StorageOperation::Get, "a/b", 5, None),
        call(StorageOperation::Get, "a/b", 2, None),
        call(
            StorageOperation::Get,
            "c",
            0,
            Some(StorageErrorKind::NotFound),
        ),
        call(StorageOperation::Size, "a/b", 0, None),
        call(StorageOperation::List, "a", 0, None),
        call(StorageOperation::Delete, "a/b", 0, None),
    ];
    assert_eq!(store.take_log(), expected);
    assert_eq!((store.take_log(), store.calls()), (vec![], 8));
}

#[test]
fn a_plan_affects_one_call_counted_from_when_it_was_set() {
    let store = FaultBackend::new();
    let put = |i: u32| kind(store.put(&name(&format!("{i}")), &[b"x"]));
    assert_eq!((put(1), put(2)), (None, None));
    store.set_plan(Plan::at(2, Fault::Fail(StorageErrorKind::Full)));
    assert_eq!(put(3), None);
    assert!(store.is_planned());
    assert_eq!(put(4), Some(StorageErrorKind::Full));
    assert!(!store.is_planned());
    assert_eq!(put(5), None);

    store.set_plan(Plan::at_write(2, Fault::Fail(StorageErrorKind::Io)));
    store.list("").unwrap();
    assert_eq!(put(6), None);
    store.get(&name("1"), 1).unwrap();
    assert_eq!(kind(store.delete(&name("1"))), Some(StorageErrorKind::Io));
    assert_eq!(names(&store, ""), ["1", "2", "3", "5", "6"]);
    assert_eq!(names(&store.crash(), ""), ["1", "2", "3", "5", "6"]);
}

#[test]
fn a_call_whose_answer_is_lost_has_taken_effect() {
    let store = FaultBackend::new();
    store.set_plan(Plan::at(1, Fault::FailAfter(StorageErrorKind::Unavailable)));
    let put = store.put_new(&name("a"), &[b"1"]);
    assert_eq!(kind(put), Some(StorageErrorKind::Unavailable));
    assert_eq!(
        kind(store.put_new(&name("a"), &[b"1"])),
        Some(StorageErrorKind::Exists)
    );
    // A call that fails by itself keeps its own error.
    store.set_plan(Plan::at(1, Fault::FailAfter(StorageErrorKind::Unavailable)));
    assert_eq!(
        kind(store.delete(&name("b"))),
        Some(StorageErrorKind::NotFound)
    );
}

#[test]
fn a_torn_object_is_hidden_unless_the_store_breaks_its_promises() {
    let store = FaultBackend::new();
    store.put(&name("a"), &[b"old"]).unwrap();
    store.set_plan(Plan::at(1, Fault::Tear));
    assert_eq!(
        kind(store.put(&name("a"), &[b"01234", b"56789"])),
        Some(StorageErrorKind::Io)
    );
    for seen in [&store, &store.crash()] {
        assert_eq!(names(seen, ""), ["a"]);
        assert_eq!(seen.get(&name("a"), 10).unwrap(), b"old");
        assert_eq!(seen.torn(), [b"01234"]);
    }
    store.set_plan(Plan::at(1, Fault::TearVisible));
    assert_eq!(
        kind(store.put(&name("a"), &[b"0123456789"])),
        Some(StorageErrorKind::Io)
    );
    for seen in [&store, &store.crash()] {
        assert_eq!(seen.get(&name("a"), 10).unwrap(), b"01234");
    }
    store.set_plan(Plan::at(1, Fault::TearVisible));
    assert_eq!(
        kind(store.put_new(&name("a"), &[b"xy"])),
        Some(StorageErrorKind::Exists)
    );
    for fault in [Fault::Tear, Fault::TearVisible] {
        store.set_plan(Plan::at(1, fault));
        assert_eq!(kind(store.delete(&name("a"))), Some(StorageErrorKind::Io));
        store.set_plan(Plan::at(1, fault));
        assert_eq!(kind(store.get(&name("a"), 10)), Some(StorageErrorKind::Io));
    }
    assert_eq!(store.get(&name("a"), 10).unwrap(), b"01234");
}

#[test]
fn a_crash_undoes_volatile_changes() {
    let store = FaultBackend::new();
    store.put(&name("kept"), &[b"1"]).unwrap();
    for change in [
        |store: &FaultBackend| store.put(&name("lost"), &[b"2"]),
        |store: &FaultBackend| store.put(&name("kept"), &[b"3"]),
        |store: &FaultBackend| store.delete(&name("kept")),
    ] {
        store.set_plan(Plan::at(1, Fault::Volatile));
        change(&store).unwrap();
    }
    assert_eq!(names(&store, ""), ["lost"]);
    let crashed = store.crash();
    assert_eq!(names(&crashed, ""), ["kept"]);
    assert_eq!(crashed.get(&name("kept"), 1).unwrap(), b"1");
    // An object that never became durable can be deleted.
    store.delete(&name("lost")).unwrap();
    assert_eq!(names(&store, ""), [""; 0]);
}

#[test]
fn a_store_that_failed_for_good_fails_every_later_call() {
    for (moment, left) in [(Moment::Before, &["a"][..]), (Moment::After, &["a", "b"])] {
        let store = FaultBackend::new();
        store.put(&name("a"), &[b"1"]).unwrap();
        store.set_plan(Plan::at_write(1, Fault::Die(moment)));
        let clone = store.clone();
        assert_eq!(
            kind(clone.put(&name("b"), &[b"2"])),
            Some(StorageErrorKind::Unavailable)
        );
        store.set_plan(Plan::at(1, Fault::FailAfter(StorageErrorKind::Io)));
        assert_eq!(kind(store.list("")), Some(StorageErrorKind::Unavailable));
        assert_eq!(
            kind(store.put(&name("c"), &[b"3"])),
            Some(StorageErrorKind::Unavailable)
        );
        assert_eq!(
            kind(store.get(&name("a"), 1)),
            Some(StorageErrorKind::Unavailable)
        );

        let crashed = store.crash();
        assert_eq!(
            (names(&crashed, ""), crashed.calls()),
            (left.iter().map(ToString::to_string).collect(), 1)
        );
        // The store that `crash` returned is independent of `store`.
        crashed.delete(&name("a")).unwrap();
        assert_eq!(names(&store.crash(), "").len(), left.len());
    }
}

#[test]
fn a_delayed_call_does_not_delay_others() {
    let store = FaultBackend::new();
    let pause = Duration::from_millis(300);
    store.set_plan(Plan::at(1, Fault::Delay(pause)));
    thread::scope(|scope| {
        let slow = scope.spawn(|| {
            let start = Instant::now();
            store.put(&name("slow"), &[b"1"]).unwrap();
            start.elapsed()
        });
        while store.calls() == 0 {
            thread::yield_now();
        }
        store.put(&name("quick"), &[b"2"]).unwrap();
        assert_eq!(names(&store, ""), ["quick"]);
        assert!(slow.join().unwrap() >= pause);
    });
    assert_eq!(names(&store, ""), ["quick", "slow"]);
}

#[test]
fn copies_are_independent_and_clones_are_the_same_store() {
    let one = MemoryBackend::new();
    one.put(&name("a"), &[b"1"]).unwrap();
    let (clone, copy) = (one.clone(), one.copy());
    let fault = FaultBackend::holding(&one);
    one.put(&name("b"), &[b"2"]).unwrap();
    assert_eq!(names(&clone, ""), ["a", "b"]);
    assert_eq!(names(&copy, ""), ["a"]);
    assert_eq!(names(&fault, ""), ["a"]);
    assert_eq!(names(&fault.crash(), ""), ["a"]);
}

#[test]
fn halves_of_torn_objects_are_leftovers() {
    let store = FaultBackend::new();
    for object in ["a/b/1", "a/2", "ab/3"] {
        store.set_plan(Plan::at(1, Fault::Tear));
        store.put(&name(object), &[b"1234"]).unwrap_err();
    }
    drop(store.take_log());
    let store = store.crash();
    let hour = Duration::from_hours(1);
    assert_eq!(store.remove_leftovers("", hour).unwrap(), 0);
    assert_eq!(store.remove_leftovers("a", Duration::ZERO).unwrap(), 2);
    assert_eq!(store.torn().len(), 1);
    assert_eq!(store.remove_leftovers("", Duration::ZERO).unwrap(), 1);
    assert_eq!(
        store.take_log()[1].operation,
        StorageOperation::RemoveLeftovers
    );
}
