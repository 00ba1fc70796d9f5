//! Damaged copies of genuine packs. The name of a copy is the hash of its bytes. Its list of
//! contents and the valid signature of this list are those of the genuine pack.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::crypto::object_hash;
use cuttlebone::format::{IndexSegment, PackListing};
use cuttlebone::ops::{self, MaxUnused, PruneOptions};
use cuttlebone::repo::{Index, ObjectRef, read_listing};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::provenance::writer;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Returns the packs of the project: those of chunks and those of nodes.
fn packs(store: &MemoryBackend) -> Vec<ObjectRef> {
    let listed = store.list("projects").unwrap();
    let objects = listed.iter().filter_map(|o| ObjectRef::parse(&o.name));
    let packs = objects.filter(|(o, _)| matches!(o, ObjectRef::Pack(..) | ObjectRef::Tree(..)));
    packs.map(|(object, _)| object).collect()
}

/// Stores a copy of each pack, with one byte of the first run changed. This needs no key. Returns
/// the listings of the copies.
fn copy_with_damage(store: &MemoryBackend, test_repo: &TestRepo) -> Vec<PackListing> {
    let copied = packs(store).into_iter().map(|pack| {
        let mut bytes = store.get(&pack.name(), 1 << 30).unwrap();
        bytes[40] ^= 1;
        let id = test_repo.project.id;
        let copy = match pack {
            ObjectRef::Pack(..) => ObjectRef::Pack(id, object_hash(&[&bytes])),
            _ => ObjectRef::Tree(id, object_hash(&[&bytes])),
        };
        store.put(&copy.name(), &[&bytes]).unwrap();
        read_listing(&test_repo.project, copy, None).unwrap()
    });
    copied.collect()
}

fn prune(test_repo: &TestRepo, grace: Duration) {
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    planned.unwrap().run().unwrap();
}

/// Stores an object in `index/` whose name is not the hash of its bytes. This needs no key.
fn damage_index(store: &MemoryBackend, test_repo: &TestRepo) {
    let name = ObjectHash::from_bytes([7; 32]);
    let segment = ObjectRef::Index(test_repo.project.id, name);
    store.put(&segment.name(), &[b"rubbish"]).unwrap();
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_prune_keeps_a_pack_although_a_write_key_lists_a_damaged_copy_of_it() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 6 * CHUNK));
    let made = host.back_up(&full, "disk", &image).unwrap();
    let copies = copy_with_damage(&store, &full);
    let thief = writer(&store, 1);
    // Store so many small segments that a prune merges them.
    for copy in copies.iter().cycle().take(12) {
        let segment = IndexSegment {
            packs: vec![copy.clone()],
            superseded: Vec::new(),
        };
        let put = thief
            .project
            .put_sealed(ObjectRef::Index, &segment.encode());
        put.unwrap();
    }
    // At first, the copies are so young that a running backup may use them.
    for grace in [HOUR, Duration::ZERO, Duration::ZERO] {
        prune(&full, grace);
        let restored = host.restore_image(&full, &full.backup(made.id));
        assert!(restored.unwrap() == image, "after a prune with {grace:?}");
    }
    host.check_clean(&full, "pruned");
}

#[test]
fn a_backup_uses_no_damaged_copy_of_a_pack_if_no_segment_names_the_copy() {
    for with_write_key in [false, true] {
        let store = MemoryBackend::new();
        let full = TestRepo::init(store.clone(), CHUNK).unwrap();
        let client = if with_write_key {
            writer(&store, 1)
        } else {
            TestRepo::open(store.clone(), &Silent).unwrap()
        };
        let host = Host::without_cache();
        let image = Image::new(LEAF).with(0, &noise(2, 6 * CHUNK));
        host.back_up(&client, "disk", &image).unwrap();
        let genuine = packs(&store);
        let copies = copy_with_damage(&store, &full);
        // Delete the genuine packs, and all objects that name them, as `forget` and `prune` do.
        for object in store.list("projects").unwrap() {
            match ObjectRef::parse(&object.name) {
                Some((ObjectRef::Index(..) | ObjectRef::Backup(..), _)) => {
                    store.delete(&object.name).unwrap();
                }
                Some((pack, _)) if genuine.contains(&pack) => store.delete(&object.name).unwrap(),
                _ => {}
            }
        }
        damage_index(&store, &full);
        let made = host.back_up(&client, "disk", &image).unwrap();
        assert_eq!(made.chunks_new, 6, "with a write key: {with_write_key}");
        let restored = host.restore_image(&full, &full.backup(made.id)).unwrap();
        assert!(restored == image);
        let index = Index::in_memory(&full.project, Arc::new(Silent)).unwrap();
        for copy in copies {
            assert!(!index.is_named(&copy.pack).unwrap());
        }
    }
}

#[test]
fn a_prune_keeps_a_pack_although_an_unlisted_damaged_copy_of_it_exists() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(3, 6 * CHUNK));
    let made = host.back_up(&full, "disk", &image).unwrap();
    copy_with_damage(&store, &full);
    damage_index(&store, &full);
    let again = host.back_up(&full, "again", &image).unwrap();
    assert_eq!(again.chunks_new, 0);
    for grace in [HOUR, Duration::ZERO, Duration::ZERO] {
        prune(&full, grace);
        for backup in [made.id, again.id] {
            let restored = host.restore_image(&full, &full.backup(backup));
            assert!(restored.unwrap() == image, "after a prune with {grace:?}");
        }
    }
    host.check_clean(&full, "pruned");
}
