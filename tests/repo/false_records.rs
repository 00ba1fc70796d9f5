//! Records that a thief of a write key signs without the program's checks. They count as backups of
//! the key's volumes, and stop no command of a full key.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{BlobId, Notice, ObjectHash, Role, Silent};
use cuttlebone::crypto::object_hash;
use cuttlebone::format::{BackupRecord, BlobKind, PackListing, root_description};
use cuttlebone::ops::{self, MaxUnused, PruneOptions};
use cuttlebone::repo::{Index, Log, ObjectRef, Records};
use cuttlebone::storage::MemoryBackend;

use super::provenance::client;
use super::prune::forget;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

struct Theft {
    full: TestRepo,
    thief: TestRepo,
    host: Host,
    image: Image,
    /// The genuine backup of the volume `disk`.
    genuine: ObjectHash,
}

impl Theft {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let thief = client(&store, Role::Write, 1);
        let host = Host::without_cache();
        let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
        let genuine = host.back_up(&full, "disk", &image).unwrap().id;
        Self {
            full,
            thief,
            host,
            image,
            genuine,
        }
    }

    /// Stores the genuine record with changes, signed by the thief.
    fn sign(&self, change: impl FnOnce(&mut BackupRecord)) -> ObjectHash {
        let mut record = self.full.backup(self.genuine).record;
        change(&mut record);
        let put = self
            .thief
            .project
            .put_sealed(ObjectRef::Backup, &record.encode());
        put.unwrap()
    }

    fn prune(&self) -> Result<(), ops::OpsError> {
        let options = PruneOptions {
            max_unused: MaxUnused::Bytes(0),
            max_repack: None,
            merge_small: false,
            grace: Duration::ZERO,
            accept_loss: ops::AcceptedLoss::default(),
            host: None,
        };
        let context = self.host.context();
        let planned = ops::plan_prune(&self.full.project, &options, false, &context)?;
        planned.run().map(drop)
    }

    #[track_caller]
    fn genuine_is_whole(&self) {
        let backup = self.full.backup(self.genuine);
        assert!(self.host.restore_image(&self.full, &backup).unwrap() == self.image);
    }

    fn revoke(&self) {
        let certificates = self.full.project.certificates(&cuttlebone::base::Silent);
        let certificates = certificates.unwrap();
        let signer = self.thief.project.keys.signing().public();
        let key = certificates.of_signer(&signer).unwrap();
        ops::revoke_key(&self.full.project, key, Vec::new(), None).unwrap();
    }
}

#[test]
fn a_record_whose_top_is_not_stored_or_is_a_chunk_does_not_stop_a_prune() {
    let theft = Theft::new();
    let index = Index::in_memory(&theft.full.project, Arc::new(Silent)).unwrap();
    let mut chunk = None;
    let note = |pack: PackListing| {
        if pack.contents.kind == BlobKind::Chunk {
            chunk = pack.contents.blobs().next().map(|blob| blob.id);
        }
        Ok(())
    };
    index.each_pack(note).unwrap();
    let mut forged: Vec<_> = [BlobId::from_bytes([9; 32]), chunk.unwrap()]
        .iter()
        .map(|top| {
            theft.sign(|record| {
                let content = &mut record.content;
                content.top = Some(*top);
                let (kind, size, chunk) = (content.kind, content.size, content.chunk_size);
                let described = root_description(kind, size, chunk, Some(top));
                content.root = theft.full.project.keys.root(&described);
            })
        })
        .collect();
    theft.prune().unwrap();
    theft.genuine_is_whole();
    let (report, findings) = theft.host.check(&theft.full, false);
    let mut affected = report.backups_affected;
    affected.sort_unstable();
    forged.sort_unstable();
    assert_eq!(affected, forged, "{findings:?}");
    theft.revoke();
    theft.prune().unwrap();
    theft.genuine_is_whole();
}

#[test]
fn a_record_of_a_write_key_neither_replaces_another_record_nor_explains_a_missing_one() {
    let theft = Theft::new();
    let missing = ObjectHash::from_bytes([8; 32]);
    let forged = theft.sign(|record| {
        record.replaces = Some(theft.genuine);
        record.follows = vec![missing];
        record.heads = vec![missing, theft.genuine];
        record.base = Some(missing);
    });
    let records = Records::load(&theft.full.project).unwrap();
    let listed: Vec<_> = records.listed().map(|backup| backup.id).collect();
    assert!(listed.contains(&theft.genuine) && listed.contains(&forged));
    let log = Log::load(&theft.full.project).unwrap();
    assert_eq!(records.vanished(), [], "no full key names the record");
    assert_eq!(records.unconfirmed(&log), [missing]);
    let (report, findings) = theft.host.check(&theft.full, false);
    assert_eq!(report.errors, 0, "{findings:?}");
    let notice = Notice::NamedByWriteKeysOnly {
        records: 1,
        first: missing,
    };
    assert!(theft.host.notices.take().contains(&notice));
    theft.prune().unwrap();
    assert!(theft.host.notices.take().contains(&notice));
    theft.genuine_is_whole();
    let again = theft.host.back_up(&theft.full, "disk", &theft.image);
    assert_eq!(again.unwrap().chunks_new, 0);
    theft.revoke();
    let records = Records::load(&theft.full.project).unwrap();
    assert_eq!(records.vanished(), []);
    assert_eq!(records.unconfirmed(&log), []);
    let (report, findings) = theft.host.check(&theft.full, true);
    assert_eq!((report.errors, report.foreign), (1, 1), "{findings:?}");
    theft.prune().unwrap();
    theft.genuine_is_whole();
    let clean = "the forged record is removed";
    theft.host.check_clean(&theft.full, clean);
}

/// The holder of a write key can sign a record that names any hash, and can store a file with this
/// hash.
#[test]
fn a_file_that_is_no_record_is_not_missing_even_if_a_forgotten_record_named_it() {
    let theft = Theft::new();
    let store = theft.full.project.objects.backend();
    let garbage = b"garbage";
    let name = object_hash(&[garbage]);
    let file = ObjectRef::Backup(theft.full.project.id, name).name();
    store.put(&file, &[garbage]).unwrap();
    let forged = theft.sign(|record| {
        record.follows = vec![name, theft.genuine];
        record.heads = vec![name];
    });
    let gaps = || {
        let records = Records::load(&theft.full.project).unwrap();
        records.vanished().to_vec()
    };
    forget(&theft.full, &[forged]);
    let log = Log::load(&theft.full.project).unwrap();
    let described = log.removed_record(forged).unwrap();
    assert_eq!(described.follows, [theft.genuine]);
    assert!(described.heads.is_empty());
    theft.prune().unwrap();
    assert_eq!(gaps(), []);
    store.delete(&file).unwrap();
    assert_eq!(gaps(), [], "nothing names the file");
    theft.prune().unwrap();
    theft.genuine_is_whole();
}

#[test]
fn a_foreign_file_is_not_missing_even_if_a_record_of_a_full_key_names_it() {
    let theft = Theft::new();
    let store = theft.full.project.objects.backend();
    let garbage = b"garbage";
    let name = object_hash(&[garbage]);
    let file = ObjectRef::Backup(theft.full.project.id, name).name();
    let mut record = theft.full.backup(theft.genuine).record;
    record.heads = vec![name];
    let full = &theft.full.project;
    full.put_sealed(ObjectRef::Backup, &record.encode())
        .unwrap();
    for is_there in [false, true] {
        if is_there {
            store.put(&file, &[garbage]).unwrap();
        }
        let records = Records::load(full).unwrap();
        let expected: &[ObjectHash] = if is_there { &[] } else { &[name] };
        assert_eq!(records.vanished(), expected);
        assert_eq!(theft.prune().is_ok(), is_there);
    }
}

#[test]
fn stats_count_backups_with_different_names_as_different_volumes() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, CHUNK));
    let made = host.back_up(&test_repo, "one", &image).unwrap();
    // The id of the volume stays the same.
    let mut record = test_repo.backup(made.id).record;
    record.volume.name = "two".to_owned();
    record.heads = vec![made.id];
    let encoded = record.encode();
    test_repo
        .project
        .put_sealed(ObjectRef::Backup, &encoded)
        .unwrap();
    let stats = ops::stats(&test_repo.project, &host.context()).unwrap();
    assert_eq!((stats.volumes, stats.backups), (2, 2));
}
