//! Damages every object in every way. No command panics or returns wrong data, and `check` reports
//! the affected backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cuttlebone::base::{ObjectHash, Role, Silent};
use cuttlebone::format::BlobKind;
use cuttlebone::ops::CheckReport;
use cuttlebone::repo::{
    Backup, BlobReader, Grant, ImageReader, Index, Log, ObjectRef, PackSizes, Records, RepoError,
    Repository,
};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

use super::{
    CHUNK, Host, Image, KIB, LEAF, PASSWORD, RecordingObserver, TestRepo, is_damage, key, noise,
    options, reread, stream,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delete,
    Empty,
    Truncate,
    FlipFirst,
    /// Changes the version in the header.
    FlipVersion,
    FlipMiddle,
    FlipLast,
    /// Replaces the object by another one of the same kind.
    Replace,
}

const KINDS: [Kind; 8] = [
    Kind::Delete,
    Kind::Empty,
    Kind::Truncate,
    Kind::FlipFirst,
    Kind::FlipVersion,
    Kind::FlipMiddle,
    Kind::FlipLast,
    Kind::Replace,
];

/// The content of a backup.
#[derive(Debug, Clone, PartialEq)]
enum Content {
    Image(Image),
    Stream(Vec<u8>),
}

/// An undamaged repository, with the expected content of its backups.
struct Whole {
    store: MemoryBackend,
    /// Another repository with the same content.
    other_store: MemoryBackend,
    contents: BTreeMap<ObjectHash, Content>,
    /// For each pack of chunks, the backups that need it.
    users: BTreeMap<ObjectHash, BTreeSet<ObjectHash>>,
    nodes: BTreeSet<ObjectHash>,
}

impl Whole {
    fn new() -> Self {
        let (store, contents) = fill();
        let (other_store, _) = fill();
        let test_repo = TestRepo::open(store.clone(), &RecordingObserver::default()).unwrap();
        let notices = Arc::new(RecordingObserver::default());
        let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
        let blobs = BlobReader::new(&index);
        let mut users: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for backup in test_repo.backups() {
            ImageReader::new(&blobs, &backup)
                .each_chunk(|chunk| {
                    for place in index.find_all_readable(&chunk.id)? {
                        users.entry(place.pack()).or_default().insert(backup.id);
                    }
                    Ok::<(), RepoError>(())
                })
                .unwrap();
        }
        let mut nodes = BTreeSet::new();
        index
            .each_pack(|pack| {
                if pack.contents.kind == BlobKind::Node {
                    nodes.insert(pack.pack);
                }
                Ok(())
            })
            .unwrap();
        Self {
            store,
            other_store,
            contents,
            users,
            nodes,
        }
    }

    /// Returns every object in the store with its name. A second copy has an entry of its own.
    fn objects(&self) -> Vec<(ObjectRef, Name)> {
        let listed = self.store.list("").unwrap();
        let known = listed.into_iter().map(|listed| {
            let (object, _) = ObjectRef::parse(&listed.name).unwrap();
            (object, listed.name)
        });
        known.collect()
    }

    /// Returns the bytes of another object of the same kind.
    fn another(&self, object: ObjectRef, name: &Name) -> Vec<u8> {
        let kind = std::mem::discriminant(&object);
        let mut same = self
            .objects()
            .into_iter()
            .filter(|(other, _)| std::mem::discriminant(other) == kind && *other != object);
        if let Some((_, other)) = same.next() {
            return self.store.get(&other, u64::MAX).unwrap();
        }
        // This repository has no other object of this kind, so take one from the other repository.
        let listed = self.other_store.list("").unwrap();
        let mut same = listed.iter().filter(|listed| {
            let (other, _) = ObjectRef::parse(&listed.name).unwrap();
            std::mem::discriminant(&other) == kind
        });
        let other = same
            .next()
            .unwrap_or_else(|| panic!("no other object like {name}"));
        self.other_store.get(&other.name, u64::MAX).unwrap()
    }

    fn damaged(&self, object: ObjectRef, name: &Name, kind: Kind) -> MemoryBackend {
        let store = self.store.copy();
        let mut bytes = store.get(name, u64::MAX).unwrap();
        let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
        match kind {
            Kind::Delete => {
                store.delete(name).unwrap();
                return store;
            }
            Kind::Empty => bytes.clear(),
            Kind::Truncate => bytes.truncate(middle),
            Kind::FlipFirst => bytes[0] ^= 1,
            Kind::FlipVersion => bytes[8] ^= 4,
            Kind::FlipMiddle => bytes[middle] ^= 1,
            Kind::FlipLast => bytes[last] ^= 0x80,
            Kind::Replace => bytes = self.another(object, name),
        }
        store.put(name, &[&bytes]).unwrap();
        store
    }

    /// Restores all listed backups and returns the ids of those that fail. Asserts that the others
    /// have the right content.
    fn restore_all(&self, host: &Host, test_repo: &TestRepo, when: &str) -> BTreeSet<ObjectHash> {
        let mut failed = BTreeSet::new();
        for backup in test_repo.backups() {
            let Some(content) = self.contents.get(&backup.id) else {
                continue;
            };
            if !restores(host, test_repo, &backup, content, when) {
                failed.insert(backup.id);
            }
        }
        failed
    }
}

/// Restores a backup. Asserts that the content is right, or that the error is damage. Returns false
/// for damage.
fn restores(
    host: &Host,
    test_repo: &TestRepo,
    backup: &Backup,
    content: &Content,
    when: &str,
) -> bool {
    let restored = match content {
        Content::Image(_) => host.restore_image(test_repo, backup).map(Content::Image),
        Content::Stream(_) => host.restore(test_repo, backup).map(Content::Stream),
    };
    match restored {
        Ok(restored) => {
            assert!(restored == *content, "{when}: wrong data");
            true
        }
        Err(error) => {
            assert!(is_damage(&error), "{when}: {error:?}");
            false
        }
    }
}

fn days() -> Vec<(&'static str, Content)> {
    let first = Image::new(2 * LEAF + 5)
        .with(0, &noise(1, 2 * CHUNK))
        .with(LEAF, &noise(2, CHUNK));
    let second = first.clone().with(LEAF + 7, &noise(3, 2 * CHUNK));
    let other = Image::new(LEAF).with(0, &noise(4, 2 * CHUNK));
    let dump = noise(5, 250 * KIB);
    vec![
        ("disk", Content::Image(first)),
        ("disk", Content::Image(second)),
        ("other", Content::Image(other)),
        ("dump", Content::Stream(dump)),
    ]
}

fn fill() -> (MemoryBackend, BTreeMap<ObjectHash, Content>) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let of_project = Grant::Project {
        project: &test_repo.project,
        role: Role::Full,
        volumes: &[],
    };
    test_repo
        .repository
        .add_key(Grant::Everything, &key(b"another"), &Silent)
        .unwrap();
    test_repo
        .repository
        .add_key(of_project, &key(b"of the project"), &Silent)
        .unwrap();
    test_repo
        .repository
        .add_key(of_project, &key(b"another of it"), &Silent)
        .unwrap();
    let host = Host::without_cache();
    let mut contents = BTreeMap::new();
    for (volume, content) in days() {
        let mut options = options(volume);
        options.pack_sizes = PackSizes::new(100 * KIB, 64 * KIB, 3);
        let input = match &content {
            Content::Image(image) => host.image(image).unwrap(),
            Content::Stream(bytes) => stream(bytes),
        };
        let made = host.run(&test_repo, input, &options).unwrap();
        contents.insert(made.id, content);
    }
    (store, contents)
}

fn set(report: &CheckReport) -> BTreeSet<ObjectHash> {
    report.backups_affected.iter().copied().collect()
}

/// Damages an object in one way, then opens, lists, restores, checks and backs up again.
fn assert_damage_is_contained(whole: &Whole, object: ObjectRef, name: &Name, kind: Kind) {
    let when = format!("{kind:?} {name}");
    let store = whole.damaged(object, name, kind);
    let mut host = Host::without_cache();
    host.threads = 1;

    // The repository can be opened, since every object needed for that has a second copy.
    let test_repo =
        TestRepo::open(store.clone(), &host.notices).unwrap_or_else(|e| panic!("{when}: {e}"));
    for password in [&b"another"[..], b"of the project"] {
        Repository::open(std::sync::Arc::new(store.clone()), password, &host.notices)
            .and_then(|repository| repository.project("default", &host.notices))
            .unwrap_or_else(|e| panic!("{when}: {e}"));
    }
    let records = Records::load(&test_repo.project).unwrap();
    let is_record = matches!(object, ObjectRef::Backup(..));
    let listed = whole.contents.len() - usize::from(is_record);
    assert_eq!(records.all().len(), listed, "{when}");
    assert_eq!(
        records.damaged().len(),
        usize::from(is_record && kind != Kind::Delete),
        "{when}"
    );

    let failed = whole.restore_all(&host, &test_repo, &when);
    let (plain, _) = host.check(&test_repo, false);
    let (thorough, findings) = host.check(&test_repo, true);
    assert_eq!(
        set(&thorough),
        failed,
        "{when}: check lists the backups that do not restore: {findings:#?}"
    );

    let no_backups = BTreeSet::new();
    let users = match object {
        ObjectRef::Pack(_, pack) | ObjectRef::Tree(_, pack) => {
            whole.users.get(&pack).unwrap_or(&no_backups)
        }
        _ => &no_backups,
    };
    assert!(
        failed.is_subset(users),
        "{when}: other backups are not affected"
    );
    assert!(
        set(&plain).is_subset(users),
        "{when}: other backups are not affected"
    );
    if kind == Kind::Delete {
        assert_eq!(set(&plain), failed, "{when}: check finds every lost pack");
        assert_eq!(
            failed, *users,
            "{when}: no backup restores without its pack"
        );
    }
    // If the newest record or log entry is missing, nothing shows its loss, because no other object
    // names it yet.
    let is_named = match object {
        ObjectRef::Backup(..) => !records.vanished().is_empty(),
        ObjectRef::Log(..) => !Log::load(&test_repo.project).unwrap().missing().is_empty(),
        _ => true,
    };
    let last = kind == Kind::Delete && !is_named;
    assert!(thorough.errors > 0 || last, "{when}: damage is found");
    if object.blob_kind().is_none() {
        assert_eq!(
            plain.errors, thorough.errors,
            "{when}: a check without --read-data finds the damage"
        );
    }

    // Back up again with --reread, which does not rely on lost objects.
    let known = test_repo.backups().len();
    for (volume, content) in days().drain(1..) {
        let input = match &content {
            Content::Image(image) => host.image(image).unwrap(),
            Content::Stream(bytes) => stream(bytes),
        };
        let again = host
            .run(&test_repo, input, &reread(volume))
            .unwrap_or_else(|e| panic!("{when}: {e}"));
        let whole_again = restores(
            &host,
            &test_repo,
            &test_repo.backup(again.id),
            &content,
            &when,
        );
        // A flipped bit in a pack of the right size is noticed only when the pack is read.
        assert!(
            whole_again || !failed.is_empty() && kind != Kind::Delete,
            "{when}"
        );
    }
    assert_eq!(test_repo.backups().len(), known + 3, "{when}");
    let (after, findings) = host.check(&test_repo, true);
    let failed_after = whole.restore_all(&host, &test_repo, &when);
    assert!(failed_after.is_subset(&failed), "{when}");
    assert!(failed_after.is_subset(&set(&after)), "{when}");
    if matches!(object, ObjectRef::Index(..)) && kind == Kind::Delete {
        assert!(
            findings.is_empty(),
            "{when}: the packs are named again: {findings:#?}"
        );
    }
    if kind == Kind::Delete {
        // All data was stored again, except that of the first backup, which was not made again.
        assert!(failed_after.len() <= 1, "{when}");
    }
}

#[test]
fn any_damage_to_any_object_is_found_and_affects_only_backups_that_need_the_object() {
    let whole = Whole::new();
    let objects = whole.objects();
    let count = |wanted: fn(&ObjectRef) -> bool| objects.iter().filter(|(o, _)| wanted(o)).count();
    assert_eq!(count(|o| matches!(o, ObjectRef::Key(..))), 2 * 4);
    assert!(count(|o| matches!(o, ObjectRef::Index(..))) >= 4);
    assert!(whole.users.len() >= 4 && whole.nodes.len() >= 8);
    for (object, name) in &objects {
        for kind in KINDS {
            assert_damage_is_contained(&whole, *object, name, kind);
        }
    }
}

#[test]
fn an_object_with_both_copies_damaged_is_reported() {
    let whole = Whole::new();
    let objects = whole.objects();
    for kind in [Kind::Delete, Kind::Truncate, Kind::FlipMiddle] {
        // Damage both copies of the repository file.
        let store = whole.store.copy();
        for (object, name) in &objects {
            if matches!(object, ObjectRef::Repository) {
                let damaged = whole.damaged(*object, name, kind);
                match damaged.get(name, u64::MAX) {
                    Ok(bytes) => store.put(name, &[&bytes]).unwrap(),
                    Err(_) => store.delete(name).unwrap(),
                }
            }
        }
        let error = Repository::open(
            std::sync::Arc::new(store),
            PASSWORD,
            &RecordingObserver::default(),
        )
        .err();
        let expected = match kind {
            Kind::Delete => cuttlebone::repo::RepoErrorKind::NoRepository,
            _ => cuttlebone::repo::RepoErrorKind::Damaged,
        };
        assert_eq!(error.unwrap().kind(), expected, "{kind:?}");

        // Without any node packs, all trees are lost. Restore and check report that.
        let store = whole.store.copy();
        for (object, name) in &objects {
            if object.blob_kind() == Some(BlobKind::Node) {
                store.delete(name).unwrap();
            }
        }
        let host = Host::without_cache();
        let test_repo = TestRepo::open(store, &host.notices).unwrap();
        let failed = whole.restore_all(&host, &test_repo, "no nodes");
        assert_eq!(failed.len(), whole.contents.len());
        assert_eq!(set(&host.check(&test_repo, false).0), failed);
    }

    // Without any segments, the packs' listings replace them.
    let store = whole.store.copy();
    for (object, name) in &objects {
        if matches!(object, ObjectRef::Index(..)) {
            store.delete(name).unwrap();
        }
    }
    let host = Host::with_cache();
    let test_repo = TestRepo::open(store, &host.notices).unwrap();
    assert!(
        whole
            .restore_all(&host, &test_repo, "no segments")
            .is_empty()
    );
    let (report, _) = host.check(&test_repo, true);
    assert!(report.errors > 0 && report.backups_affected.is_empty());
    let image = Image::new(LEAF).with(0, &noise(9, CHUNK));
    host.back_up(&test_repo, "new", &image).unwrap();
    host.check_clean(&test_repo, "after the next backup");
    Host::without_cache().check_clean(&test_repo, "after the next backup, on another host");
}

/// A check reads a large pack one piece at a time.
#[test]
fn check_finds_a_flipped_bit_in_each_piece_of_a_large_pack() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let len = 5 * LEAF;
    let image = Image::new(len).with(0, &noise(1, usize::try_from(len).unwrap()));
    let mut options = options("disk");
    options.pack_sizes = PackSizes::default();
    let input = host.image(&image).unwrap();
    let made = host.run(&test_repo, input, &options).unwrap();
    host.check_clean(&test_repo, "before the damage");
    let listed = store.list("").unwrap();
    let packs = listed.iter().filter(|listed| {
        let (object, _) = ObjectRef::parse(&listed.name).unwrap();
        matches!(object, ObjectRef::Pack(..))
    });
    let pack = packs.max_by_key(|pack| pack.size).unwrap();
    assert!(pack.size > 2 * LEAF, "the pack has several pieces");
    let bytes = store.get(&pack.name, u64::MAX).unwrap();
    let in_runs = (0..pack.size / LEAF).map(|piece| piece * LEAF + LEAF / 2);
    let in_runs: Vec<u64> = in_runs.filter(|at| at + LEAF / 4 < pack.size).collect();
    for at in in_runs.iter().copied().chain([0, pack.size - 1]) {
        let mut damaged = bytes.clone();
        damaged[usize::try_from(at).unwrap()] ^= 1;
        store.put(&pack.name, &[&damaged]).unwrap();
        let (report, _) = host.check(&test_repo, true);
        // Even without the first or last byte of the pack, all of its runs open.
        let affected = BTreeSet::from_iter(in_runs.contains(&at).then_some(made.id));
        assert_eq!(set(&report), affected, "bit flipped at {at}");
        assert!(report.errors > 0, "bit flipped at {at}");
    }
}
