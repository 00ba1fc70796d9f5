//! Tests of the log. Only entries of full keys count. An entry that another entry names must exist.

use std::sync::Arc;

use cuttlebone::base::{ObjectHash, ProjectId, SignerId};
use cuttlebone::crypto::{ProjectKeys, Secret, SigningKey, object_hash};
use cuttlebone::format::{LogDetails, LogEntry, LogItem, LogKind, Magic, Revoked};
use cuttlebone::ops::Finding;
use cuttlebone::repo::{Log, NewEntry, ObjectRef, Project, RepoError, RepoErrorKind, Worker};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::{CHUNK, Host, Image, KIB, LEAF, TestRepo, noise};

const BY: Worker<'static> = Worker {
    host: Some("here"),
    tool: "test",
};

fn hash(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number; 32])
}

fn record(number: u8) -> LogItem {
    LogItem {
        kind: LogKind::Record,
        hash: hash(number),
    }
}

fn repository() -> (MemoryBackend, TestRepo) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    (store, test_repo)
}

/// Loads the log and appends an entry. Returns the hash of the entry.
fn append(project: &Project, added: &[u8], removed: &[u8]) -> ObjectHash {
    let mut log = Log::load(project).unwrap();
    append_to(&mut log, project, added, removed)
}

fn append_to(log: &mut Log, project: &Project, added: &[u8], removed: &[u8]) -> ObjectHash {
    let items = |numbers: &[u8]| numbers.iter().map(|number| record(*number)).collect();
    let entry = NewEntry {
        added: items(added),
        removed: items(removed),
        ..NewEntry::default()
    };
    log.append(project, entry, BY).unwrap();
    log.newest().unwrap().hash
}

/// Returns the bytes of an entry that removes record 1 and has no sealed part, signed by this key.
fn signed(project: ProjectId, signer: &SigningKey) -> Vec<u8> {
    let entry = LogEntry {
        number: 1,
        removed: vec![record(1)],
        ..LogEntry::default()
    };
    let mut bytes = entry.encode(project, 0);
    let signature = signer.sign(project, &Magic::Log.header(), &[&bytes]);
    bytes.extend_from_slice(&signature);
    bytes
}

fn put(store: &dyn Backend, project: &Project, bytes: &[u8]) -> ObjectRef {
    let object = ObjectRef::Log(project.id, object_hash(&[bytes]));
    store.put(&object.name(), &[bytes]).unwrap();
    object
}

#[test]
fn entries_that_no_full_key_signed_are_ignored_and_reported() {
    let (store, test_repo) = repository();
    let project = &test_repo.project;
    let authority = project.keys.signing();
    let own = signed(project.id, authority);
    let thief = SigningKey::from_seed(&Secret::new([9; 32]));
    let elsewhere = ProjectId::from_bytes([9; 16]);
    let mut changed = own.clone();
    changed[40] ^= 1;
    let mut unsigned = own.clone();
    unsigned.truncate(own.len() - 64);
    unsigned.extend_from_slice(&[0; 64]);
    let mut later = own.clone();
    later[8] = 2;
    let forged = [
        signed(project.id, &thief),
        signed(elsewhere, authority),
        changed,
        unsigned,
        // A later version of the format counts only if a full key has signed it.
        later,
        b"CTLBlogs".to_vec(),
        Vec::new(),
        noise(1, KIB),
    ];
    for bytes in forged {
        let object = put(&store, project, &bytes);
        let mut log = Log::load(project).unwrap();
        assert!(!log.removed(LogKind::Record, hash(1)) && !log.excuses(hash(1)));
        assert!(log.newest().is_none() && log.damaged().is_empty());
        assert_eq!(log.take_foreign().len(), 1);
        let (report, findings) = Host::without_cache().check(&test_repo, false);
        assert_eq!(report.errors, 1, "{findings:?}");
        assert!(
            matches!(&findings[0], Finding::ObjectForeign { object: of, .. } if *of == object),
            "{findings:?}"
        );
        store.delete(&object.name()).unwrap();
    }
    put(&store, project, &own);
    let log = Log::load(project).unwrap();
    assert!(log.removed(LogKind::Record, hash(1)) && log.excuses(hash(1)));
    assert!(!log.removed(LogKind::Void, hash(1)) && log.removal(LogKind::Void, hash(1)).is_none());
    Host::without_cache().check_clean(&test_repo, "the entry is genuine");
}

#[test]
fn a_genuine_entry_of_a_later_version_is_refused() {
    let (store, test_repo) = repository();
    let project = &test_repo.project;
    let mut header = Magic::Log.header();
    header[8] = 2;
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(&[7; 100]);
    let signature = project.keys.signing().sign(project.id, &header, &[&bytes]);
    bytes.extend_from_slice(&signature);
    put(&store, project, &bytes);
    let error = Log::load(project).unwrap_err();
    assert_eq!(error.kind(), RepoErrorKind::Unsupported, "{error:?}");
}

#[test]
fn only_a_full_key_writes_entries() {
    let (store, test_repo) = repository();
    let mut project = test_repo.project.clone();
    let keys = Arc::clone(&project.keys);
    let seed = || Secret::new([5; 32]);
    for lesser in [
        ProjectKeys::write(keys.write_secrets(seed()).unwrap()),
        ProjectKeys::verify(keys.verify_secrets(seed())),
    ] {
        project.keys = Arc::new(lesser);
        let entry = NewEntry {
            removed: vec![record(1)],
            ..NewEntry::default()
        };
        let refused = Log::load(&project).unwrap().append(&project, entry, BY);
        assert!(matches!(refused, Err(RepoError::Role(_))), "{refused:?}");
        // Other keys read entries that a full key wrote.
        append(&test_repo.project, &[], &[2]);
        let mut log = Log::load(&project).unwrap();
        assert!(log.excuses(hash(2)) && !log.excuses(hash(1)) && log.take_foreign().is_empty());
    }
    let entries = store.list("projects").unwrap();
    let entries = entries.iter().filter(|o| o.name.as_str().contains("/log/"));
    assert_eq!(entries.count(), 1);
}

#[test]
fn an_entry_follows_all_seen_entries_that_no_other_entry_follows() {
    let (_, test_repo) = repository();
    let project = &test_repo.project;
    let first = append(project, &[1, 2, 3], &[]);
    // Two processes load the log at the same time. So neither knows the entry of the other.
    let mut logs = [Log::load(project).unwrap(), Log::load(project).unwrap()];
    let left = append_to(&mut logs[0], project, &[4], &[1]);
    let right = append_to(&mut logs[1], project, &[5], &[2]);
    let log = Log::load(project).unwrap();
    let mut tips = vec![left, right];
    tips.sort_unstable();
    assert_eq!(log.tips(), tips);
    assert_eq!(log.set(), [3, 4, 5].map(record));
    let joined = append(project, &[6], &[5]);
    let log = Log::load(project).unwrap();
    assert_eq!(log.tips(), [joined]);
    let newest = log.newest().unwrap();
    assert_eq!((newest.number, newest.hash), (3, joined));
    assert_eq!(log.set(), [3, 4, 6].map(record));
    assert_eq!(log.set_of(first), [1, 2, 3].map(record));
    assert_eq!(log.set_of(left), [2, 3, 4].map(record));
    assert!(log.missing().is_empty() && log.miscounted().next().is_none());
}

#[test]
fn an_entry_lists_only_new_objects() {
    let (_, test_repo) = repository();
    let project = &test_repo.project;
    let mut log = Log::load(project).unwrap();
    log.append(project, NewEntry::default(), BY).unwrap();
    assert!(log.newest().is_none(), "an empty entry is not stored");
    append_to(&mut log, project, &[], &[1, 1, 2]);
    append_to(&mut log, project, &[], &[2]);
    assert_eq!(
        log.newest().unwrap().number,
        1,
        "record 2 is already removed"
    );
    append_to(&mut log, project, &[], &[2, 3]);
    assert_eq!(log.newest().unwrap().number, 2);
    assert_eq!(Log::load(project).unwrap().newest(), log.newest());
}

#[test]
fn the_log_explains_accepted_losses_and_keeps_revocations() {
    let (_, test_repo) = repository();
    let project = &test_repo.project;
    let revoked = Revoked {
        certificate: hash(7),
        signer: SignerId::from_bytes([7; 32]),
        accepted: vec![hash(8)],
    };
    let entry = NewEntry {
        details: LogDetails {
            lost: vec![hash(1)],
            revoked: vec![revoked.clone()],
            ..LogDetails::default()
        },
        ..NewEntry::default()
    };
    Log::load(project)
        .unwrap()
        .append(project, entry, BY)
        .unwrap();
    let log = Log::load(project).unwrap();
    assert!(log.excuses(hash(1)) && !log.removed(LogKind::Record, hash(1)));
    assert!(log.removal(LogKind::Record, hash(1)).is_none());
    assert_eq!(log.revocations().collect::<Vec<_>>(), [&revoked]);
}

#[test]
fn a_vanished_entry_that_another_entry_names_is_reported() {
    let (store, test_repo) = repository();
    let project = &test_repo.project;
    let first = append(project, &[], &[1]);
    append(project, &[], &[2]);
    let name = ObjectRef::Log(project.id, first).name();
    let bytes = store.get(&name, 1 << 20).unwrap();
    store.delete(&name).unwrap();
    assert_eq!(Log::load(project).unwrap().missing(), [first]);
    let (report, findings) = Host::without_cache().check(&test_repo, false);
    assert_eq!(
        (report.errors, &report.entries_vanished[..]),
        (1, &[first][..])
    );
    assert!(matches!(&findings[0], Finding::EntryVanished { entry } if *entry == first));
    // A damaged entry is reported as damaged, and not as vanished.
    let mut damaged = bytes.clone();
    damaged[50] ^= 1;
    store.put(&name, &[&damaged]).unwrap();
    let (report, findings) = Host::without_cache().check(&test_repo, false);
    assert_eq!((report.errors, report.entries_vanished.len()), (1, 0));
    assert!(
        matches!(&findings[0], Finding::ObjectDamaged { .. }),
        "{findings:?}"
    );
    store.put(&name, &[&bytes]).unwrap();
    Host::without_cache().check_clean(&test_repo, "the entry is back");
}

/// The log names the records that a removed record followed, so `check` still notices if these
/// vanish.
#[test]
fn a_vanished_record_that_only_a_forgotten_record_named_is_reported() {
    let (store, test_repo) = repository();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, CHUNK));
    let ids: Vec<ObjectHash> = (0..3)
        .map(|_| host.back_up(&test_repo, "disk", &image).unwrap().id)
        .collect();
    let project = &test_repo.project;
    let middle = test_repo.backup(ids[1]);
    let mut log = Log::load(project).unwrap();
    let entry = NewEntry {
        removed: vec![LogItem {
            kind: LogKind::Record,
            hash: ids[1],
        }],
        details: LogDetails {
            removed_records: vec![cuttlebone::repo::removed_record(
                ids[1],
                &middle.record,
                middle.is_full,
                "test",
            )],
            ..LogDetails::default()
        },
        ..NewEntry::default()
    };
    log.append(project, entry, BY).unwrap();
    log.removal(LogKind::Record, ids[1])
        .unwrap()
        .delete(project)
        .unwrap();
    host.check_clean(&test_repo, "one backup was forgotten");
    let described = log.removed_record(ids[1]).unwrap();
    assert_eq!(
        (&described.volume, &described.reason[..]),
        (&middle.record.volume, "test")
    );
    store
        .delete(&ObjectRef::Backup(project.id, ids[0]).name())
        .unwrap();
    let (report, _) = host.check(&test_repo, false);
    assert_eq!(report.vanished, [ids[0]]);
}
