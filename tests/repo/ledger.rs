//! The ledger: entries that count and entries that do not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cuttlebone::base::{Notice, ObjectHash, Role, Silent};
use cuttlebone::format::{LedgerBody, LedgerInfo, VerifiedLevel, VerifiedPacks};
use cuttlebone::ops::{self, DataPart, ReadData};
use cuttlebone::repo::{Grant, Ledger, NewLedgerEntry, ObjectRef, Project, Repository, Worker};
use cuttlebone::storage::{Backend, MemoryBackend, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, key, noise};

const WORKER: Worker<'static> = Worker {
    host: None,
    tool: "test",
};

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap()
}

fn pack(byte: u8) -> ObjectHash {
    ObjectHash::from_bytes([byte; 32])
}

fn group(time: u64, level: VerifiedLevel, packs: &[u8]) -> VerifiedPacks {
    let packs = packs.iter().map(|byte| pack(*byte)).collect();
    VerifiedPacks { time, level, packs }
}

/// Stores an entry that no program would write, like the holder of the key.
fn state(project: &Project, group: VerifiedPacks) {
    let body = LedgerBody {
        about: LedgerInfo {
            requires: Vec::new(),
            time: "2026-11-21T10:00:00Z".into(),
            host: None,
            tool: None,
            runs: Vec::new(),
            drills: Vec::new(),
            replaces: Vec::new(),
        },
        groups: vec![group],
    };
    project
        .put_sealed(ObjectRef::Ledger, &body.encode())
        .unwrap();
}

fn with_key(owner: &TestRepo, store: &MemoryBackend, role: Role, password: &[u8]) -> TestRepo {
    let grant = Grant::Project {
        project: &owner.project,
        role,
        volumes: &[],
    };
    owner
        .repository
        .add_key(grant, &key(password), &Silent)
        .unwrap();
    let repository =
        Repository::open(std::sync::Arc::new(store.clone()), password, &Silent).unwrap();
    let project = repository
        .project("default", &RecordingObserver::default())
        .unwrap();
    TestRepo {
        repository,
        project,
    }
}

#[test]
fn the_word_of_a_key_that_is_not_full_counts_only_for_itself_and_only_for_hashes() {
    use VerifiedLevel::{Hashed, Opened};
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let liars = [
        with_key(&owner, &store, Role::Verify, b"verify"),
        with_key(&owner, &store, Role::Write, b"write"),
    ];
    let time = now() - 1000;
    for (liar, own) in liars.iter().zip([1, 2]) {
        state(&liar.project, group(time, Opened, &[own, 9]));
        state(&liar.project, group(time, Hashed, &[own]));
    }
    state(&owner.project, group(time, Opened, &[3]));
    let seen = |test_repo: &TestRepo, level| {
        let ledger = Ledger::load(&test_repo.project).unwrap();
        let verified = ledger.verified(level, now());
        let mut packs: Vec<_> = verified.into_keys().collect();
        packs.sort_unstable();
        packs
    };
    assert_eq!(seen(&owner, Opened), [pack(3)]);
    assert_eq!(seen(&owner, Hashed), [pack(3)]);
    for (liar, own) in liars.iter().zip([1, 2]) {
        assert_eq!(seen(liar, Opened), [pack(3)]);
        assert_eq!(seen(liar, Hashed), [pack(own), pack(3)]);
    }
    // No entry of the ledger makes others rely on a pack.
    let audits = cuttlebone::repo::Audits::load(&owner.project).unwrap();
    assert!(audits.into_packs().is_empty());
}

#[test]
fn a_time_in_the_future_never_counts_and_a_merge_leaves_it_out() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let load = || Ledger::load(&owner.project).unwrap();
    let (level, hour) = (VerifiedLevel::Opened, 3_600_000);
    state(&owner.project, group(now() + 1000 * hour, level, &[1]));
    state(&owner.project, group(now() - hour, level, &[2]));
    let later = now() + 2000 * hour;
    let verified = load().verified(level, later);
    // The store's clock was right: the entry cannot be of a later time than that.
    assert!(verified[&pack(1)] <= now());
    for _ in 0..10 {
        let new = NewLedgerEntry::default();
        load()
            .append(&owner.project, new, WORKER, |_| true)
            .unwrap();
    }
    let entries = |store: &MemoryBackend| {
        let listed = store.list("projects").unwrap();
        listed
            .iter()
            .filter(|o| o.name.as_str().contains("/ledger/"))
            .count()
    };
    assert!(entries(&store) < 9);
    let verified = load().verified(level, later);
    assert!(verified[&pack(1)] <= now() && verified[&pack(2)] <= now() - hour);
}

#[test]
fn a_merge_keeps_the_latest_time_of_each_pack_and_leaves_out_packs_that_do_not_exist() {
    use VerifiedLevel::{Hashed, Opened};
    let owner = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let load = || Ledger::load(&owner.project).unwrap();
    let time = now() - 10_000;
    for later in 0..8 {
        state(&owner.project, group(time + later, Opened, &[1, 2]));
    }
    let new = NewLedgerEntry {
        verified: vec![
            group(time + 20, Hashed, &[1]),
            group(time + 2, Opened, &[3]),
        ],
        ..NewLedgerEntry::default()
    };
    load()
        .append(&owner.project, new, WORKER, |known| *known != pack(2))
        .unwrap();
    let opened = load().verified(Opened, now());
    assert_eq!(
        (opened[&pack(1)], opened[&pack(3)], opened.len()),
        (time + 7, time + 2, 2)
    );
    assert_eq!(load().verified(Hashed, now())[&pack(1)], time + 20);
}

fn read(part: DataPart) -> ReadData {
    ReadData {
        part,
        ..ReadData::all(None)
    }
}

#[test]
fn a_check_of_a_store_that_cannot_be_written_succeeds_and_says_that_it_is_not_noted() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&owner, "disk", &image).unwrap();
    for kind in [
        StorageErrorKind::Full,
        StorageErrorKind::ReadOnly,
        StorageErrorKind::Unavailable,
    ] {
        let full = Intercepted::new(&store, move |operation, name| {
            let is_ledger = name.contains("/ledger/");
            if operation == StorageOperation::Put && is_ledger {
                Err(kind)
            } else {
                Ok(())
            }
        });
        let opened = TestRepo::open(full, &Silent).unwrap();
        let all = read(DataPart::All);
        let checked = ops::check(
            &opened.repository,
            &opened.project,
            Some(&all),
            &host.context(),
            &mut |finding| unreachable!("{finding:?}"),
        );
        assert!(checked.unwrap().data.unwrap().complete);
        let notices = host.notices.take();
        assert!(
            notices
                .iter()
                .any(|notice| matches!(notice, Notice::LedgerNotStored { .. })),
            "{notices:?}"
        );
    }
}

#[test]
fn a_run_that_fails_notes_the_packs_that_it_verified() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    for seed in 1..=4 {
        let image = Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK));
        host.back_up(&owner, &format!("disk{seed}"), &image)
            .unwrap();
    }
    let packs: Vec<_> = store.list("projects").unwrap();
    let packs = packs
        .iter()
        .filter(|object| object.name.as_str().contains("/packs/"));
    let mut packs = packs;
    let bad = packs.next_back().unwrap().name.as_str().to_owned();
    let begun = AtomicBool::new(false);
    let refused = Mutex::new(bad.clone());
    let lost = Intercepted::new(&store, move |operation, name| {
        let is_bad = name == *refused.lock().unwrap();
        let is_read = matches!(operation, StorageOperation::Get);
        if is_bad && is_read {
            begun.store(true, Ordering::Relaxed);
            return Err(StorageErrorKind::Unavailable);
        }
        Ok(())
    });
    let opened = TestRepo::open(lost, &Silent).unwrap();
    let all = read(DataPart::All);
    let mut host = Host::without_cache();
    host.threads = 1;
    // The order is random. Sooner or later, a pack is read before the one that cannot be reached.
    let mut verified = 0;
    for _ in 0..60 {
        let failed = ops::check(
            &opened.repository,
            &opened.project,
            Some(&all),
            &host.context(),
            &mut |finding| unreachable!("{finding:?}"),
        );
        assert!(failed.is_err(), "trouble with the transport is no damage");
        let ledger = Ledger::load(&owner.project).unwrap();
        verified = ledger.verified(VerifiedLevel::Opened, now()).len();
        if verified > 0 {
            break;
        }
    }
    assert!(verified > 0);
    let ledger = Ledger::load(&owner.project).unwrap();
    assert!(ledger.runs().iter().all(|(_, run)| !run.complete));
}
