//! Before a prune deletes a copy of a blob, it reads the other copies. These may have damage that
//! nobody has noticed yet.

use std::collections::BTreeMap;
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::format::BlobKind;
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, StorageOperation};

use super::{GRACE, HOUR, damage, forget, open, pack_object, packs, prune, stored, used};
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Returns an image with this many chunks that are not zero.
fn image(chunks: u64) -> Image {
    (0..chunks).fold(Image::new(LEAF), |image, n| {
        image.with(n * CHUNK as u64, &noise(n, CHUNK))
    })
}

/// Adds to `store` the objects of `other` that `store` lacks.
pub(super) fn add_objects(store: &MemoryBackend, other: &MemoryBackend) {
    let known = store.list("projects").unwrap();
    for object in other.list("projects").unwrap() {
        if !known.iter().any(|known| known.name == object.name) {
            let bytes = other.get(&object.name, 1 << 30).unwrap();
            store.put(&object.name, &[&bytes]).unwrap();
        }
    }
}

/// Two hosts backed up the same data at the same time, so that its blobs have more copies than
/// needed.
struct Twice {
    store: MemoryBackend,
    contents: BTreeMap<ObjectHash, Image>,
    /// The packs that the first host stored: those with chunks, and those with nodes.
    chunks: Vec<ObjectHash>,
    nodes: Vec<ObjectHash>,
}

impl Twice {
    /// The first host backs up an image with this many chunks. The second host backs up an image
    /// with six chunks.
    fn new(chunks: u64) -> Self {
        let store = MemoryBackend::new();
        TestRepo::init(store.clone(), CHUNK).unwrap();
        let other = store.copy();
        let mut contents = BTreeMap::new();
        let mut back_up = |store: &MemoryBackend, volume: &str, image: Image| {
            let made = Host::without_cache().back_up(&open(store), volume, &image);
            contents.insert(made.unwrap().id, image);
        };
        back_up(&store, "first", image(chunks));
        back_up(&other, "second", image(6));
        let of_kind = |kind| {
            let packs = packs(&store).into_iter();
            let packs = packs.filter(|pack| pack.blob_kind() == Some(kind));
            packs.map(|pack| pack.hash().unwrap()).collect()
        };
        let (chunks, nodes) = (of_kind(BlobKind::Chunk), of_kind(BlobKind::Node));
        add_objects(&store, &other);
        store.age(GRACE + HOUR);
        let twice = Self {
            store,
            contents,
            chunks,
            nodes,
        };
        twice.touch(&twice.chunks);
        twice.touch(&twice.nodes);
        twice
    }

    /// Stores these packs again, so that their times are later than those of all other packs.
    fn touch(&self, packs: &[ObjectHash]) {
        for pack in packs {
            let name = pack_object(&self.store, *pack).name();
            let bytes = self.store.get(&name, 1 << 30).unwrap();
            self.store.put(&name, &[&bytes]).unwrap();
        }
    }

    fn has(&self, pack: ObjectHash) -> bool {
        let mut packs = packs(&self.store).into_iter();
        packs.any(|object| object.hash() == Some(pack))
    }

    /// Prunes on a host that knows of no damage, and restores all backups.
    #[track_caller]
    fn prunes(&self, grace: Duration, when: &str) {
        let test_repo = open(&self.store);
        let host = Host::without_cache();
        prune(&test_repo, &host, grace).unwrap();
        for backup in test_repo.backups() {
            let restored = host.restore_image(&test_repo, &backup);
            assert!(restored.unwrap() == self.contents[&backup.id], "{when}");
        }
    }
}

#[test]
fn a_chunk_is_kept_in_another_pack_if_the_newest_pack_that_has_it_is_damaged() {
    let twice = Twice::new(6);
    damage(&twice.store, twice.chunks[0]);
    twice.prunes(Duration::ZERO, "pruned");
    assert!(!twice.has(twice.chunks[0]), "the damaged pack is deleted");
    Host::without_cache().check_clean(&open(&twice.store), "pruned");
}

#[test]
fn a_node_is_kept_in_two_undamaged_packs_if_more_than_two_packs_have_it() {
    for count in [1, 2] {
        let twice = Twice::new(6);
        for pack in &twice.nodes[..count] {
            damage(&twice.store, *pack);
        }
        twice.prunes(Duration::ZERO, "pruned");
        assert!(twice.nodes[..count].iter().all(|pack| !twice.has(*pack)));
        Host::without_cache().check_clean(&open(&twice.store), "pruned");
        let left = packs(&twice.store).len();
        assert_eq!(left, 3, "one pack has chunks, two have nodes");
    }
}

/// The pack of the second host is used only in part, since all but one of its chunks have a newer
/// copy.
#[test]
fn repacking_copies_a_chunk_if_the_other_pack_that_has_it_is_damaged() {
    let twice = Twice::new(5);
    for pack in &twice.chunks {
        damage(&twice.store, *pack);
    }
    twice.prunes(Duration::ZERO, "pruned");
    assert!(twice.chunks.iter().all(|pack| !twice.has(*pack)));
    Host::without_cache().check_clean(&open(&twice.store), "pruned");
}

#[test]
fn a_marked_pack_is_used_again_if_the_other_pack_that_has_its_data_was_damaged_meanwhile() {
    let twice = Twice::new(6);
    twice.store.age(GRACE + HOUR);
    let before = packs(&twice.store).len();
    // The packs of the second host are marked.
    twice.prunes(GRACE, "marked");
    assert_eq!(packs(&twice.store).len(), before);
    damage(&twice.store, twice.chunks[0]);
    twice.store.age(GRACE + HOUR);
    twice.prunes(GRACE, "used again");
    for _ in 0..2 {
        twice.store.age(GRACE + HOUR);
        twice.prunes(GRACE, "used again");
    }
    assert!(!twice.has(twice.chunks[0]));
    Host::without_cache().check_clean(&open(&twice.store), "pruned");
}

#[test]
fn a_prune_reads_no_chunks_if_nothing_is_stored_more_often_than_needed() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let gone = host.back_up(&test_repo, "gone", &image(6)).unwrap().id;
    let other = Image::new(LEAF).with(0, &noise(100, CHUNK));
    host.back_up(&test_repo, "other", &other).unwrap();
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    let faulty = FaultBackend::holding(&store);
    let test_repo = open(&faulty);
    let host = Host::with_cache();
    host.check_clean(&test_repo, "before");
    let _ = faulty.take_log();
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0);
    for call in faulty.take_log() {
        let is_read = call.operation == StorageOperation::Get;
        assert!(!is_read || !call.name.contains("/packs/"), "{call:?}");
    }
}

/// A pack is missing. The index still names it, since a backup needs a chunk that only this pack
/// had.
#[test]
fn repacking_copies_a_chunk_if_the_other_pack_that_has_it_is_missing() {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let other = store.copy();
    let with = |number: u64| image(3).with(5 * CHUNK as u64, &noise(number, CHUNK));
    let first = Host::without_cache().back_up(&open(&store), "first", &with(101));
    let first = first.unwrap().id;
    Host::without_cache()
        .back_up(&open(&other), "second", &with(102))
        .unwrap();
    let only = |store: &MemoryBackend| {
        let packs = packs(store).into_iter();
        let mut packs = packs.filter(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
        (packs.next().unwrap().hash().unwrap(), packs.count())
    };
    let ((repacked, 0), (missing, 0)) = (only(&store), only(&other)) else {
        panic!("each host has one pack of chunks");
    };
    add_objects(&store, &other);
    store.delete(&pack_object(&store, missing).name()).unwrap();
    store.age(HOUR);
    let test_repo = open(&store);
    forget(&test_repo, &[first]);
    let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0);
    assert!(
        packs(&store)
            .iter()
            .all(|pack| pack.hash() != Some(repacked))
    );
    let (stored, used) = (stored(&test_repo, &store), used(&test_repo));
    let lost = used.keys().filter(|id| !stored.contains_key(id)).count();
    assert_eq!(lost, 1, "only one chunk was lost with the missing pack");
}
