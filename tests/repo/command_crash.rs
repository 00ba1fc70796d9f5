//! The store crashes or fails at each write of a command that writes keys, log entries or audits.
//! If the store refuses a write, the command's error must name the cause. The next run of the
//! command must succeed.

use std::time::Duration;

use cuttlebone::base::{ObjectHash, Role, Silent};
use cuttlebone::format::LogKind;
use cuttlebone::ops::{self, OpsError, ReadData};
use cuttlebone::repo::{Audits, Grant, Log, ObjectRef, Records, RepoErrorKind, Voids};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Moment, Plan, StorageErrorKind,
};

use super::provenance::{client, writer};
use super::prune::{names, prune, try_forget as forget};
use super::{CHUNK, Host, Image, LEAF, TestRepo, is_damage, key, noise};

/// A command and the conditions that must hold after it has run.
pub(super) struct Command<'a> {
    pub(super) run: &'a dyn Fn(&TestRepo, &Host) -> Result<(), OpsError>,
    /// The condition that must hold even if the command was interrupted.
    pub(super) always: &'a dyn Fn(&TestRepo, &str),
    /// Whether the command may succeed although `done` does not hold. For example, a check that
    /// cannot store its lease writes no audit.
    pub(super) may_do_less: bool,
    /// The condition that must hold after the command has succeeded.
    pub(super) done: &'a dyn Fn(&TestRepo, &str),
}

const FAULTS: [Fault; 6] = [
    Fault::Die(Moment::Before),
    Fault::Die(Moment::After),
    Fault::Tear,
    Fault::Fail(StorageErrorKind::Full),
    Fault::Fail(StorageErrorKind::Unavailable),
    Fault::FailAfter(StorageErrorKind::Io),
];

fn open(store: &FaultBackend) -> TestRepo {
    TestRepo::open(store.clone(), &Silent).unwrap()
}

/// Runs the command with each fault at each of its writes. Returns the number of faults.
pub(super) fn sweep(base: &MemoryBackend, command: &Command<'_>) -> u64 {
    let mut runs = 0;
    for fault in FAULTS {
        for n in 1.. {
            let when = format!("{fault:?} at {n}");
            let store = FaultBackend::holding(base);
            let test_repo = open(&store);
            let mut host = Host::without_cache();
            host.threads = 1;
            store.set_plan(Plan::at_write(n, fault));
            let ran = (command.run)(&test_repo, &host);
            if store.is_planned() {
                break;
            }
            runs += 1;
            if let (Fault::Fail(kind), Err(error)) = (fault, &ran) {
                let said = matches!(error, OpsError::Repo(error)
                    if error.kind() == RepoErrorKind::Storage(kind));
                assert!(said, "{when}: the error names its cause: {error:?}");
            }
            let store = store.crash();
            let after = open(&store);
            (command.always)(&after, &when);
            if ran.is_ok() && !command.may_do_less {
                (command.done)(&after, &when);
            }
            store.age(Duration::from_mins(11));
            (command.run)(&after, &host).unwrap();
            (command.always)(&open(&store), &when);
            (command.done)(&open(&store), &when);
        }
    }
    runs
}

pub(super) fn image(seed: u64) -> Image {
    Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK))
}

/// Returns a store with two backups, each an hour old. A full key made the first, and a write key
/// the second.
pub(super) fn two_backups() -> (MemoryBackend, [ObjectHash; 2]) {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = host.back_up(&full, "disk", &image(1)).unwrap().id;
    let lesser = writer(&store, 1);
    let second = host.back_up(&lesser, "other", &image(2)).unwrap().id;
    store.age(Duration::from_hours(1));
    (store, [first, second])
}

/// Asserts that every backup can be restored and gives one of the two images.
pub(super) fn assert_restores(full: &TestRepo, when: &str) {
    let host = Host::without_cache();
    for backup in full.backups() {
        let restored = host.restore_image(full, &backup).unwrap();
        let days = [image(1), image(2)];
        assert!(days.contains(&restored), "{when}");
    }
}

#[test]
fn adding_a_write_key_survives_a_fault_at_any_write() {
    let (base, _) = two_backups();
    let add = |full: &TestRepo, _: &Host| {
        let grant = Grant::Project {
            project: &full.project,
            role: Role::Write,
            volumes: &["web-*".to_owned()],
        };
        let added = full.repository.add_key(grant, &key(b"new"), &Silent);
        added.map(drop).map_err(OpsError::from)
    };
    let has_key = |full: &TestRepo, when: &str| {
        let keys = full.repository.list_keys(&Silent).unwrap();
        let is_new = |key: &&cuttlebone::repo::KeySummary| !key.volumes.is_empty();
        let new = keys.iter().filter(is_new).count();
        assert!(new > 0, "{when}: {keys:?}");
        assert!(keys.iter().all(|key| !key.foreign), "{when}: {keys:?}");
    };
    let always = |full: &TestRepo, when: &str| {
        let keys = full.repository.list_keys(&Silent).unwrap();
        assert!(keys.iter().all(|key| !key.foreign), "{when}: {keys:?}");
        assert_restores(full, when);
    };
    let runs = sweep(
        &base,
        &Command {
            run: &add,
            may_do_less: false,
            always: &always,
            done: &has_key,
        },
    );
    assert!(runs > 12, "{runs} runs are too few for a meaningful test");
}

#[test]
fn revoking_a_key_survives_a_fault_at_any_write() {
    let (base, [_, of_key]) = two_backups();
    let revoke = |full: &TestRepo, _: &Host| {
        let records = Records::load(&full.project)?;
        let certificates = full.project.certificates(&Silent)?;
        let is_of_writer = |key: &&cuttlebone::repo::Certified| key.certificate.role == "write";
        let Some(key) = certificates.all().iter().find(is_of_writer) else {
            return Ok(());
        };
        let accepted = ops::backups_of_key(&records, key);
        let accepted = accepted.iter().map(|backup| backup.id).collect();
        ops::revoke_key(&full.project, key, accepted, None)
    };
    let always = |full: &TestRepo, when: &str| {
        assert_eq!(full.backups().len(), 2, "{when}: no backup is lost");
        assert_restores(full, when);
    };
    let is_revoked = |full: &TestRepo, when: &str| {
        let log = Log::load(&full.project).unwrap();
        let revoked: Vec<_> = log.revocations().collect();
        assert!(!revoked.is_empty(), "{when}");
        assert!(revoked.iter().any(|r| r.accepted == [of_key]), "{when}");
    };
    let runs = sweep(
        &base,
        &Command {
            run: &revoke,
            may_do_less: false,
            always: &always,
            done: &is_revoked,
        },
    );
    assert!(runs > 5, "{runs} runs are too few for a meaningful test");
}

#[test]
fn the_command_head_survives_a_fault_at_any_write() {
    let (base, ids) = two_backups();
    let head =
        |full: &TestRepo, host: &Host| ops::head(&full.project, None, &host.context()).map(drop);
    let stands_for_all = |full: &TestRepo, when: &str| {
        let log = Log::load(&full.project).unwrap();
        let newest = log.newest().unwrap().hash;
        let set = log.set_of(newest);
        for id in ids {
            let has = |item: &cuttlebone::format::LogItem| {
                item.kind == LogKind::Record && item.hash == id
            };
            assert!(set.iter().any(has), "{when}");
        }
    };
    let runs = sweep(
        &base,
        &Command {
            run: &head,
            may_do_less: false,
            always: &assert_clean,
            done: &stands_for_all,
        },
    );
    assert!(runs > 5, "{runs} runs are too few for a meaningful test");
}

pub(super) fn assert_clean(full: &TestRepo, when: &str) {
    let host = Host::without_cache();
    let (report, findings) = host.check(full, false);
    assert_eq!(report.errors, 0, "{when}: {findings:?}");
    assert_restores(full, when);
}

#[test]
fn an_audit_survives_a_fault_at_any_write() {
    let (base, _) = two_backups();
    let audit = |full: &TestRepo, host: &Host| {
        let repository = &full.repository;
        let context = host.context();
        let all = ReadData::all(None);
        ops::check(repository, &full.project, Some(&all), &context, &mut |_| {}).map(drop)
    };
    let is_audited = |full: &TestRepo, when: &str| {
        let audited = Audits::load(&full.project).unwrap().into_packs();
        assert_eq!(audited.len(), 3, "{when}: one pack of chunks, two of nodes");
        let host = Host::without_cache();
        let copy = FaultBackend::holding(&copy_of(full));
        let other = client(&copy, Role::Write, 2);
        let made = host.back_up(&other, "copy", &image(2)).unwrap();
        assert_eq!(made.chunks_new, 0, "{when}: another key uses the packs");
    };
    let runs = sweep(
        &base,
        &Command {
            run: &audit,
            may_do_less: true,
            always: &assert_clean,
            done: &is_audited,
        },
    );
    assert!(runs > 12, "{runs} runs are too few for a meaningful test");
}

/// Copies the objects of an open repository to another store.
fn copy_of(full: &TestRepo) -> MemoryBackend {
    let copy = MemoryBackend::new();
    let store = full.project.objects.backend();
    for object in store.list("").unwrap() {
        let bytes = store.get(&object.name, 1 << 30).unwrap();
        copy.put(&object.name, &[&bytes]).unwrap();
    }
    copy
}

/// Returns a store in which the writer has withdrawn its backup, and the id of that backup. Unless
/// `is_whole`, all packs that the writer stored are deleted.
fn withdrawn(is_whole: bool) -> (MemoryBackend, ObjectHash) {
    let (store, [_, second]) = two_backups();
    Voids::put(&writer(&store, 1).project, second, "test").unwrap();
    if !is_whole {
        let of_full = packs_of_full_key(&store);
        for object in store.list("projects").unwrap() {
            let parsed = ObjectRef::parse(&object.name).map(|(object, _)| object);
            let is_pack = parsed.is_some_and(|object| object.blob_kind().is_some());
            if is_pack && !of_full.contains(&object.name.as_str().to_owned()) {
                store.delete(&object.name).unwrap();
            }
        }
    }
    (store, second)
}

/// Returns the names of the packs that a full key signed.
fn packs_of_full_key(store: &MemoryBackend) -> Vec<String> {
    let full = TestRepo::open(store.clone(), &Silent).unwrap();
    let signer = *full.project.keys.authority();
    let objects = store.list("projects").unwrap().into_iter();
    let of_full = objects.filter(|object| {
        let parsed = ObjectRef::parse(&object.name).map(|(object, _)| object);
        parsed.is_some_and(|pack| {
            pack.blob_kind().is_some()
                && cuttlebone::repo::read_listing(&full.project, pack, None)
                    .is_ok_and(|listing| listing.signer == signer)
        })
    });
    of_full
        .map(|object| object.name.as_str().to_owned())
        .collect()
}

#[test]
fn a_prune_that_removes_a_voided_record_survives_a_fault_at_any_write() {
    let (base, second) = withdrawn(false);
    let run = |full: &TestRepo, host: &Host| prune(full, host, Duration::ZERO).map(drop);
    let always = |full: &TestRepo, when: &str| {
        let host = Host::without_cache();
        for backup in full.backups() {
            match host.restore_image(full, &backup) {
                Ok(restored) => assert!(restored == image(1), "{when}"),
                Err(error) => assert!(is_damage(&error) && backup.id == second, "{when}"),
            }
        }
        // If the record still exists, it is withdrawn. Otherwise, the log names its removal.
        let records = Records::load(&full.project).unwrap();
        let voided = records.get(second).is_none_or(|b| records.is_voided(b));
        assert!(voided, "{when}");
        let log = Log::load(&full.project).unwrap();
        assert!(
            records.get(second).is_some() || log.excuses(second),
            "{when}"
        );
    };
    let is_removed = |full: &TestRepo, when: &str| {
        assert_eq!(full.backups().len(), 1, "{when}");
        let voids = names(full.project.objects.backend(), "voids");
        assert_eq!(voids, Vec::<String>::new(), "{when}");
        Host::without_cache().check_clean(full, when);
    };
    let runs = sweep(
        &base,
        &Command {
            run: &run,
            may_do_less: false,
            always: &always,
            done: &is_removed,
        },
    );
    assert!(runs > 20, "{runs} runs are too few for a meaningful test");
}

#[test]
fn forgetting_a_voided_record_survives_a_fault_at_any_write() {
    let (base, second) = withdrawn(true);
    let run = |full: &TestRepo, _: &Host| {
        let records = Records::load(&full.project)?;
        if records.get(second).is_some() {
            forget(full, &[second])?;
        }
        Ok(())
    };
    let always = |full: &TestRepo, when: &str| {
        assert_restores(full, when);
        let records = Records::load(&full.project).unwrap();
        let log = Log::load(&full.project).unwrap();
        assert!(
            records.get(second).is_some() || log.excuses(second),
            "{when}"
        );
    };
    let is_forgotten = |full: &TestRepo, when: &str| {
        assert_eq!(full.backups().len(), 1, "{when}");
        assert_clean(full, when);
        let copy = FaultBackend::holding(&copy_of(full));
        prune(&open(&copy), &Host::without_cache(), Duration::ZERO).unwrap();
        assert_eq!(names(&copy, "voids"), Vec::<String>::new(), "{when}");
    };
    let runs = sweep(
        &base,
        &Command {
            run: &run,
            may_do_less: false,
            always: &always,
            done: &is_forgotten,
        },
    );
    assert!(runs > 5, "{runs} runs are too few for a meaningful test");
}
