//! Unlocking a repository with foreign key slots in its store. They must neither stop nor delay the
//! right keys, and the store must not learn whether a password opens a slot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cuttlebone::base::{Cancel, Notice, ObjectHash, Role, SignerId, Silent};
use cuttlebone::crypto::{KdfParams, SealKey, object_hash};
use cuttlebone::format::Certificate;
use cuttlebone::ops::Finding;
use cuttlebone::repo::{Grant, Locked, ObjectRef, RepoError, RepoErrorKind, Repository};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, Name};

use super::intercepted::Intercepted;
use super::{Host, PASSWORD, RecordingObserver, TestRepo, key};

/// Returns the store of a repository with one key, and the id of this key.
fn repository() -> (MemoryBackend, ObjectHash) {
    let store = MemoryBackend::new();
    let made = TestRepo::init(store.clone(), 64 << 10).unwrap();
    (store, made.repository.key_id())
}

/// Returns the bytes of a key slot of the repository.
fn slot(store: &MemoryBackend, id: ObjectHash) -> Vec<u8> {
    store
        .get(&ObjectRef::Key(None, id).name(), 1 << 20)
        .unwrap()
}

/// Stores a key slot under its hash. Returns the hash.
fn add(store: &MemoryBackend, bytes: &[u8]) -> ObjectHash {
    let id = object_hash(&[bytes]);
    let object = ObjectRef::Key(None, id);
    for name in [object.name(), object.copy_name()] {
        store.put(&name, &[bytes]).unwrap();
    }
    id
}

/// Returns a copy of a slot. Its salt is filled with the byte `salt`, and it has `bytes` at an
/// offset.
fn changed(slot: &[u8], offset: usize, bytes: &[u8], salt: u8) -> Vec<u8> {
    let mut slot = slot.to_vec();
    slot[32..64].fill(salt);
    slot[offset..offset + bytes.len()].copy_from_slice(bytes);
    slot
}

/// Returns memory in KiB, passes and lanes, as a slot stores them from byte 20 on.
fn params(memory_kib: u32, passes: u32, lanes: u32) -> Vec<u8> {
    let fields = [memory_kib, passes, lanes].map(u32::to_le_bytes);
    fields.concat()
}

fn find(
    store: &MemoryBackend,
    last_key: Option<ObjectHash>,
    observer: &RecordingObserver,
) -> Locked {
    Repository::find(Arc::new(store.clone()), last_key, observer).unwrap()
}

/// Tries a password. Returns the id of the key that it opened, or `None` if it opened none.
fn tried(locked: &Locked, password: &[u8], observer: &RecordingObserver) -> Option<ObjectHash> {
    let key = locked.try_password(password, &Cancel::default(), observer);
    key.unwrap().map(|key| key.id())
}

fn notices(observer: &RecordingObserver) -> Vec<Notice> {
    observer.0.lock().unwrap().clone()
}

fn skipped(observer: &RecordingObserver) -> BTreeSet<ObjectHash> {
    let notices = notices(observer);
    let skipped = notices.iter().filter_map(|notice| match notice {
        Notice::KeySlotSkipped { key, .. } => Some(*key),
        _ => None,
    });
    skipped.collect()
}

#[test]
fn slots_that_cannot_be_tried_are_skipped_and_named() {
    let (store, own) = repository();
    let slot = slot(&store, own);
    let impossible = [
        params(1, 1, 1),
        params(8, 0, 1),
        params(8, 1, 0),
        params(640, 1, 65),
        params(5 << 20, 1, 1),
        params(8, 1025, 1),
        params(4 << 20, 1024, 64),
    ];
    let added = (0..).zip(&impossible);
    let added: BTreeSet<_> = added
        .map(|(salt, params)| add(&store, &changed(&slot, 20, params, salt)))
        .collect();
    // The changed byte makes another kind of object, or an unknown role, key derivation or scope.
    let unreadable = [(0, 9), (17, 7), (18, 2), (16, 9)];
    for (number, (offset, value)) in (100..).zip(unreadable) {
        add(&store, &changed(&slot, offset, &[value], number));
    }

    let observer = RecordingObserver::default();
    let locked = find(&store, None, &observer);
    let begun = Instant::now();
    assert_eq!(tried(&locked, b"wrong", &observer), None);
    assert_eq!(tried(&locked, PASSWORD, &observer), Some(own));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(skipped(&observer), added);
    let damaged = notices(&observer).into_iter();
    let damaged = damaged.filter(|notice| matches!(notice, Notice::KeySlotDamaged { .. }));
    assert_eq!(
        damaged.count(),
        3,
        "the object of another kind is only counted"
    );
    assert!(
        notices(&observer)
            .iter()
            .any(|notice| { matches!(notice, Notice::KeySlotsIgnored { slots: 1, .. }) })
    );
}

/// Returns a key slot of version 2, which the password opens. The beginning of a slot is the same
/// in all versions. The program that is tested does not know the rest of version 2.
fn slot_of_version_2(slot: &[u8], password: &[u8]) -> Vec<u8> {
    let mut newer = slot[..64].to_vec();
    newer[8] = 2;
    newer[20..32].copy_from_slice(&params(8, 1, 1));
    let kdf = KdfParams::new(8, 1, 1).unwrap();
    let salt = newer[32..64].try_into().unwrap();
    let wrap = SealKey::new(&kdf.derive(password, salt).unwrap());
    let (nonce, sealed) = wrap
        .seal(&[&[0; 16], &newer[..]].concat(), &[7; 32])
        .unwrap();
    [
        &newer[..],
        nonce.as_bytes(),
        &sealed,
        b"a part of version 2",
    ]
    .concat()
}

#[test]
fn the_version_of_a_slot_counts_only_if_the_password_opens_the_slot() {
    let (store, own) = repository();
    let slot = slot(&store, own);
    let mut unproven = slot.clone();
    unproven[8] = 2;
    add(&store, &unproven);
    let newer = add(&store, &slot_of_version_2(&slot, b"of a newer program"));
    let both = add(&store, &slot_of_version_2(&slot, PASSWORD));
    let observer = RecordingObserver::default();
    let locked = find(&store, Some(both), &observer);
    assert_eq!(tried(&locked, b"wrong", &observer), None);
    // The slot of a known version opens, although a newer slot has the same password.
    assert_eq!(tried(&locked, PASSWORD, &observer), Some(own));
    let refused = locked.try_password(b"of a newer program", &Cancel::default(), &observer);
    let Err(RepoError::Unsupported { object, .. }) = refused.map(|key| key.is_some()) else {
        panic!("a slot of version 2 was not refused");
    };
    assert_eq!(object, ObjectRef::Key(None, newer));
    assert!(notices(&observer).is_empty(), "{:?}", notices(&observer));
}

#[test]
fn expensive_slots_do_not_delay_a_slot_that_opens() {
    let (store, own) = repository();
    let slot = slot(&store, own);
    // Each of these slots takes about a minute of work.
    for salt in 0..8 {
        add(
            &store,
            &changed(&slot, 20, &params(64 << 10, 1024, 1), salt),
        );
    }
    let observer = RecordingObserver::default();
    let begun = Instant::now();
    assert_eq!(
        tried(&find(&store, None, &observer), PASSWORD, &observer),
        Some(own)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_derivation_can_be_interrupted() {
    let (store, own) = repository();
    let slot = slot(&store, own);
    add(&store, &changed(&slot, 20, &params(64 << 10, 1024, 1), 0));
    let locked = find(&store, None, &RecordingObserver::default());
    let cancel = Cancel::default();
    let stop = cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stop.cancel();
    });
    let begun = Instant::now();
    let error = locked
        .try_password(b"wrong", &cancel, &Silent)
        .err()
        .unwrap();
    assert_eq!(error.kind(), RepoErrorKind::Cancelled);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    stopper.join().unwrap();
}

#[test]
fn the_key_that_opened_last_is_tried_before_all_others() {
    let (store, own) = repository();
    // This slot takes less work than any valid slot, so it comes first if no last key is known.
    let impossible = add(
        &store,
        &changed(&slot(&store, own), 20, &params(1, 1, 1), 1),
    );
    for (last_key, expected) in [
        (None, BTreeSet::from([impossible])),
        (Some(own), BTreeSet::new()),
        (
            Some(ObjectHash::from_bytes([7; 32])),
            BTreeSet::from([impossible]),
        ),
    ] {
        let observer = RecordingObserver::default();
        let locked = find(&store, last_key, &observer);
        assert_eq!(tried(&locked, PASSWORD, &observer), Some(own));
        assert_eq!(skipped(&observer), expected);
    }
}

#[test]
fn thousands_of_files_among_the_key_slots_do_not_hide_the_key() {
    let (store, own) = repository();
    let slot = slot(&store, own);
    for number in 0..10_000_u32 {
        let garbage = number.to_le_bytes();
        let name = match number % 3 {
            // The first name is not the hash of the bytes. The second name is right, but the bytes
            // are no slot. The third is a name that no slot has.
            0 => ObjectRef::Key(None, object_hash(&[b"other", &garbage])).name(),
            1 => ObjectRef::Key(None, object_hash(&[&garbage])).name(),
            _ => Name::new(format!("keys/garbage-{number}")).unwrap(),
        };
        store.put(&name, &[&garbage]).unwrap();
    }
    // These slots are valid, so any password might open one of them. They are stored after the
    // slot of the key.
    for number in 0..100 {
        add(&store, &changed(&slot, 20, &params(8, 1, 1), number));
    }
    let gets = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&gets);
    let watched = Intercepted::new(&store, move |_, _| {
        *counted.lock().unwrap() += 1;
        Ok(())
    });
    let observer = RecordingObserver::default();
    let locked = Repository::find(Arc::new(watched), None, &observer).unwrap();
    assert_eq!(tried(&locked, PASSWORD, &observer), Some(own));
    let gets = *gets.lock().unwrap();
    assert!(gets < 700, "{gets} requests");
    assert!(notices(&observer).len() < 10, "{:?}", notices(&observer));
    assert!(
        notices(&observer)
            .iter()
            .any(|notice| { matches!(notice, Notice::KeySlotsIgnored { .. }) })
    );
}

/// Tries a password that does not open this repository. Returns all reads of the store that the
/// attempt made.
fn reads(store: &MemoryBackend, password: &[u8]) -> Vec<String> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let logged = Arc::clone(&log);
    let watched = Intercepted::new(store, move |operation, name| {
        logged.lock().unwrap().push(format!("{operation:?} {name}"));
        Ok(())
    });
    let locked = Repository::find(Arc::new(watched), None, &Silent).unwrap();
    let before = log.lock().unwrap().len();
    // If a key of another repository opens, the user may see another error, but the store sees the
    // same reads.
    let _ = locked.try_password(password, &Cancel::default(), &Silent);
    let mut reads = log.lock().unwrap().split_off(before);
    reads.sort();
    reads
}

#[test]
fn the_store_sees_the_same_reads_whether_a_foreign_slot_opens_or_not() {
    let (store, _) = repository();
    let (other, of_other) = repository();
    let made = TestRepo::open(other.clone(), &Silent).unwrap();
    let guess = Grant::Everything;
    let id = made
        .repository
        .add_key(guess, &key(b"a guess"), &Silent)
        .unwrap();
    assert_ne!(id, of_other);
    add(&store, &slot(&other, id));
    let (fits, does_not) = (reads(&store, b"a guess"), reads(&store, b"no guess"));
    assert_eq!(fits, does_not);
    assert!(
        fits.iter().any(|read| read.contains("cuttlebone")),
        "{fits:?}"
    );
    // The key of this repository opens as before.
    TestRepo::open(store, &Silent).unwrap();
}

#[test]
fn the_store_sees_the_same_reads_whether_a_slot_of_another_project_opens_or_not() {
    let (store, _) = repository();
    let own = TestRepo::open(store.clone(), &Silent).unwrap().project.id;
    // Copy a whole project of another repository into this store, with a slot of that project.
    let (other, _) = repository();
    let made = TestRepo::open(other.clone(), &Silent).unwrap();
    let grant = Grant::Project {
        project: &made.project,
        role: cuttlebone::base::Role::Full,
        volumes: &[],
    };
    let id = made
        .repository
        .add_key(grant, &key(b"a guess"), &Silent)
        .unwrap();
    let theirs = made.project.id;
    for object in other.list(&format!("projects/{theirs}")).unwrap() {
        let bytes = other.get(&object.name, 1 << 20).unwrap();
        store.put(&object.name, &[&bytes]).unwrap();
    }
    let opened = |password: &[u8]| {
        let observer = RecordingObserver::default();
        tried(&find(&store, None, &observer), password, &observer)
    };
    assert_eq!(
        opened(b"a guess"),
        Some(id),
        "the key opens a complete project"
    );
    // A project is not opened if its keys do not open its settings.
    for object in other.list(&format!("projects/{theirs}/settings")).unwrap() {
        let bytes = store.get(&object.name, 1 << 20).unwrap();
        store.delete(&object.name).unwrap();
        let moved = object
            .name
            .as_str()
            .replace(&theirs.to_string(), &own.to_string());
        store.put(&Name::new(&moved).unwrap(), &[&bytes]).unwrap();
    }
    let observer = RecordingObserver::default();
    let locked = find(&store, None, &observer);
    let tried = locked.try_password(b"a guess", &Cancel::default(), &observer);
    assert_eq!(tried.err().unwrap().kind(), RepoErrorKind::Damaged);
    assert_eq!(reads(&store, b"a guess"), reads(&store, b"no guess"));
}

#[test]
fn a_slot_whose_version_is_not_proven_is_foreign_and_not_damaged() {
    let (store, own) = repository();
    let mut unproven = slot(&store, own);
    unproven[8] = 2;
    let forged = add(&store, &unproven);
    let full = TestRepo::open(store.clone(), &Silent).unwrap();
    let observer = RecordingObserver::default();
    let listed = full.repository.list_keys(&observer).unwrap();
    let is_foreign = |id| listed.iter().find(|key| key.id == id).unwrap().foreign;
    assert!(is_foreign(forged) && !is_foreign(own));
    assert!(notices(&observer).is_empty(), "{:?}", notices(&observer));
    let (_, findings) = Host::without_cache().check(&full, false);
    let object = ObjectRef::Key(None, forged);
    assert!(
        matches!(&findings[..], [Finding::ObjectForeign { object: found, .. }] if *found == object),
        "{findings:?}"
    );
}

#[test]
fn a_slot_of_a_newer_program_is_not_foreign_if_a_certificate_names_it() {
    let (store, own) = repository();
    let full = TestRepo::open(store.clone(), &Silent).unwrap();
    let mut newer = slot_of_version_2(&slot(&store, own), b"of a newer program");
    // A slot of a project, with a role that this version does not know.
    newer[16..18].copy_from_slice(&[1, 9]);
    let id = object_hash(&[&newer]);
    let object = ObjectRef::Key(Some(full.project.id), id);
    for name in [object.name(), object.copy_name()] {
        store.put(&name, &[&newer]).unwrap();
    }
    let listed = |observer: &RecordingObserver| {
        let keys = full.repository.list_keys(observer).unwrap();
        keys.into_iter().find(|key| key.id == id).unwrap()
    };
    let observer = RecordingObserver::default();
    assert!(listed(&observer).foreign);
    let host = Host::without_cache();
    let (_, findings) = host.check(&full, false);
    assert!(
        matches!(&findings[..], [Finding::ObjectForeign { object: found, .. }] if *found == object),
        "{findings:?}"
    );

    let certificate = Certificate {
        requires: Vec::new(),
        role: "write".into(),
        slot: id,
        signer: Some(SignerId::from_bytes([2; 32])),
        volumes: vec!["web-*".into()],
        features: Vec::new(),
        created: "2026-11-21T10:00:00Z".into(),
        label: None,
    };
    let put = full
        .project
        .put_sealed(ObjectRef::Certificate, &certificate.encode());
    put.unwrap();
    let shown = listed(&observer);
    assert!(!shown.foreign && shown.role == Role::Write);
    assert_eq!(shown.volumes, ["web-*"]);
    assert_eq!(
        skipped(&observer),
        [id].into(),
        "the slot of a newer program is passed over"
    );
    let (_, findings) = host.check(&full, false);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn settings_that_someone_adds_take_bounded_memory_before_a_password_is_tried() {
    let (store, own) = repository();
    let project = TestRepo::open(store.clone(), &Silent).unwrap().project.id;
    for number in 0..80 {
        let bytes = vec![number; 1 << 20];
        let object = ObjectRef::Settings(project, object_hash(&[&bytes]));
        for name in [object.name(), object.copy_name()] {
            store.put(&name, &[&bytes]).unwrap();
        }
    }
    let watched = FaultBackend::holding(&store);
    let observer = RecordingObserver::default();
    let locked = Repository::find(Arc::new(watched.clone()), None, &observer).unwrap();
    let read: u64 = watched.take_log().iter().map(|call| call.bytes).sum();
    assert!(read < 65 << 20, "{read}");
    assert_eq!(tried(&locked, PASSWORD, &observer), Some(own));
    let repository = Repository::open(Arc::new(store), PASSWORD, &observer).unwrap();
    let opened = repository.project("default", &observer).unwrap();
    assert_eq!(opened.settings.name, "default");
}
