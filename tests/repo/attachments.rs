//! Attachments of backups: Ceph's metadata of an image, which is stored as a separate content.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Role, Silent};
use cuttlebone::format::{Attachment, BlobKind, ContentKind, ImageMetadata, root_description};
use cuttlebone::ops::{self, BackupReport, Finding, OpsError};
use cuttlebone::repo::{Backup, Grant, ObjectRef, RepoErrorKind, Voids};
use cuttlebone::storage::{Backend, MemoryBackend, Name};
use cuttlebone::volume::{DiffSource, NamedInput};

use super::ingest::{diff, ingest};
use super::prune::{forget, is_pack, prune};
use super::{CHUNK, Host, LEAF, TestRepo, is_damage, key, options};
use crate::rbd;

const ENTRIES: [(&[u8], &[u8]); 3] = [
    (b"colour", b"a word that the record must not hold"),
    (b"odd\xff", b""),
    (b"colour", b"again"),
];

fn metadata() -> ImageMetadata {
    let entries = ENTRIES.map(|(key, value)| (key.to_vec(), value.to_vec()));
    entries.iter().collect()
}

/// Returns a full diff of an image whose chunks are noise.
fn plain() -> Vec<u8> {
    diff(None, None, LEAF, &vec![(0, 2 * CHUNK, Some(1))])
}

/// Returns the diff of [`plain`] in format v2, with [`ENTRIES`] as the image's metadata.
fn described() -> Vec<u8> {
    rbd::stream_v2_with(&ENTRIES, &rbd::read(&plain()).unwrap())
}

fn back_up(test_repo: &TestRepo, volume: &str, stream: &[u8]) -> Backup {
    let made = ingest(&Host::without_cache(), test_repo, stream, &options(volume)).unwrap();
    let [BackupReport { id: Some(id), .. }] = &made[..] else {
        panic!("{made:?}")
    };
    test_repo.backup(*id)
}

fn read(test_repo: &TestRepo, backup: &Backup) -> Result<Option<ImageMetadata>, OpsError> {
    let host = Host::without_cache();
    ops::image_metadata(&test_repo.project, backup, &host.context())
}

fn restores(test_repo: &TestRepo, backup: &Backup) -> bool {
    let restored = Host::without_cache().restore(test_repo, backup).unwrap();
    let (_, extents) = &rbd::read(&plain()).unwrap()[0];
    restored.len() as u64 == LEAF && restored.starts_with(&extents[0].1)
}

/// A repository with two backups of the same image, in two volumes. The first, `plain`, has no
/// attachment. The second, `backup`, has one, so the packs that it added hold only the attachment.
struct Attached {
    store: MemoryBackend,
    test_repo: TestRepo,
    plain: Backup,
    backup: Backup,
    /// The packs of the image, and of its tree.
    before: Vec<Name>,
}

/// Returns the names of all packs in the store.
fn pack_names(store: &MemoryBackend) -> Vec<Name> {
    let objects = store.list("projects").unwrap().into_iter();
    objects.map(|o| o.name).filter(is_pack).collect()
}

impl Attached {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let plain = back_up(&test_repo, "plain", &plain());
        let before = pack_names(&store);
        let backup = back_up(&test_repo, "disk", &described());
        assert_eq!(plain.root, backup.root);
        Self {
            store,
            test_repo,
            plain,
            backup,
            before,
        }
    }

    /// Returns the packs with chunks or nodes of the attachment.
    fn packs(&self, kind: BlobKind) -> Vec<Name> {
        let part = match kind {
            BlobKind::Chunk => "/packs/",
            BlobKind::Node => "/trees/",
        };
        let mut packs = pack_names(&self.store);
        packs.retain(|name| !self.before.contains(name) && name.as_str().contains(part));
        packs
    }

    fn reopened(&self) -> TestRepo {
        TestRepo::open(self.store.clone(), &Silent).unwrap()
    }
}

#[test]
fn metadata_of_an_image_is_stored_outside_the_record_and_can_be_read() {
    let attached = Attached::new();
    let record = &attached.backup.record;
    let [attachment] = &record.attachments[..] else {
        panic!("{record:?}")
    };
    assert_eq!(attachment.name, "rbd-metadata");
    assert_eq!(attachment.size, metadata().encode().len() as u64);
    let json = String::from_utf8(record.encode()).unwrap();
    assert!(!json.contains("a word"), "{json}");
    let found = read(&attached.test_repo, &attached.backup).unwrap();
    assert_eq!(found, Some(metadata()));
    assert_eq!(read(&attached.test_repo, &attached.plain).unwrap(), None);
    assert!(attached.plain.record.attachments.is_empty());
    assert!(restores(&attached.test_repo, &attached.backup));
    let host = Host::without_cache();
    host.check_clean(&attached.test_repo, "the attachment is whole");
    // The same metadata is stored once.
    let packs = pack_names(&attached.store);
    back_up(&attached.test_repo, "other", &described());
    assert_eq!(pack_names(&attached.store), packs);
}

#[test]
fn only_a_full_key_reads_attachments_even_those_that_a_write_key_stored() {
    let attached = Attached::new();
    let test_repo = &attached.test_repo;
    for role in [Role::Write, Role::Verify] {
        let grant = Grant::Project {
            project: &test_repo.project,
            role,
            volumes: &[],
        };
        let password = role.to_string();
        let added = test_repo
            .repository
            .add_key(grant, &key(password.as_bytes()), &Silent);
        added.unwrap();
    }
    let open = |password: &str| {
        let store: Arc<dyn Backend> = Arc::new(attached.store.clone());
        let repository =
            cuttlebone::repo::Repository::open(store, password.as_bytes(), &Silent).unwrap();
        let project = repository.project("default", &Silent).unwrap();
        TestRepo {
            repository,
            project,
        }
    };
    let writer = open("write");
    let other: [(&[u8], &[u8]); 1] = [(b"made by", b"a write key")];
    let stream = rbd::stream_v2_with(&other, &rbd::read(&plain()).unwrap());
    let made = back_up(&writer, "client", &stream);
    let entries = [(b"made by".to_vec(), b"a write key".to_vec())];
    let full = attached.reopened();
    let found = read(&full, &full.backup(made.id)).unwrap();
    assert_eq!(found, Some(entries.iter().collect()));
    for role in ["write", "verify"] {
        let thief = open(role);
        for backup in [attached.backup.id, made.id] {
            let backup = thief.backup(backup);
            assert_eq!(backup.record.attachments[0].name, "rbd-metadata");
            let refused = read(&thief, &backup).expect_err("no key to the data");
            assert!(
                matches!(&refused, OpsError::Repo(e) if e.kind() == RepoErrorKind::Role),
                "{role}: {refused:?}"
            );
        }
    }
    Host::without_cache().check_clean(&full, "both attachments are whole");
}

#[test]
fn a_prune_keeps_attachments() {
    let attached = Attached::new();
    let test_repo = &attached.test_repo;
    let host = Host::without_cache();
    let other: [(&[u8], &[u8]); 1] = [(b"of", b"a forgotten backup")];
    let stream = rbd::stream_v2_with(&other, &rbd::read(&plain()).unwrap());
    let unused = back_up(test_repo, "unused", &stream);
    forget(test_repo, &[unused.id]);
    attached.store.age(Duration::from_hours(48));
    let report = prune(test_repo, &host, Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
    let test_repo = attached.reopened();
    let backup = test_repo.backup(attached.backup.id);
    assert_eq!(read(&test_repo, &backup).unwrap(), Some(metadata()));
    host.check_clean(&test_repo, "after a prune");
}

#[test]
fn check_finds_damage_in_an_attachment_and_names_the_backup() {
    for kind in [BlobKind::Chunk, BlobKind::Node] {
        for is_flipped in [false, true] {
            let attached = Attached::new();
            let store = &attached.store;
            let packs = attached.packs(kind);
            assert!(!packs.is_empty());
            for pack in &packs {
                if is_flipped {
                    let mut bytes = store.get(pack, u64::MAX).unwrap();
                    // This byte is in the first run.
                    bytes[40] ^= 1;
                    store.put(pack, &[&bytes]).unwrap();
                } else {
                    store.delete(pack).unwrap();
                }
            }
            let test_repo = attached.reopened();
            let host = Host::without_cache();
            // Nodes are read even without --read-data.
            let read_data = is_flipped && kind == BlobKind::Chunk;
            let (report, findings) = host.check(&test_repo, read_data);
            let case = format!("{kind:?} {is_flipped}: {findings:?}");
            assert_eq!(report.backups_affected, [attached.backup.id], "{case}");
            let id = attached.backup.id;
            let names_it =
                |f: &Finding| matches!(f, Finding::BackupAffected(affected) if affected.id == id);
            assert!(findings.iter().any(names_it), "{case}");
            let backup = test_repo.backup(attached.backup.id);
            let refused = read(&test_repo, &backup).expect_err("the attachment is damaged");
            assert!(is_damage(&refused), "{case}: {refused:?}");
            // Restoring the image does not need the attachment.
            assert!(restores(&test_repo, &backup), "{case}");
        }
    }
}

#[test]
fn a_prune_removes_a_withdrawn_record_if_its_attachment_is_lost() {
    for is_lost in [false, true] {
        let attached = Attached::new();
        let id = attached.backup.id;
        if is_lost {
            for pack in attached.packs(BlobKind::Chunk) {
                attached.store.delete(&pack).unwrap();
            }
        }
        let host = Host::without_cache();
        let test_repo = attached.reopened();
        Voids::put(&test_repo.project, id, "test").unwrap();
        prune(&test_repo, &host, Duration::from_hours(20)).unwrap();
        let left = test_repo.backups().iter().any(|backup| backup.id == id);
        assert_eq!(left, !is_lost);
        host.check_clean(&attached.reopened(), "after a prune");
    }
}

/// A stream that runs `hook` before the first read in its second half.
struct Hooked<F> {
    bytes: Cursor<Vec<u8>>,
    hook: Option<F>,
}

impl<F: FnOnce()> Read for Hooked<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let middle = self.bytes.get_ref().len() as u64 / 2;
        if self.bytes.position() >= middle
            && let Some(hook) = self.hook.take()
        {
            hook();
        }
        self.bytes.read(into)
    }
}

/// A backup finds the chunks of its attachment in the index. Then the only backup that used them is
/// forgotten, and a prune marks them.
#[test]
fn a_backup_stores_its_attachment_again_if_a_concurrent_prune_marks_it() {
    let attached = Attached::new();
    attached.store.age(Duration::from_hours(48));
    let (meanwhile, old) = (attached.store.clone(), attached.backup.id);
    let hook = move || {
        let test_repo = TestRepo::open(meanwhile, &Silent).unwrap();
        forget(&test_repo, &[old]);
        let report = prune(&test_repo, &Host::without_cache(), Duration::from_hours(20)).unwrap();
        assert!(report.marked.packs > 0 && report.deleted.packs == 0);
    };
    let input = Hooked {
        bytes: Cursor::new(described()),
        hook: Some(hook),
    };
    let host = Host::without_cache();
    let test_repo = attached.reopened();
    let mut source = DiffSource::new(NamedInput::new(input, "a diff"));
    let made = ops::backup(
        &test_repo.project,
        &mut source,
        &options("new"),
        &host.context(),
    );
    let id = made.unwrap()[0].id.unwrap();
    for _ in 0..3 {
        attached.store.age(Duration::from_hours(21));
        prune(&test_repo, &host, Duration::from_hours(20)).unwrap();
    }
    let test_repo = attached.reopened();
    let backup = test_repo.backup(id);
    assert_eq!(read(&test_repo, &backup).unwrap(), Some(metadata()));
    host.check_clean(&test_repo, "later");
}

#[test]
fn an_attachment_beyond_the_limit_is_neither_stored_nor_read() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store, CHUNK).unwrap();
    let host = Host::without_cache();
    // In JSON, a control character takes six bytes, so this metadata is larger than the limit.
    let value = vec![1; 3 << 20];
    let stream = rbd::stream_v2_with(&[(b"k", &value)], &rbd::read(&plain()).unwrap());
    let refused = ingest(&host, &test_repo, &stream, &options("disk")).expect_err("too large");
    assert!(
        matches!(&refused, OpsError::AttachmentTooLarge { name, .. } if name == "rbd-metadata"),
        "{refused:?}"
    );
    assert!(test_repo.backups().is_empty());

    // A forged record can state any size.
    let made = back_up(&test_repo, "disk", &described());
    let mut record = made.record;
    let size = 1 << 50;
    let top = record.attachments[0].top;
    let described = root_description(ContentKind::Stream, size, 0, top.as_ref());
    record.attachments = vec![Attachment {
        name: "rbd-metadata".into(),
        size,
        top,
        root: test_repo.project.keys.root(&described),
    }];
    let forged = put(&test_repo, &record);
    let refused = read(&test_repo, &test_repo.backup(forged)).expect_err("too large");
    assert!(
        matches!(refused, OpsError::AttachmentTooLarge { .. }),
        "{refused:?}"
    );
    let (report, _) = host.check(&test_repo, false);
    assert_eq!(report.backups_affected, [forged]);
}

fn put(test_repo: &TestRepo, record: &cuttlebone::format::BackupRecord) -> ObjectHash {
    let sealed = test_repo
        .project
        .put_sealed(ObjectRef::Backup, &record.encode());
    sealed.unwrap()
}
