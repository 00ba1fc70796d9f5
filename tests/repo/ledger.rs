//! The ledger states which packs were verified, and when. Some entries count, and some do not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cuttlebone::base::{Notice, ObjectHash, Role, Silent};
use cuttlebone::format::{
    AuditRun, LedgerBody, LedgerInfo, ReadPacks, ReadResult, RecordTime, VerifiedLevel,
};
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

fn group(time: u64, level: VerifiedLevel, packs: &[u8]) -> ReadPacks {
    result(time, ReadResult::Verified(level), packs)
}

fn result(time: u64, result: ReadResult, packs: &[u8]) -> ReadPacks {
    let packs = packs.iter().map(|byte| pack(*byte)).collect();
    ReadPacks {
        time,
        result,
        packs,
    }
}

/// Reads the ledger as if all packs existed. `now` is the time in milliseconds since 1970.
fn load(project: &Project, now: u64) -> Ledger {
    Ledger::load(project, now, |_| true).unwrap()
}

/// Stores an entry that the holder of the key can sign, but that the program would not write.
fn state(project: &Project, group: ReadPacks) {
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
fn ledger_entries_of_a_write_or_verify_key_count_only_for_that_key_and_only_as_hashed() {
    use VerifiedLevel::{Hashed, Opened};
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let other_keys = [
        with_key(&owner, &store, Role::Verify, b"verify"),
        with_key(&owner, &store, Role::Write, b"write"),
    ];
    let time = now() - 1000;
    for (other_key, own) in other_keys.iter().zip([1, 2]) {
        state(&other_key.project, group(time, Opened, &[own, 9]));
        state(&other_key.project, group(time, Hashed, &[own]));
    }
    state(&owner.project, group(time, Opened, &[3]));
    let seen = |test_repo: &TestRepo, level| {
        let verified = load(&test_repo.project, now()).verified(level);
        let mut packs: Vec<_> = verified.into_keys().collect();
        packs.sort_unstable();
        packs
    };
    assert_eq!(seen(&owner, Opened), [pack(3)]);
    assert_eq!(seen(&owner, Hashed), [pack(3)]);
    for (other_key, own) in other_keys.iter().zip([1, 2]) {
        assert_eq!(seen(other_key, Opened), [pack(3)]);
        assert_eq!(seen(other_key, Hashed), [pack(own), pack(3)]);
    }
    // No entry of the ledger makes others rely on a pack.
    let audits = cuttlebone::repo::Audits::load(&owner.project).unwrap();
    assert!(audits.into_packs().is_empty());
}

#[test]
fn a_ledger_time_in_the_future_counts_as_the_time_when_the_entry_was_stored() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let (level, hour) = (VerifiedLevel::Opened, 3_600_000);
    state(&owner.project, group(now() + 1000 * hour, level, &[1]));
    state(&owner.project, group(now() - hour, level, &[2]));
    let later = now() + 2000 * hour;
    let verified = load(&owner.project, later).verified(level);
    // The pack counts as verified at the time when the store received the entry, not later.
    assert!(verified[&pack(1)] <= now());
    for _ in 0..10 {
        let new = NewLedgerEntry::default();
        load(&owner.project, now())
            .append(&owner.project, new, WORKER)
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
    let verified = load(&owner.project, later).verified(level);
    assert!(verified[&pack(1)] <= now() && verified[&pack(2)] <= now() - hour);
}

#[test]
fn a_merge_keeps_the_latest_time_of_each_pack_and_leaves_out_packs_that_do_not_exist() {
    use VerifiedLevel::{Hashed, Opened};
    let owner = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let time = now() - 10_000;
    for later in 0..8 {
        state(&owner.project, group(time + later, Opened, &[1, 2]));
    }
    let new = NewLedgerEntry {
        packs: vec![
            group(time + 20, Hashed, &[1]),
            group(time + 2, Opened, &[3]),
        ],
        ..NewLedgerEntry::default()
    };
    Ledger::load(&owner.project, now(), |known| *known != pack(2))
        .unwrap()
        .append(&owner.project, new, WORKER)
        .unwrap();
    let opened = load(&owner.project, now()).verified(Opened);
    assert_eq!(
        (opened[&pack(1)], opened[&pack(3)], opened.len()),
        (time + 7, time + 2, 2)
    );
    assert_eq!(
        load(&owner.project, now()).verified(Hashed)[&pack(1)],
        time + 20
    );
}

/// Stores an entry that only states this run.
fn state_run(project: &Project, run: AuditRun) {
    let new = NewLedgerEntry {
        runs: vec![run],
        ..NewLedgerEntry::default()
    };
    new.store(project, WORKER).unwrap();
}

fn run(seed: [u8; 32], seconds: u64) -> AuditRun {
    AuditRun {
        time: RecordTime::from(jiff::Timestamp::now()),
        host: None,
        level: VerifiedLevel::Hashed,
        seed: ObjectHash::from_bytes(seed),
        packs: 1,
        bytes: 2,
        damaged: 0,
        seconds,
        complete: true,
    }
}

#[test]
fn a_pack_that_was_found_damaged_does_not_count_as_verified_until_it_is_verified_again() {
    use VerifiedLevel::{Hashed, Opened};
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let verify = with_key(&owner, &store, Role::Verify, b"verify");
    let (past, hour) = (now(), 3_600_000);
    let packs = |level, test_repo: &TestRepo, at| {
        let mut packs: Vec<_> = load(&test_repo.project, at)
            .verified(level)
            .into_keys()
            .collect();
        packs.sort_unstable();
        packs
    };
    state(&owner.project, group(past - 1000, Opened, &[1, 2, 3]));
    // This run began before the packs were verified, but its entry was stored later. Damage counts
    // from the time when its entry was stored.
    state(
        &owner.project,
        result(past - hour, ReadResult::Damaged, &[1]),
    );
    state(&verify.project, result(past, ReadResult::Damaged, &[2]));
    for level in [Hashed, Opened] {
        assert_eq!(packs(level, &owner, now()), [pack(2), pack(3)]);
        assert_eq!(packs(level, &verify, now()), [pack(3)]);
    }
    // The result is the same if the store's clock is ahead of this host's clock.
    assert_eq!(packs(Opened, &owner, past - 500), [pack(2), pack(3)]);
    for _ in 0..10 {
        let new = NewLedgerEntry::default();
        load(&owner.project, now())
            .append(&owner.project, new, WORKER)
            .unwrap();
        assert_eq!(packs(Opened, &owner, now()), [pack(2), pack(3)], "merged");
    }
    std::thread::sleep(std::time::Duration::from_millis(5));
    state(&owner.project, group(now(), Hashed, &[1]));
    let later = now() + hour;
    assert_eq!(packs(Hashed, &owner, later), [pack(1), pack(2), pack(3)]);
    assert_eq!(packs(Opened, &owner, later), [pack(2), pack(3)]);
    state(&owner.project, group(now(), Opened, &[1]));
    assert_eq!(packs(Opened, &owner, later), [pack(1), pack(2), pack(3)]);
}

#[test]
fn the_ledger_keeps_no_packs_in_memory_that_do_not_exist() {
    let owner = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    state(
        &owner.project,
        group(now() - 1, VerifiedLevel::Opened, &[1, 2, 3]),
    );
    let ledger = Ledger::load(&owner.project, now(), |known| *known == pack(2)).unwrap();
    let shown = format!("{ledger:?}");
    assert!(shown.contains(&format!("{:?}", pack(2))), "{shown}");
    assert!(!shown.contains(&format!("{:?}", pack(1))), "{shown}");
}

#[test]
fn the_holder_of_a_key_can_neither_hide_runs_of_others_nor_add_any_number_of_them() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let other_key = with_key(&owner, &store, Role::Verify, b"verify");
    state_run(&owner.project, run([0xff; 32], 10));
    state_run(&other_key.project, run([0xff; 32], 1_000_000));
    for number in 0..300_u16 {
        let [high, low] = number.to_be_bytes();
        let mut seed = [0; 32];
        (seed[0], seed[1]) = (high, low);
        state_run(&other_key.project, run(seed, 1));
    }
    let runs = load(&owner.project, now()).runs();
    let full: Vec<_> = runs
        .iter()
        .filter(|(role, _)| *role == Role::Full)
        .collect();
    assert_eq!(full.len(), 1);
    assert_eq!(full[0].1.seconds, 10);
    assert_eq!(runs.len(), 1 + 100);
}

#[test]
fn an_entry_that_requires_an_unknown_feature_is_left_out_and_stops_nothing() {
    let owner = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let newer = LedgerBody {
        about: LedgerInfo {
            requires: vec!["later".into()],
            time: "2026-11-21T10:00:00Z".into(),
            host: None,
            tool: None,
            runs: Vec::new(),
            drills: Vec::new(),
            replaces: Vec::new(),
        },
        groups: vec![group(now() - 1, VerifiedLevel::Opened, &[1])],
    };
    owner
        .project
        .put_sealed(ObjectRef::Ledger, &newer.encode())
        .unwrap();
    let verified = load(&owner.project, now()).verified(VerifiedLevel::Opened);
    assert!(verified.is_empty());
    let host = Host::without_cache();
    let checked = ops::check(
        &owner.repository,
        &owner.project,
        Some(&read(DataPart::All)),
        &host.context(),
        &mut |finding| unreachable!("{finding:?}"),
    );
    assert!(checked.unwrap().data.unwrap().complete);
}

#[test]
fn a_pack_that_is_undamaged_only_when_it_is_read_again_does_not_count_as_verified() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&owner, "disk", &image).unwrap();
    let listed = store.list("projects").unwrap();
    let mut names = listed.iter().map(|object| &object.name);
    let name = names
        .find(|name| name.as_str().contains("/packs/"))
        .unwrap();
    let good = store.get(name, u64::MAX).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    store.put(name, &[&bad]).unwrap();
    let (text, attempts) = (name.as_str().to_owned(), AtomicUsize::new(0));
    let (name, inner) = (name.clone(), store.clone());
    let healed = Intercepted::new(&store, move |operation, at| {
        // Each attempt to read the pack begins with its size.
        if operation == StorageOperation::Size && at == text {
            // The first attempt reads bad bytes, and the second one good bytes.
            if attempts.fetch_add(1, Ordering::Relaxed) == 1 {
                inner.put(&name, &[&good]).unwrap();
            }
        }
        Ok(())
    });
    let opened = TestRepo::open(healed, &Silent).unwrap();
    let checked = ops::check(
        &opened.repository,
        &opened.project,
        Some(&read(DataPart::All)),
        &host.context(),
        &mut |finding| unreachable!("{finding:?}"),
    );
    let data = checked.unwrap().data.unwrap();
    assert!(data.complete);
    assert_eq!(data.packs_verified, data.packs_chosen - 1);
    let notices = host.notices.take();
    let is_reread = |notice: &Notice| matches!(notice, Notice::GoodWhenReadAgain { .. });
    assert_eq!(notices.iter().filter(|notice| is_reread(notice)).count(), 1);
    let verified = load(&owner.project, now()).verified(VerifiedLevel::Opened);
    assert_eq!(verified.len() as u64, data.packs_chosen - 1);
}

fn read(part: DataPart) -> ReadData {
    ReadData {
        part,
        ..ReadData::all(None)
    }
}

#[test]
fn a_check_succeeds_with_a_notice_if_its_ledger_entry_cannot_be_stored() {
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
fn a_check_that_fails_stores_the_packs_that_it_verified_in_the_ledger() {
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
        assert!(failed.is_err(), "an unavailable store is no damage");
        let ledger = load(&owner.project, now());
        verified = ledger.verified(VerifiedLevel::Opened).len();
        if verified > 0 {
            break;
        }
    }
    assert!(verified > 0);
    let ledger = load(&owner.project, now());
    assert!(ledger.runs().iter().all(|(_, run)| !run.complete));
}

#[test]
fn a_check_of_all_data_that_cannot_list_the_records_is_not_complete() {
    let store = MemoryBackend::new();
    let owner = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    host.back_up(&owner, "disk", &image).unwrap();
    let unlisted = Intercepted::new(&store, |operation, name| {
        if operation == StorageOperation::List && name.ends_with("/backups") {
            Err(StorageErrorKind::Denied)
        } else {
            Ok(())
        }
    });
    let opened = TestRepo::open(unlisted, &Silent).unwrap();
    for (part, is_complete) in [(DataPart::All, false), (DataPart::Percent(100.0), true)] {
        let mut findings = 0;
        let checked = ops::check(
            &opened.repository,
            &opened.project,
            Some(&read(part)),
            &host.context(),
            &mut |_| findings += 1,
        );
        assert_eq!(findings, 1, "{part:?}");
        let data = checked.unwrap().data.unwrap();
        assert_eq!(data.packs_verified, data.packs_chosen, "{part:?}");
        assert_eq!(data.complete, is_complete, "{part:?}");
        let ledger = load(&owner.project, now());
        let runs = ledger.runs();
        let (_, run) = runs.iter().find(|(_, run)| run.seed == data.seed).unwrap();
        assert_eq!(run.complete, is_complete, "{part:?}");
    }
}
