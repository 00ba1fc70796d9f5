//! Backups with a write key. The holder of a write key can store any data under any id. So no other
//! key may rely on the packs of a write key before a full key has read and audited them.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{BlobId, Notice, ObjectHash, Role, Silent};
use cuttlebone::ops::{self, Finding, MaxUnused, OpsError, PruneOptions};
use cuttlebone::repo::{
    Audits, BlobReader, Grant, ImageReader, Index, ObjectRef, Packer, PackerOptions, RepoError,
    RepoErrorKind, Repository, UnindexedPacks, VerifyWrites, listing_of, read_listing,
};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend};

use super::{CHUNK, Host, Image, LEAF, TestRepo, is_damage, key, noise};

/// Opens the repository as the holder of the write key with this number.
pub(super) fn writer(store: &(impl Backend + Clone + 'static), number: u8) -> TestRepo {
    client(store, Role::Write, number)
}

/// Opens the repository as the holder of the key with this role and number. Adds the key first if
/// it does not exist.
pub(super) fn client(store: &(impl Backend + Clone + 'static), role: Role, number: u8) -> TestRepo {
    let password = format!("{role} {number}");
    let open = || Repository::open(Arc::new(store.clone()), password.as_bytes(), &Silent);
    let repository = open().unwrap_or_else(|_| {
        let full = TestRepo::open(store.clone(), &Silent).unwrap();
        let grant = Grant::Project {
            project: &full.project,
            role,
            volumes: &[],
        };
        let key = key(password.as_bytes());
        full.repository.add_key(grant, &key, &Silent).unwrap();
        open().unwrap()
    });
    let project = repository.project("default", &Silent).unwrap();
    TestRepo {
        repository,
        project,
    }
}

fn prune(test_repo: &TestRepo) -> Result<ops::PruneReport, OpsError> {
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    let host = Host::without_cache();
    ops::plan_prune(&test_repo.project, &options, false, &host.context())?.run()
}

/// Returns the ids of the chunks of a backup, and their lengths.
pub(super) fn chunks(test_repo: &TestRepo, backup: ObjectHash) -> Vec<(BlobId, usize)> {
    let index = Index::in_memory(&test_repo.project, Arc::new(Silent)).unwrap();
    let blobs = BlobReader::new(&index);
    let mut found = Vec::new();
    ImageReader::new(&blobs, &test_repo.backup(backup))
        .each_chunk(|chunk| {
            found.push((chunk.id, chunk.plain_len as usize));
            Ok::<_, RepoError>(())
        })
        .unwrap();
    found
}

/// Stores wrong data under these ids.
pub(super) fn poison(test_repo: &TestRepo, ids: &[(BlobId, usize)]) {
    let index = Index::in_memory(&test_repo.project, Arc::new(Silent)).unwrap();
    let all = ids.iter().map(|(_, len)| len).sum();
    let rubbish = noise(666, all);
    let (unindexed, _) = UnindexedPacks::none();
    // The ids are wrong on purpose, so do not verify the writes.
    let options = PackerOptions {
        verify: VerifyWrites::OFF,
        ..PackerOptions::default()
    };
    Packer::scope(&index, unindexed, options, |packer| {
        let mut worker = packer.worker()?;
        let mut at = 0;
        let places = ids.iter().map(|(id, len)| {
            at += len;
            (*id, at - len..at)
        });
        packer.store_chunks(&mut worker, &rubbish, places)?;
        packer.flush(&mut worker)
    })
    .unwrap();
}

fn packs(store: &dyn Backend) -> Vec<ObjectRef> {
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let packs = objects.filter(|(object, _)| matches!(object, ObjectRef::Pack(..)));
    packs.map(|(object, _)| object).collect()
}

#[test]
fn a_write_key_backs_up_what_only_a_full_key_can_restore() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let mut image = Image::new(2 * LEAF).with(0, &noise(1, 5 * CHUNK));
    let first = host.back_up(&thief, "disk", &image).unwrap();
    image.write(CHUNK as u64, &noise(2, 2 * CHUNK));
    let second = host.back_up(&thief, "disk", &image).unwrap();
    assert_eq!((first.chunks_new, second.chunks_new), (5, 2));
    let content = noise(3, 3 * CHUNK);
    let dump = host.back_up_stream(&thief, "dump", &content).unwrap();

    let (report, findings) = host.check(&thief, false);
    assert_eq!(report.errors, 0, "{findings:?}");
    for made in [first, second, dump] {
        let error = host.restore(&thief, &thief.backup(made.id)).unwrap_err();
        let OpsError::Repo(error) = error else {
            panic!("{error}")
        };
        assert_eq!(error.kind(), RepoErrorKind::Role);
    }
    let backup = full.backup(second.id);
    assert!(host.restore_image(&full, &backup).unwrap() == image);
    assert_eq!(host.restore(&full, &full.backup(dump.id)).unwrap(), content);
    host.check_clean(&full, "restored");
}

#[test]
fn a_pack_of_a_write_key_is_at_most_2_kib_larger() {
    let image = Image::new(LEAF).with(0, &noise(4, 9 * CHUNK));
    let size = |with_write_key: bool| {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let client = if with_write_key {
            writer(&store, 1)
        } else {
            full
        };
        let host = Host::without_cache();
        host.back_up(&client, "disk", &image).unwrap();
        let packs = packs(&store);
        let sizes = packs.iter().map(|pack| store.size(&pack.name()).unwrap());
        (packs.len(), sizes.sum::<u64>())
    };
    let (with, without) = (size(true), size(false));
    assert_eq!(with.0, without.0);
    let more = (with.1 - without.1) / with.0 as u64;
    assert!(more > 0 && more <= 2048, "{more} bytes");
}

#[test]
fn no_backup_relies_on_wrong_data_under_real_ids_and_no_prune_repacks_it() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(5, 4 * CHUNK));
    let other = Image::new(LEAF).with(0, &noise(6, 4 * CHUNK));
    // Find out the ids of chunks that are not stored yet, and that will be stored later.
    let elsewhere = MemoryBackend::new();
    for object in store.list("").unwrap() {
        let bytes = store.get(&object.name, 1 << 30).unwrap();
        elsewhere.put(&object.name, &[&bytes]).unwrap();
    }
    let guess = TestRepo::open(elsewhere, &Silent).unwrap();
    let guessed = host.back_up(&guess, "disk", &image).unwrap();
    let ids = chunks(&guess, guessed.id);
    assert_eq!(ids.len(), 4);
    poison(&thief, &ids);

    // A full key and another write key do not rely on the wrong data.
    for (number, client) in [&full, &writer(&store, 2)].into_iter().enumerate() {
        let made = host
            .back_up(client, &format!("disk{number}"), &image)
            .unwrap();
        let expected = if number == 0 { 4 } else { 0 };
        assert_eq!(made.chunks_new, expected, "client {number}");
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image, "client {number}");
    }
    // Now the wrong data is stored after the real data.
    let made = host.back_up(&full, "other", &other).unwrap();
    let latest = chunks(&full, made.id);
    poison(&thief, &latest);
    let (report, findings) = host.check(&full, true);
    assert!(report.packs_damaged > 0, "{findings:?}");
    assert_eq!(report.backups_affected, []);

    for when in ["once", "twice"] {
        prune(&full).unwrap();
        for backup in full.backups() {
            let expected = if backup.record.volume.name == "other" {
                &other
            } else {
                &image
            };
            let restored = host.restore_image(&full, &backup).unwrap();
            assert!(restored == *expected, "pruned {when}");
        }
    }
    let (report, findings) = host.check(&full, true);
    assert_eq!(report.errors, 0, "{findings:?}");
}

/// One write key stored real data, and another one stored wrong data under the same ids. A full key
/// must read both to distinguish them.
#[test]
fn prune_keeps_the_real_data_of_one_write_key_next_to_wrong_data_of_another() {
    for rubbish_first in [true, false] {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let (honest, thief) = (writer(&store, 1), writer(&store, 2));
        let host = Host::without_cache();
        let image = Image::new(LEAF).with(0, &noise(7, 4 * CHUNK));
        let copy = store.copy();
        let guess = TestRepo::open(copy, &Silent).unwrap();
        let guessed = host.back_up(&guess, "disk", &image).unwrap();
        let ids = chunks(&guess, guessed.id);
        if rubbish_first {
            poison(&thief, &ids);
        }
        let made = host.back_up(&honest, "disk", &image).unwrap();
        assert_eq!(made.chunks_new, 4);
        if !rubbish_first {
            poison(&thief, &ids);
        }
        for _ in 0..2 {
            prune(&full).unwrap();
            let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
            assert!(restored == image, "rubbish first: {rubbish_first}");
        }
    }
}

#[test]
fn a_record_of_wrong_data_does_not_stop_prune() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(8, 4 * CHUNK));
    let unused = Image::new(LEAF).with(0, &noise(9, 4 * CHUNK));
    let made = host.back_up(&full, "real", &unused).unwrap();
    // The pack with wrong data has a chunk that no record needs, so the prune tries to repack it.
    let guess = TestRepo::open(store.copy(), &Silent).unwrap();
    let guessed = host.back_up(&guess, "disk", &image).unwrap();
    let mut ids = chunks(&guess, guessed.id);
    ids.push((BlobId::from_bytes([9; 32]), CHUNK));
    poison(&thief, &ids);
    let forged = host.back_up(&thief, "disk", &image).unwrap();
    assert_eq!(forged.chunks_new, 0);
    prune(&full).unwrap();
    let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
    assert!(restored == unused);
    let error = host.restore(&full, &full.backup(forged.id)).unwrap_err();
    assert!(is_damage(&error), "{error}");
}

#[test]
fn a_full_key_that_checks_the_data_makes_the_packs_of_a_write_key_count() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(10, 4 * CHUNK));
    let made = host.back_up(&writer(&store, 1), "disk", &image).unwrap();
    host.check(&full, false);
    let before = store.copy();
    assert_eq!(Audits::load(&full.project).unwrap().into_packs().len(), 0);
    let again = TestRepo::open(before, &Silent).unwrap();
    assert_eq!(host.back_up(&again, "copy", &image).unwrap().chunks_new, 4);

    let (report, findings) = host.check(&full, true);
    assert_eq!(report.errors, 0, "{findings:?}");
    let audited = Audits::load(&full.project).unwrap().into_packs();
    assert_eq!(audited.len(), 3, "one pack of chunks, two of nodes");
    for client in [&full, &writer(&store, 2)] {
        let copy = host.back_up(client, "copy", &image).unwrap();
        assert_eq!(copy.chunks_new, 0);
    }
    host.check(&full, true);
    let again = Audits::load(&full.project).unwrap().into_packs();
    assert_eq!(again, audited, "nothing new was found");
    let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
    assert!(restored == image);
}

#[test]
fn a_write_key_adopts_only_the_packs_of_its_own_killed_backup() {
    for (seed, resumes) in [(1, true), (2, false)] {
        let store = FaultBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::with_cache();
        let image = Image::new(LEAF).with(0, &noise(11, 4 * CHUNK));
        let made = host.back_up(&writer(&store, 1), "disk", &image).unwrap();
        assert_eq!(made.chunks_new, 4);
        // Delete its segments and record, as if the backup had been killed before it stored them.
        let mut names = Vec::new();
        for object in store.list("projects").unwrap() {
            match ObjectRef::parse(&object.name) {
                Some((ObjectRef::Index(..) | ObjectRef::Backup(..), _)) => {
                    store.delete(&object.name).unwrap();
                }
                Some((ObjectRef::Pack(_, pack), _)) => names.push(pack.to_string()),
                _ => {}
            }
        }
        let directory = full.project.cache_dir(host.cache.as_ref().unwrap());
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
        let pending = directory.path().join("index-0.pending");
        std::fs::write(pending, names.join("\n")).unwrap();
        host.notices.take();

        let again = host.back_up(&writer(&store, seed), "disk", &image).unwrap();
        let resumed = |notice: &Notice| matches!(notice, Notice::Resumed { packs: 1 });
        assert_eq!(host.notices.take().iter().any(resumed), resumes);
        assert_eq!(again.chunks_new, if resumes { 0 } else { 4 });
        let restored = host.restore_image(&full, &full.backup(again.id)).unwrap();
        assert!(restored == image);
    }
}

#[test]
fn any_key_rebuilds_the_index_without_reading_data() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(12, 4 * CHUNK));
    host.back_up(&writer(&store, 1), "disk", &image).unwrap();
    for object in store.list("projects").unwrap() {
        if let Some((ObjectRef::Index(..), _)) = ObjectRef::parse(&object.name) {
            store.delete(&object.name).unwrap();
        }
    }
    let verify = client(&store, Role::Verify, 1);
    for client in [&verify, &writer(&store, 2), &full] {
        let index = Index::in_memory(&client.project, Arc::new(Silent)).unwrap();
        assert!(index.resync().unwrap());
        let signer = writer(&store, 1).project.keys.signing().public();
        index
            .each_pack(|listing| {
                assert_eq!(listing.signer, signer, "the pack itself names its signer");
                Ok(())
            })
            .unwrap();
        let made = client.backups().pop().unwrap();
        let nodes = BlobReader::new(&index);
        assert!(nodes.node(&made.top.unwrap()).is_ok());
    }
}

#[test]
fn a_pack_that_is_moved_cut_or_changed_anywhere_is_refused() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(13, CHUNK));
    host.back_up(&writer(&store, 1), "disk", &image).unwrap();
    let project = &full.project;
    let [pack] = packs(&store)[..] else { panic!() };
    let bytes = store.get(&pack.name(), 1 << 30).unwrap();
    let hash = pack.hash().unwrap();
    assert!(listing_of(project, pack, &bytes).is_ok());
    let tree = ObjectRef::Tree(project.id, hash);
    assert!(listing_of(project, tree, &bytes).is_err(), "in trees/");
    store.put(&tree.name(), &[&bytes]).unwrap();
    assert!(read_listing(project, tree, None).is_err(), "in trees/");
    for at in (0..bytes.len())
        .step_by(97)
        .chain(bytes.len() - 2000..bytes.len())
    {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(listing_of(project, pack, &changed).is_err(), "byte {at}");
    }
    let mut longer = bytes.clone();
    longer.insert(100, 0);
    assert!(listing_of(project, pack, &longer).is_err(), "longer");
    assert!(listing_of(project, pack, &bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn a_pack_of_chunks_in_the_directory_for_nodes_is_a_finding_of_check() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(14, CHUNK));
    host.back_up(&full, "disk", &image).unwrap();
    let [pack] = packs(&store)[..] else { panic!() };
    let bytes = store.get(&pack.name(), 1 << 30).unwrap();
    store.delete(&pack.name()).unwrap();
    let tree = ObjectRef::Tree(full.project.id, pack.hash().unwrap());
    store.put(&tree.name(), &[&bytes]).unwrap();
    let (report, findings) = host.check(&full, false);
    let missing =
        |finding: &Finding| matches!(finding, Finding::PackMissing { pack: p } if *p == pack);
    assert!(findings.iter().any(missing), "{findings:?}");
    assert_eq!(report.backups_affected.len(), 1);
}

#[test]
fn a_pack_that_the_log_removes_and_that_was_put_back_is_not_audited() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    let client = writer(&store, 1);
    let made = host.back_up(&client, "disk", &image).unwrap();
    let before = store.copy();
    host.back_up(&full, "other", &Image::new(LEAF)).unwrap();
    super::prune::forget(&full, &[made.id]);
    for _ in 0..2 {
        prune(&full).unwrap();
    }
    for object in before.list("projects").unwrap() {
        if store.size(&object.name).is_err() {
            let bytes = before.get(&object.name, 1 << 30).unwrap();
            store.put(&object.name, &[&bytes]).unwrap();
        }
    }
    let full = TestRepo::open(store.clone(), &Silent).unwrap();
    let backup = full.backup(made.id);
    assert!(host.restore_image(&full, &backup).unwrap() == image);
    host.check(&full, true);
    let audited = Audits::load(&full.project).unwrap().into_packs();
    assert!(audited.is_empty(), "{audited:?}");
    let audits = store.list("projects").unwrap();
    assert!(!audits.iter().any(|o| o.name.as_str().contains("/audits/")));
}
