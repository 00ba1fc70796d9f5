//! Damages a file of each kind in each way, in a repository with parity. The checks find the damage
//! and name the backups that it affects. A repair makes the repository whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cuttlebone::base::{ObjectHash, ParityRate, Role, Silent};
use cuttlebone::crypto::object_hash;
use cuttlebone::ops::{self, Finding, ParityAction};
use cuttlebone::repo::{
    BlobReader, Grant, ImageReader, Index, Log, ObjectKind, ObjectRef, Objects, RepoError,
    Repository, Voids, is_protected, parity_of, read_damaged,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::parity::{WITH_PARITY, files, is_restored, rate, repair};
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, key, noise};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Flip,
    /// 4 KiB become zero.
    Zero,
    Truncate,
    Extend,
    Delete,
    /// The file holds the bytes of another object of the same kind, or of a log entry if there is
    /// no such object.
    Swap,
}

const WAYS: [Way; 6] = [
    Way::Flip,
    Way::Zero,
    Way::Truncate,
    Way::Extend,
    Way::Delete,
    Way::Swap,
];

/// An undamaged repository with parity, with objects of all kinds that parity protects.
struct Whole {
    store: MemoryBackend,
    files: BTreeMap<Name, Vec<u8>>,
    /// For each pack of chunks, the backups that need it.
    users: HashMap<ObjectHash, BTreeSet<ObjectHash>>,
}

impl Whole {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init_with(store.clone(), CHUNK, rate()).unwrap();
        let host = Host::without_cache();
        let first = Image::new(LEAF).with(0, &noise(1, CHUNK));
        let second = first.clone().with(2 << 20, &noise(2, CHUNK));
        let other = Image::new(LEAF).with(0, &noise(3, CHUNK));
        for (volume, image) in [("disk", &first), ("disk", &second), ("other", &other)] {
            host.back_up(&test_repo, volume, image).unwrap();
        }
        let write = Grant::Project {
            project: &test_repo.project,
            role: Role::Write,
            volumes: &[],
        };
        let writer = test_repo.repository.add_key(write, &key(b"write"), &Silent);
        writer.unwrap();
        let repository = Repository::open(Arc::new(store.clone()), b"write", &Silent).unwrap();
        let project = repository.project("default", &Silent).unwrap();
        let of_writer = TestRepo {
            repository,
            project,
        };
        let image = Image::new(LEAF).with(0, &noise(4, CHUNK));
        host.back_up(&of_writer, "of the writer", &image).unwrap();
        // The check stores an audit of the packs of the write key.
        host.check_clean(&test_repo, "whole");
        let withdrawn = host.back_up(&test_repo, "void", &other).unwrap().id;
        Voids::put(&test_repo.project, withdrawn, "test").unwrap();
        ops::head(&test_repo.project, None, &host.context()).unwrap();
        let index = Index::in_memory(&test_repo.project, host.notices.clone()).unwrap();
        let blobs = BlobReader::new(&index);
        let mut users: HashMap<_, BTreeSet<_>> = HashMap::new();
        for backup in test_repo.backups() {
            let reader = ImageReader::new(&blobs, &backup);
            let read = reader.each_chunk(|chunk| {
                for place in index.find_all_readable(&chunk.id)? {
                    users.entry(place.pack()).or_default().insert(backup.id);
                }
                Ok::<(), RepoError>(())
            });
            read.unwrap();
        }
        let files = files(&store);
        Self {
            store,
            files,
            users,
        }
    }

    /// Returns the objects, each with the name of one of its files.
    fn all(&self) -> Vec<(ObjectRef, Name)> {
        let names = self.files.keys();
        let known = names.filter_map(|name| Some((ObjectRef::parse(name)?.0, name.clone())));
        known.collect()
    }

    /// Returns the protected objects, each with the name of one of its files.
    fn objects(&self) -> Vec<(ObjectRef, Name)> {
        let mut objects = self.all();
        objects.retain(|(object, _)| is_protected(object.kind()));
        objects
    }

    /// Returns the object with this hash, and the name of one of its files.
    fn object_of(&self, of: ObjectHash) -> (ObjectRef, Name) {
        let is_of = |(_, name): &(ObjectRef, Name)| object_hash(&[&self.files[name]]) == of;
        self.objects().into_iter().find(is_of).unwrap()
    }

    fn damaged(&self, name: &Name, kind: ObjectKind, way: Way) -> MemoryBackend {
        let store = self.store.copy();
        let mut bytes = self.files[name].clone();
        let middle = bytes.len() / 2;
        match way {
            Way::Flip => bytes[middle] ^= 1,
            Way::Zero => {
                let start = middle.saturating_sub(2048);
                let end = bytes.len().min(start + 4096);
                bytes[start..end].fill(0);
            }
            Way::Truncate => bytes.truncate(middle),
            Way::Extend => bytes.extend_from_slice(&[0; 5000]),
            Way::Delete => {
                store.delete(name).unwrap();
                return store;
            }
            Way::Swap => {
                let is_other = |(other, _): &(ObjectRef, Name)| {
                    other.kind() == kind && self.files[&other.name()] != bytes
                };
                let other = self.all().into_iter().find(is_other);
                let other = other.map_or_else(
                    || ObjectKind::Log.directory(self.project()),
                    |(other, _)| other.name().as_str().to_owned(),
                );
                let mut others = self.files.iter();
                let other = others.find(|(name, _)| name.as_str().starts_with(&other));
                bytes.clone_from(other.unwrap().1);
            }
        }
        store.put(name, &[&bytes]).unwrap();
        store
    }

    /// Returns the newest entry of the log.
    fn newest_entry(&self) -> ObjectRef {
        let test_repo = TestRepo::open(self.store.clone(), &RecordingObserver::default()).unwrap();
        let newest = Log::load(&test_repo.project).unwrap().newest().unwrap();
        ObjectRef::Log(self.project(), newest.hash)
    }

    fn project(&self) -> cuttlebone::base::ProjectId {
        let mut known = self.files.keys().filter_map(ObjectRef::parse);
        known.find_map(|(object, _)| object.project()).unwrap()
    }
}

#[test]
fn damage_of_each_kind_is_found_with_the_affected_backups_and_repaired() {
    let whole = Whole::new();
    let objects = whole.objects();
    let kinds: BTreeSet<_> = objects.iter().map(|(o, _)| o.kind().info().noun).collect();
    assert_eq!(kinds.len(), 12, "{kinds:?}");
    let none = BTreeSet::new();
    let newest = whole.newest_entry();
    for (object, name) in &objects {
        for way in WAYS {
            let when = format!("{way:?} {name}");
            let store = whole.damaged(name, object.kind(), way);
            let host = Host::without_cache();
            // Check a copy of the store, since a check adds an entry to the ledger.
            let test_repo = TestRepo::open(store.copy(), &RecordingObserver::default());
            let test_repo = test_repo.unwrap_or_else(|e| panic!("{when}: {e}"));

            // A check that reads the data finds the damage, and names the backups that need a
            // damaged pack.
            let (report, findings) = host.check(&test_repo, true);
            // A check with a key does not need segments and audits: packs list their content, too,
            // and packs without an audit are read again. So only a check without a key finds that a
            // segment or an audit is missing.
            let is_replaced = matches!(object, ObjectRef::Index(..) | ObjectRef::Audit(..));
            // No other object names a void or the newest log entry.
            let is_unnamed = matches!(object, ObjectRef::Void(..)) || *object == newest;
            let is_harmless = way == Way::Delete && (is_replaced || is_unnamed);
            assert!(
                report.errors > 0 || is_harmless,
                "{when}: the damage is not found"
            );
            if way == Way::Delete && is_unnamed {
                assert_eq!(
                    report.errors, 0,
                    "{when}: no other object names the deleted one"
                );
                continue;
            }
            let affected: BTreeSet<_> = report.backups_affected.iter().copied().collect();
            let users = match object {
                ObjectRef::Pack(_, pack) => whole.users.get(pack).unwrap_or(&none),
                _ => &none,
            };
            assert!(affected.is_subset(users), "{when}: {findings:#?}");
            if way == Way::Delete {
                assert_eq!(affected, *users, "{when}");
            }
            for found in &findings {
                if let Finding::BackupAffected(backup) = found {
                    let causes: Vec<_> = backup.causes.iter().map(|cause| cause.pack).collect();
                    assert_eq!(
                        Some(&causes[..]),
                        object.hash().as_ref().map(from_ref),
                        "{when}"
                    );
                    assert_eq!(backup.causes[0].holes, backup.holes, "{when}");
                }
            }
            if matches!(object, ObjectRef::Pack(..)) {
                assert!(!affected.is_empty(), "{when}: {findings:#?}");
            }

            // A check without a key finds the damage, too.
            let objects = Objects::new(Arc::new(store.clone()));
            let mut named = false;
            let keyless = ops::check_keyless(&objects, None, &host.context(), &mut |found| {
                named |= found.damaged_object() == Some(*object) || found.is_of_history();
            });
            assert!(
                keyless.unwrap().errors > 0 && named,
                "{when}: without a key"
            );

            let steps = repair(&store);
            assert_eq!(steps.len(), 1, "{when}: {steps:?}");
            assert!(
                steps[0].0.object == *object && steps[0].1,
                "{when}: {steps:?}"
            );
            is_restored(&store, &whole.files, &when);
            let kept = store.list("quarantine").unwrap().len();
            assert_eq!(kept, usize::from(way != Way::Delete), "{when}");
            let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
            host.check_clean(&test_repo, &when);
        }
    }
}

/// Returns the number of errors that a check without a key finds.
fn errors(store: &MemoryBackend) -> u64 {
    let objects = Objects::new(Arc::new(store.clone()));
    let host = Host::without_cache();
    let found = ops::check_keyless(&objects, None, &host.context(), &mut |_| {});
    found.unwrap().errors
}

/// Verifies that a repair does these steps, and that nothing is damaged afterwards.
fn is_repaired(whole: &Whole, store: &MemoryBackend, actions: &[ParityAction], when: &str) {
    assert!(errors(store) > 0, "{when}: the damage is not found");
    let steps = repair(store);
    assert!(steps.iter().all(|(_, done)| *done), "{when}: {steps:?}");
    let done: Vec<_> = steps.into_iter().map(|(step, _)| step.action).collect();
    assert_eq!(done, actions, "{when}");
    is_restored(store, &whole.files, when);
    let kept = store.list("quarantine").unwrap().len();
    assert_eq!(kept, actions.len(), "{when}");
    assert_eq!(errors(store), 0, "{when}");
}

#[test]
fn damaged_parity_of_each_kind_is_replaced() {
    let whole = Whole::new();
    let mut kinds = BTreeSet::new();
    for (object, name) in whole.all() {
        let ObjectRef::Parity(_, of, _) = object else {
            continue;
        };
        let (protected, of_object) = whole.object_of(of);
        kinds.insert(protected.kind().info().noun);
        let again = [ParityAction::Rebuild];
        for way in WAYS {
            let when = format!("{way:?} {name}");
            let store = whole.damaged(&name, object.kind(), way);
            if way == Way::Delete {
                assert_eq!(errors(&store), 0, "{when}: no object needs parity");
                assert!(repair(&store).is_empty(), "{when}");
                continue;
            }
            is_repaired(&whole, &store, &again, &when);
        }
        // An older parity object, with another rate, replaces the file.
        let store = whole.store.copy();
        let bytes = &whole.files[&of_object];
        let older = parity_of(protected.kind(), of, &[bytes], ParityRate::new(50).unwrap());
        let older = older.unwrap();
        if older != whole.files[&name] {
            store.put(&name, &[&older]).unwrap();
            is_repaired(&whole, &store, &again, &format!("older {name}"));
        }
    }
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[test]
fn a_copy_of_parity_under_a_wrong_name_is_removed() {
    let whole = Whole::new();
    let wrong = |byte| ObjectHash::from_bytes([byte; 32]);
    for (object, name) in whole.all() {
        let ObjectRef::Parity(project, of, own) = object else {
            continue;
        };
        for of_wrong in [of, wrong(1)] {
            let duplicate = ObjectRef::Parity(project, of_wrong, wrong(2)).name();
            let when = format!("{duplicate}, a copy of {name}");
            let store = whole.store.copy();
            store.put(&duplicate, &[&whole.files[&name]]).unwrap();
            is_repaired(&whole, &store, &[ParityAction::Remove], &when);
        }
        // If only the hash of the protected object is wrong in the name, the file does no harm.
        let store = whole.store.copy();
        let duplicate = ObjectRef::Parity(project, wrong(1), own).name();
        store.put(&duplicate, &[&whole.files[&name]]).unwrap();
        assert_eq!(errors(&store), 0, "{duplicate}");
        let objects = Objects::new(Arc::new(store));
        let host = Host::without_cache();
        let context = host.context();
        let planned = ops::plan_repair(&objects, WITH_PARITY, &context).unwrap();
        let found = (planned.steps(), planned.unexplained());
        assert_eq!(found, (&[][..], &[][..]), "{duplicate}");
        // Now the protected object is damaged, too.
        let duplicate = ObjectRef::Parity(project, of, wrong(2)).name();
        let (protected, of_object) = whole.object_of(of);
        let store = whole.damaged(&of_object, protected.kind(), Way::Flip);
        store.put(&duplicate, &[&whole.files[&name]]).unwrap();
        let steps = repair(&store);
        let when = format!("{of_object} and {duplicate}");
        assert_eq!(steps.len(), 2, "{when}: {steps:?}");
        assert!(steps.iter().all(|(_, done)| *done), "{when}: {steps:?}");
        is_restored(&store, &whole.files, &when);
    }
}

#[test]
fn damaged_parity_that_may_restore_an_object_stays() {
    let whole = Whole::new();
    let is_pack = |(object, _): &(ObjectRef, Name)| matches!(object, ObjectRef::Pack(..));
    let (pack, name) = whole.objects().into_iter().find(is_pack).unwrap();
    let hash = pack.hash().unwrap();
    let store = whole.store.copy();
    store.delete(&name).unwrap();
    for (parity, name) in whole.all() {
        if matches!(parity, ObjectRef::Parity(_, of, _) if of == hash) {
            store.put(&name, &[&whole.files[&name][..500]]).unwrap();
        }
    }
    let before = files(&store);
    let steps = repair(&store);
    assert_eq!(steps.len(), 2, "{steps:?}");
    for (step, done) in steps {
        assert_eq!(step.action, ParityAction::BeyondRepair);
        assert!(!done);
    }
    assert!(files(&store) == before);
}

#[test]
fn all_other_blocks_of_a_file_with_a_bad_sector_are_read() {
    let store = MemoryBackend::new();
    let name = Name::new("keys/a").unwrap();
    let bytes = noise(1, 20_000);
    store.put(&name, &[&bytes]).unwrap();
    let calls = AtomicUsize::new(0);
    let bad = Intercepted::new(&store, move |operation, _| {
        // The first call reads the whole file, and the third one its second block.
        match operation {
            StorageOperation::Get => match calls.fetch_add(1, Ordering::SeqCst) {
                0 | 2 => Err(StorageErrorKind::Unreadable),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    });
    let read = read_damaged(&bad, &name, 1 << 20).unwrap().unwrap();
    let mut expected = bytes;
    expected[4096..8192].fill(0);
    assert!(read == expected);
}

#[test]
fn a_file_that_cannot_be_read_is_restored_and_one_that_the_user_may_not_read_is_not_changed() {
    let whole = Whole::new();
    for (object, name) in whole.objects() {
        let part: &'static str = name.as_str().to_owned().leak();
        for kind in [StorageErrorKind::Unreadable, StorageErrorKind::Denied] {
            let when = format!("{kind:?} {name}");
            let store = whole.store.copy();
            // A file that was written again can be read.
            let written = AtomicBool::new(false);
            let unreadable = Intercepted::new(&store, move |operation, name| {
                let is_it = name == part;
                if operation == StorageOperation::Put && is_it {
                    written.store(true, Ordering::SeqCst);
                }
                let is_bad = is_it && !written.load(Ordering::SeqCst);
                match operation {
                    StorageOperation::Get if is_bad => Err(kind),
                    _ => Ok(()),
                }
            });
            let objects = Objects::new(Arc::new(unreadable));
            let host = Host::without_cache();
            let context = host.context();
            let planned = ops::plan_repair(&objects, WITH_PARITY, &context).unwrap();
            let mut steps = Vec::new();
            planned
                .run(&mut |step, whole| steps.push((step.clone(), whole)))
                .unwrap();
            assert_eq!(steps.len(), 1, "{when}: {steps:?}");
            assert_eq!(steps[0].0.object, object, "{when}");
            let is_denied = kind == StorageErrorKind::Denied;
            // If nothing of a file can be read, parity restores only small files.
            let is_small = whole.files[&name].len() <= 128 << 10;
            assert_eq!(steps[0].1, is_small && !is_denied, "{when}: {steps:?}");
            assert_eq!(
                steps[0].0.action == ParityAction::Denied,
                is_denied,
                "{when}"
            );
            assert!(files(&store) == whole.files, "{when}");
        }
    }
}
