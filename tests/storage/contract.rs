//! The promises of `Backend`, tested for every store. To test a new store, add a line in
//! `contract!`.

#![expect(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, SystemTime};

use cuttlebone::base::Cancel;
use cuttlebone::storage::{
    Backend, FaultBackend, LimitBackend, Limits, LocalBackend, MemoryBackend, Rate, RetryBackend,
    SftpBackend, StorageErrorKind, StorageOperation,
};

use super::retry::{LostAnswers, quickly};
use super::{kind, name, names};
use crate::support::Sshd;

macro_rules! contract {
    ($($store:ident: $make:expr;)*) => { $(
        mod $store {
            use super::*;
            contract!(@promises $make;
                an_object_is_its_parts_in_order
                an_object_may_have_many_parts_and_large_ones
                an_object_may_be_empty
                put_replaces_an_object
                put_new_refuses_a_taken_name_and_changes_nothing
                exactly_one_of_several_concurrent_new_puts_succeeds
                concurrent_puts_leave_one_of_the_objects_whole
                get_fails_beyond_its_limit
                get_range_returns_the_range_or_fails_at_the_end
                a_missing_object_is_not_found
                a_directory_is_not_an_object
                a_deleted_object_is_not_found_and_can_be_stored_again
                list_shows_the_objects_below_a_directory
                list_shows_whole_objects_while_others_are_stored
                every_valid_name_can_be_used
                errors_name_the_operation_the_object_and_the_store
                remove_leftovers_removes_no_object_and_no_running_upload
            );
        }
    )* };
    (@promises $make:expr; $($promise:ident)*) => { $(
        #[test]
        fn $promise() {
            let (store, _keep) = $make;
            super::$promise(&store);
        }
    )* };
}

contract! {
    memory: (MemoryBackend::new(), ());
    fault: (FaultBackend::new(), ());
    local: {
        let place = tempfile::tempdir().unwrap();
        (LocalBackend::create(place.path().join("a/store")).unwrap(), place)
    };
    sftp: {
        let Some(server) = Sshd::start() else { return };
        (SftpBackend::open(server.options()).unwrap(), server)
    };
    sftp_decorated: {
        let Some(server) = Sshd::start() else { return };
        let store = SftpBackend::open(server.options()).unwrap();
        let limited = LimitBackend::new(store, fast(), Cancel::default());
        (RetryBackend::new(limited, quickly(), Cancel::default()), server)
    };
    retry: (RetryBackend::new(FaultBackend::new(), quickly(), Cancel::default()), ());
    retry_with_lost_answers: {
        let store = LostAnswers::every(3);
        (RetryBackend::new(store, quickly(), Cancel::default()), ())
    };
    limited: {
        (LimitBackend::new(MemoryBackend::new(), fast(), Cancel::default()), ())
    };
}

/// Returns limits that hardly delay a test.
fn fast() -> Limits {
    let rate = || Rate::new(NonZeroU64::new(200 << 20).unwrap());
    Limits {
        upload: rate(),
        download: rate(),
    }
}

fn an_object_is_its_parts_in_order(store: &dyn Backend) {
    let object = name("packs/ab/abcd");
    store
        .put(&object, &[b"one", b"", b"two", b"three"])
        .unwrap();
    assert_eq!(store.get(&object, 11).unwrap(), b"onetwothree");
    assert_eq!(store.size(&object).unwrap(), 11);
    store.put_new(&name("new"), &[b"4", b"5"]).unwrap();
    assert_eq!(store.get(&name("new"), 100).unwrap(), b"45");
}

fn an_object_may_have_many_parts_and_large_ones(store: &dyn Backend) {
    let bytes: Vec<u8> = (0..5_000_000_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let (small, large) = bytes.split_at(30_000);
    let mut parts: Vec<&[u8]> = small.chunks(7).collect();
    parts.push(large);
    store.put(&name("large"), &parts).unwrap();
    assert!(store.get(&name("large"), 5_000_000).unwrap() == bytes);
    let mut middle = vec![0; 100_000];
    store
        .get_range(&name("large"), 1_040_000, &mut middle)
        .unwrap();
    assert!(middle == bytes[1_040_000..1_140_000]);
}

fn an_object_may_be_empty(store: &dyn Backend) {
    for (object, parts) in [("none", &[][..]), ("empty", &[&b""[..], b""])] {
        store.put(&name(object), parts).unwrap();
        assert_eq!(store.get(&name(object), 0).unwrap(), b"");
        assert_eq!(store.size(&name(object)).unwrap(), 0);
    }
    let listed = store.list("").unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|object| object.size == 0));
}

fn put_replaces_an_object(store: &dyn Backend) {
    let object = name("a/b");
    for bytes in [&b"a long first content"[..], b"short", b"longer again"] {
        store.put(&object, &[bytes]).unwrap();
        assert_eq!(store.get(&object, 100).unwrap(), bytes);
        assert_eq!(store.size(&object).unwrap(), bytes.len() as u64);
    }
    assert_eq!(names(store, ""), ["a/b"]);
}

fn put_new_refuses_a_taken_name_and_changes_nothing(store: &dyn Backend) {
    let object = name("a/b");
    store.put_new(&object, &[b"first"]).unwrap();
    let again = store.put_new(&object, &[b"second"]);
    assert_eq!(kind(again), Some(StorageErrorKind::Exists));
    assert_eq!(store.get(&object, 100).unwrap(), b"first");
    store.delete(&object).unwrap();
    store.put_new(&object, &[b"third"]).unwrap();
    assert_eq!(store.get(&object, 100).unwrap(), b"third");
}

fn exactly_one_of_several_concurrent_new_puts_succeeds(store: &dyn Backend) {
    for round in 0..10 {
        let object = name(&format!("keys/{round}"));
        let outcomes: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..8_u8)
                .map(|i| {
                    let object = &object;
                    scope.spawn(move || (i, kind(store.put_new(object, &[&[i; 3000]]))))
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        let winners: Vec<_> = outcomes.iter().filter(|(_, kind)| kind.is_none()).collect();
        let [(winner, _)] = winners[..] else {
            unreachable!("{outcomes:?}")
        };
        let refused = outcomes
            .iter()
            .filter(|(_, kind)| *kind == Some(StorageErrorKind::Exists));
        assert_eq!(refused.count(), 7);
        assert_eq!(store.get(&object, 3000).unwrap(), [*winner; 3000]);
    }
}

/// Concurrent reads also return one of the objects as a whole.
fn concurrent_puts_leave_one_of_the_objects_whole(store: &dyn Backend) {
    let object = name("a/b");
    let assert_whole = |bytes: &[u8]| {
        let first = usize::from(bytes[0]);
        assert_eq!(bytes, vec![bytes[0]; 10_000 + first]);
    };
    store.put(&object, &[&[0; 10_000]]).unwrap();
    thread::scope(|scope| {
        for i in 1..=4_u8 {
            let object = &object;
            scope.spawn(move || {
                let bytes = vec![i; 10_000 + usize::from(i)];
                for _ in 0..10 {
                    store
                        .put(object, &[&bytes[..5000], &bytes[5000..]])
                        .unwrap();
                }
            });
        }
        for _ in 0..50 {
            assert_whole(&store.get(&object, 20_000).unwrap());
        }
    });
    assert_whole(&store.get(&object, 20_000).unwrap());
    assert_eq!(names(store, ""), ["a/b"]);
}

fn get_fails_beyond_its_limit(store: &dyn Backend) {
    store.put(&name("a"), &[&[7; 1000]]).unwrap();
    for limit in [0, 1, 999] {
        assert_eq!(
            kind(store.get(&name("a"), limit)),
            Some(StorageErrorKind::TooLarge)
        );
    }
    for limit in [1000, 1001, u64::MAX] {
        assert_eq!(store.get(&name("a"), limit).unwrap(), [7; 1000]);
    }
}

fn get_range_returns_the_range_or_fails_at_the_end(store: &dyn Backend) {
    let object = name("a/b");
    store.put(&object, &[b"0123456789"]).unwrap();
    let get = |offset, len| {
        let mut buf = vec![b'?'; len];
        store.get_range(&object, offset, &mut buf).map(|()| buf)
    };
    assert_eq!(get(0, 10).unwrap(), b"0123456789");
    assert_eq!(get(0, 1).unwrap(), b"0");
    assert_eq!(get(3, 4).unwrap(), b"3456");
    assert_eq!(get(9, 1).unwrap(), b"9");
    for empty in [0, 5, 10, 11, u64::MAX] {
        assert_eq!(get(empty, 0).unwrap(), b"");
    }
    let far = i64::MAX.unsigned_abs();
    for (offset, len) in [
        (0, 11),
        (9, 2),
        (10, 1),
        (1 << 40, 1),
        (far, 1),
        (u64::MAX, 2),
    ] {
        let past = get(offset, len);
        assert_eq!(
            kind(past),
            Some(StorageErrorKind::Truncated),
            "{offset} {len}"
        );
    }
}

fn a_missing_object_is_not_found(store: &dyn Backend) {
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    let missing = Some(StorageErrorKind::NotFound);
    // These names are at the root, in a missing directory, next to an object, and below an object.
    for absent in ["x", "x/y/z", "a/b/d", "a/b/c/d", "a/b/c/d/e"] {
        let absent = name(absent);
        assert_eq!(kind(store.get(&absent, 10)), missing, "{absent}");
        assert_eq!(kind(store.get_range(&absent, 0, &mut [0])), missing);
        assert_eq!(kind(store.get_range(&absent, 0, &mut [])), missing);
        assert_eq!(kind(store.size(&absent)), missing);
        assert_eq!(kind(store.delete(&absent)), missing);
    }
    assert_eq!(names(store, ""), ["a/b/c"]);
}

fn a_directory_is_not_an_object(store: &dyn Backend) {
    store.put(&name("a/b/c"), &[b"1"]).unwrap();
    let missing = Some(StorageErrorKind::NotFound);
    for directory in ["a", "a/b"] {
        let directory = name(directory);
        assert_eq!(kind(store.get(&directory, 10)), missing);
        assert_eq!(kind(store.get_range(&directory, 0, &mut [0])), missing);
        assert_eq!(kind(store.get_range(&directory, 0, &mut [])), missing);
        assert_eq!(kind(store.size(&directory)), missing);
        assert_eq!(kind(store.delete(&directory)), missing);
    }
    assert_eq!(store.get(&name("a/b/c"), 1).unwrap(), b"1");
}

fn a_deleted_object_is_not_found_and_can_be_stored_again(store: &dyn Backend) {
    for object in ["a/1", "a/2", "3"] {
        store.put(&name(object), &[b"x"]).unwrap();
    }
    store.get_range(&name("a/1"), 0, &mut [0]).unwrap();
    store.delete(&name("a/1")).unwrap();
    store.delete(&name("3")).unwrap();
    assert_eq!(names(store, ""), ["a/2"]);
    for object in ["a/1", "3"] {
        let object = name(object);
        assert_eq!(
            kind(store.get(&object, 1)),
            Some(StorageErrorKind::NotFound)
        );
        let range = store.get_range(&object, 0, &mut [0]);
        assert_eq!(kind(range), Some(StorageErrorKind::NotFound));
        assert_eq!(
            kind(store.delete(&object)),
            Some(StorageErrorKind::NotFound)
        );
        store.put(&object, &[b"again"]).unwrap();
        assert_eq!(store.get(&object, 5).unwrap(), b"again");
    }
}

fn list_shows_the_objects_below_a_directory(store: &dyn Backend) {
    assert_eq!(names(store, ""), [""; 0]);
    let all = ["a", "b/1", "b/2/3", "b/2/4/5/6", "ba/7", "c.copy"];
    let before = SystemTime::now() - Duration::from_mins(1);
    for (i, object) in all.into_iter().enumerate() {
        store.put(&name(object), &[&vec![0; i]]).unwrap();
    }
    assert_eq!(names(store, ""), all);
    assert_eq!(names(store, "b"), ["b/1", "b/2/3", "b/2/4/5/6"]);
    assert_eq!(names(store, "b/2"), ["b/2/3", "b/2/4/5/6"]);
    assert_eq!(names(store, "b/2/4/5"), ["b/2/4/5/6"]);
    // These are missing directories, objects, and strings that cannot be a directory.
    for nothing in [
        "d", "d/e", "b/2/x", "a", "b/1", "b/", "/", ".", "..", "../b", "B", "c",
    ] {
        assert_eq!(names(store, nothing), [""; 0], "{nothing}");
    }
    for object in store.list("").unwrap() {
        let size = all.iter().position(|name| *name == object.name.as_str());
        assert_eq!(Some(object.size), size.map(|size| size as u64));
        let after = SystemTime::now() + Duration::from_mins(1);
        assert!(before < object.modified && object.modified < after);
    }
}

fn list_shows_whole_objects_while_others_are_stored(store: &dyn Backend) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..100 {
                let object = name(&format!("a/{}/{i}", i % 10));
                store.put(&object, &[&[1; 100], &[2; 1900]]).unwrap();
                if i % 3 == 0 {
                    store.delete(&object).unwrap();
                }
            }
        });
        for _ in 0..30 {
            for object in store.list("").unwrap() {
                assert_eq!(object.size, 2000);
            }
        }
    });
    assert_eq!(store.list("a").unwrap().len(), 66);
}

fn every_valid_name_can_be_used(store: &dyn Backend) {
    let long = ["z".repeat(80), "0".repeat(80), "_".repeat(80)].join("/");
    let all = [
        "-",
        "-rf",
        "0.1",
        "_",
        "a.",
        "a..b",
        "b/c/d/e/f",
        "tmp-0",
        &long,
    ];
    for object in all {
        store.put(&name(object), &[object.as_bytes()]).unwrap();
    }
    for object in all {
        assert_eq!(store.get(&name(object), 1000).unwrap(), object.as_bytes());
    }
    assert_eq!(store.list("").unwrap().len(), all.len());
}

fn errors_name_the_operation_the_object_and_the_store(store: &dyn Backend) {
    assert!(!store.location().is_empty());
    let absent = name("a/b");
    let errors = [
        (StorageOperation::Get, store.get(&absent, 1).err()),
        (
            StorageOperation::Get,
            store.get_range(&absent, 0, &mut [0]).err(),
        ),
        (StorageOperation::Size, store.size(&absent).err()),
        (StorageOperation::Delete, store.delete(&absent).err()),
    ];
    for (operation, error) in errors {
        let error = error.unwrap();
        assert_eq!((error.operation, error.object.as_str()), (operation, "a/b"));
        assert_eq!(error.location, store.location());
    }
}

fn remove_leftovers_removes_no_object_and_no_running_upload(store: &dyn Backend) {
    let all = ["a", "b/1", "b/2/3", "tmp-0123456789abcdef"];
    for object in all {
        store.put(&name(object), &[b"1"]).unwrap();
    }
    for directory in ["", "b", "b/2", "d", "a", "b/", "/", "..", "../b", "B"] {
        let removed = store.remove_leftovers(directory, Duration::ZERO).unwrap();
        assert_eq!(removed, 0, "{directory}");
    }
    thread::scope(|scope| {
        let putting = scope.spawn(|| {
            for i in 0..50 {
                let object = name(&format!("c/{}/{i}", i % 5));
                store.put(&object, &[&[1; 3000]]).unwrap();
            }
        });
        while !putting.is_finished() {
            let hour = Duration::from_hours(1);
            assert_eq!(store.remove_leftovers("", hour).unwrap(), 0);
        }
    });
    assert_eq!(store.list("c").unwrap().len(), 50);
    assert_eq!(names(store, "b"), ["b/1", "b/2/3"]);
}
