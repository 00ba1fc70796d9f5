//! Small packs are merged, so that many small backups do not become many objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{Notice, ObjectHash, Observer, Silent};
use cuttlebone::format::{BlobKind, LogKind};
use cuttlebone::ops::{self, MaxUnused, PrunePlan, PruneReport};
use cuttlebone::repo::{Index, Lease, Log, ReadSession, Work};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, StorageOperation};

use super::{
    ELSEWHERE, EXPIRED, GRACE, HOUR, assert_tidy, damage, forget, limits, names, open, pack_names,
    pack_object, packs, stored,
};
use crate::repo::provenance::{chunks, poison, writer};
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, is_damage, noise};

/// Prunes and merges small packs.
fn merge(test_repo: &TestRepo, host: &Host, grace: Duration) -> PruneReport {
    let options = super::merging(limits(grace, MaxUnused::Bytes(0)));
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context);
    planned.unwrap().run().unwrap()
}

/// Plans a prune that merges small packs. Returns what `read` returns for the plan.
fn plan<T>(test_repo: &TestRepo, grace: Duration, read: impl FnOnce(&PrunePlan) -> T) -> T {
    let options = super::merging(limits(grace, MaxUnused::Bytes(0)));
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, true, &context).unwrap();
    let found = read(planned.plan());
    planned.close();
    found
}

fn page(number: u64) -> Image {
    Image::new(LEAF).with(0, &noise(number, 4096))
}

/// Makes a store with this many volumes. Each has one backup, of one page.
fn small_backups(count: u64) -> (MemoryBackend, Vec<ObjectHash>) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let back_up = |number| {
        let volume = format!("volume {number}");
        let made = host.back_up(&test_repo, &volume, &page(number));
        made.unwrap().id
    };
    let ids = (0..count).map(back_up).collect();
    store.age(HOUR);
    (store, ids)
}

fn assert_restores(test_repo: &TestRepo, when: &str) {
    let host = Host::with_cache();
    host.check_clean(test_repo, when);
    for backup in test_repo.backups() {
        let number = &backup.record.volume.name["volume ".len()..];
        let restored = host.restore_image(test_repo, &backup).unwrap();
        assert!(restored == page(number.parse().unwrap()), "{when}");
    }
}

/// Returns the names of all objects in the store.
fn all_names(store: &MemoryBackend) -> BTreeSet<String> {
    let objects = store.list("").unwrap();
    objects
        .iter()
        .map(|object| object.name.to_string())
        .collect()
}

fn count(store: &MemoryBackend, kind: BlobKind) -> usize {
    let packs = packs(store).into_iter();
    packs.filter(|pack| pack.blob_kind() == Some(kind)).count()
}

#[test]
fn many_small_backups_become_a_few_packs_and_then_nothing_is_left_to_merge() {
    // A prune distinguishes only 127 classes of volumes, so here some volumes share a class.
    let (store, ids) = small_backups(200);
    let test_repo = open(&store);
    assert_eq!(count(&store, BlobKind::Chunk), 200);
    assert_eq!(count(&store, BlobKind::Node), 400);
    let before = stored(&test_repo, &store);
    let report = merge(&test_repo, &Host::with_cache(), Duration::ZERO);
    assert_eq!((report.merged.packs, report.deleted.packs), (600, 600));
    assert_eq!((report.repacked.packs, report.marked.packs), (0, 0));
    assert_eq!(count(&store, BlobKind::Chunk), 1);
    assert_eq!(
        count(&store, BlobKind::Node),
        2,
        "each node is in two packs"
    );
    assert!(names(&store, "index").len() <= 2);
    assert_tidy(&test_repo, &store, "merged");
    assert_eq!(stored(&test_repo, &store), before);
    assert_restores(&test_repo, "merged");
    assert_eq!(test_repo.backups().len(), ids.len());

    let all = all_names(&store);
    let again = merge(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert_eq!((again.merged.packs, again.bytes_written), (0, 0));
    assert_eq!((again.deleted.packs, again.marked.packs), (0, 0));
    assert_eq!(all_names(&store), all, "nothing was left to do");
    let host = Host::without_cache();
    let made = host.back_up(&test_repo, "volume 1", &page(1)).unwrap();
    assert_eq!(made.chunks_new, 0);
}

#[test]
fn merged_packs_are_marked_and_deleted_after_the_grace_period_and_young_ones_stay() {
    let (store, _) = small_backups(20);
    let test_repo = open(&store);
    let host = Host::with_cache();
    let before = pack_names(&store);
    let report = merge(&test_repo, &host, GRACE);
    assert_eq!((report.merged.packs, report.marked.packs), (0, 0));
    assert_eq!(pack_names(&store), before, "the packs are too young");
    store.age(GRACE);
    let report = merge(&test_repo, &host, GRACE);
    assert_eq!((report.merged.packs, report.marked.packs), (60, 60));
    assert_eq!(report.deleted.packs, 0);
    assert_restores(&test_repo, "marked");
    store.age(GRACE);
    let report = merge(&test_repo, &host, GRACE);
    assert_eq!((report.merged.packs, report.deleted.packs), (0, 60));
    assert_eq!(packs(&store).len(), 3);
    assert_tidy(&test_repo, &store, "deleted");
    assert_restores(&test_repo, "deleted");
}

#[test]
fn the_log_names_all_packs_and_segments_that_a_merge_of_small_packs_deletes() {
    let (store, _) = small_backups(10);
    let (packs_before, segments) = (packs(&store), names(&store, "index"));
    merge(&open(&store), &Host::without_cache(), Duration::ZERO);
    let log = Log::load(&open(&store).project).unwrap();
    for pack in packs_before {
        let kind = match pack.blob_kind() {
            Some(BlobKind::Chunk) => LogKind::ChunkPack,
            _ => LogKind::TreePack,
        };
        assert!(log.removed(kind, pack.hash().unwrap()), "{pack:?}");
    }
    for segment in segments {
        assert!(log.removed(LogKind::Segment, segment.parse().unwrap()));
    }
}

#[test]
fn a_dry_run_states_what_would_be_merged_and_a_prune_without_merging_leaves_it() {
    let (store, _) = small_backups(10);
    let faulty = FaultBackend::holding(&store);
    let test_repo = open(&faulty);
    let _ = faulty.take_log();
    let (merges, used, kept) = plan(&test_repo, Duration::ZERO, |plan| {
        (plan.merge, plan.merge_used, plan.keep.packs)
    });
    let writes = [StorageOperation::Put, StorageOperation::Delete];
    let calls = faulty.take_log();
    assert!(!calls.iter().any(|call| writes.contains(&call.operation)));
    assert_eq!((merges.packs, merges.bytes, kept), (30, used, 0));

    let before = pack_names(&store);
    super::prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert_eq!(pack_names(&store), before);
    let report = merge(&open(&store), &Host::without_cache(), Duration::ZERO);
    assert_eq!(report.merged, merges);
    assert!(report.bytes_read > used / 2 && report.bytes_read <= used);
    // The written bytes also include the contents of packs, and the segments.
    assert!(report.bytes_written < 2 * used, "{report:?}");
}

#[test]
fn a_prune_merges_no_more_than_max_repack_allows() {
    let (store, _) = small_backups(40);
    let test_repo = open(&store);
    let used = plan(&test_repo, Duration::ZERO, |plan| plan.merge_used);
    let mut options = super::merging(limits(Duration::ZERO, MaxUnused::Bytes(0)));
    for limit in [0, used / 2] {
        options.max_repack = Some(limit);
        let host = Host::without_cache();
        let context = host.context();
        let planned = ops::plan_prune(&test_repo.project, &options, false, &context).unwrap();
        assert!(planned.plan().merge_used <= limit);
        assert_eq!(planned.plan().merge.packs > 0, limit > 0);
        planned.run().unwrap();
        assert_restores(&test_repo, "in part");
    }
}

#[test]
fn packs_that_a_reader_or_a_running_backup_needs_are_not_merged() {
    let (store, _) = small_backups(10);
    let test_repo = open(&store);
    let backup = &test_repo.backups()[3];
    let tops = Vec::from_iter(backup.top);
    let observer: Arc<dyn Observer> = Arc::new(Silent);
    let session = ReadSession::open(&test_repo.project, &tops, ELSEWHERE, None, &observer);
    let session = session.unwrap();
    let report = merge(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert_eq!(
        report.merged.packs, 27,
        "the reader needs the blobs of three packs"
    );
    drop(session);
    assert_restores(&test_repo, "read meanwhile");

    // A backup that began before the packs were stored may rely on them.
    let (store, _) = small_backups(10);
    let test_repo = open(&store);
    let lease = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    let host = Host::with_cache();
    for number in 10..30 {
        let volume = format!("volume {number}");
        host.back_up(&test_repo, &volume, &page(number)).unwrap();
    }
    let report = merge(&test_repo, &host, Duration::ZERO);
    assert_eq!(
        report.merged.packs, 30,
        "only the packs of the first ten backups are merged"
    );
    drop(lease);
    store.age(EXPIRED);
    merge(&test_repo, &host, Duration::ZERO);
    assert_eq!(plan(&test_repo, Duration::ZERO, |plan| plan.merge.packs), 0);
    assert_restores(&test_repo, "backed up meanwhile");
}

#[test]
fn a_damaged_small_pack_stays_and_stops_no_prune() {
    let (store, _) = small_backups(10);
    let test_repo = open(&store);
    let chunk_packs = packs(&store).into_iter();
    let mut chunk_packs = chunk_packs.filter(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
    let pack = chunk_packs.next().unwrap();
    let whole = store.get(&pack.name(), 1 << 30).unwrap();
    damage(&store, pack.hash().unwrap());
    for _ in 0..2 {
        let host = Host::without_cache();
        let report = merge(&test_repo, &host, Duration::ZERO);
        assert!(report.merged.packs <= 29 && report.deleted.packs <= 29);
        let notices = host.notices.take();
        let stays = |notice: &Notice| matches!(notice, Notice::PackStays { .. });
        assert_eq!(notices.iter().any(stays), report.merged.packs > 0);
    }
    assert_eq!(pack_object(&store, pack.hash().unwrap()), pack);
    let (report, _) = Host::without_cache().check(&test_repo, true);
    assert_eq!(
        report.backups_affected.len(),
        1,
        "only one backup is damaged"
    );
    store.put(&pack.name(), &[&whole]).unwrap();
    assert_restores(&test_repo, "healed");
}

/// A host without a cache does not remember the damage.
#[test]
fn many_damaged_packs_do_not_let_each_prune_merge_the_undamaged_ones_again() {
    let (store, _) = small_backups(9);
    let test_repo = open(&store);
    let chunk_packs = packs(&store).into_iter();
    let mut chunk_packs = chunk_packs.filter(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
    let intact = chunk_packs.next().unwrap();
    let bad: Vec<_> = chunk_packs.collect();
    for pack in &bad {
        damage(&store, pack.hash().unwrap());
    }
    merge(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert_eq!(pack_object(&store, intact.hash().unwrap()), intact);
    assert_eq!(count(&store, BlobKind::Node), 2, "nodes are merged");
    store.age(HOUR);
    let all = all_names(&store);
    for _ in 0..2 {
        let host = Host::without_cache();
        let report = merge(&test_repo, &host, Duration::ZERO);
        assert_eq!((report.merged.packs, report.bytes_written), (0, 0));
        assert!(report.damaged >= 2, "{report:?}");
        let stays = |notice: &&Notice| matches!(notice, Notice::PackStays { .. });
        assert_eq!(
            host.notices.take().iter().filter(stays).count() as u64,
            report.damaged
        );
        assert_eq!(all_names(&store), all);
    }
    // A second flip of the same bit undoes the damage.
    for pack in &bad {
        damage(&store, pack.hash().unwrap());
    }
    assert_restores(&test_repo, "healed");
}

#[test]
fn undamaged_packs_are_merged_without_the_damaged_ones_if_there_are_enough() {
    let (store, _) = small_backups(12);
    let test_repo = open(&store);
    let chunk_packs = packs(&store).into_iter();
    let mut chunk_packs = chunk_packs.filter(|pack| pack.blob_kind() == Some(BlobKind::Chunk));
    let bad = chunk_packs.next().unwrap();
    damage(&store, bad.hash().unwrap());
    let host = Host::without_cache();
    let report = merge(&test_repo, &host, Duration::ZERO);
    assert_eq!((report.merged.packs, report.damaged), (11 + 24, 1));
    assert_eq!(count(&store, BlobKind::Chunk), 2);
}

#[test]
fn a_damaged_node_is_copied_from_its_other_pack() {
    let (store, _) = small_backups(10);
    let test_repo = open(&store);
    let trees = packs(&store).into_iter();
    let mut trees = trees.filter(|pack| pack.blob_kind() == Some(BlobKind::Node));
    damage(&store, trees.next().unwrap().hash().unwrap());
    merge(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert_tidy(&test_repo, &store, "merged");
    assert_restores(&test_repo, "merged");
}

#[test]
fn wrong_data_in_packs_of_a_write_key_is_not_merged_into_trusted_packs() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let [honest, thief] = [1, 2].map(|number| writer(&store, number));
    let host = Host::without_cache();
    let image = |seed: u64| {
        let chunk = |n: u64| noise(seed + n, CHUNK);
        (0..6).fold(Image::new(LEAF), |image, n| {
            image.with(n * CHUNK as u64, &chunk(n))
        })
    };
    let (shared, own) = (image(10), image(20));
    // The thief learns the ids of the second image's chunks from a backup that is deleted.
    let gone = host.back_up(&honest, "gone", &own).unwrap().id;
    let own_ids = chunks(&full, gone);
    forget(&full, &[gone]);
    store.age(HOUR);
    super::prune(&full, &host, Duration::ZERO).unwrap();
    let first = host.back_up(&honest, "shared", &shared).unwrap().id;
    let shared_ids = chunks(&full, first);
    for id in shared_ids.iter().chain(&own_ids) {
        poison(&thief, &[*id]);
    }
    for (volume, image) in [("copy", &shared), ("false", &own)] {
        let made = host.back_up(&thief, volume, image).unwrap();
        assert_eq!(made.chunks_new, 0, "the backup relies on wrong chunks");
    }
    // With these backups, there are enough packs to merge even without those that have wrong data.
    for (volume, seed) in [("more", 30), ("still more", 40)] {
        host.back_up(&honest, volume, &image(seed)).unwrap();
    }
    store.age(HOUR);
    let report = merge(&full, &host, Duration::ZERO);
    assert!(
        report.merged.packs >= 9,
        "six of the packs with wrong data stay: {report:?}"
    );
    let index = Index::in_memory(&full.project, Arc::new(Silent)).unwrap();
    for (id, _) in &shared_ids {
        assert!(
            index.find_trusted(id).unwrap().is_some(),
            "the right chunk is merged"
        );
    }
    for (id, _) in &own_ids {
        assert!(
            index.find_trusted(id).unwrap().is_none(),
            "a wrong chunk is not merged"
        );
        assert!(!index.find_anywhere(id).unwrap().is_empty());
    }
    for backup in full.backups() {
        let restored = host.restore_image(&full, &backup);
        match &*backup.record.volume.name {
            "false" => assert!(restored.is_err_and(|error| is_damage(&error))),
            "more" => assert!(restored.unwrap() == image(30)),
            "still more" => assert!(restored.unwrap() == image(40)),
            _ => assert!(restored.unwrap() == shared),
        }
    }
    // The owner stores the right data again.
    let made = host.back_up(&full, "mine", &own).unwrap();
    assert_eq!(made.chunks_new, 6);
}

#[test]
fn volumes_share_only_packs_that_would_be_small() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    for (volume, mib) in [("a", 9), ("b", 1), ("c", 9), ("d", 1), ("e", 1)] {
        let seed = u64::from(volume.as_bytes()[0]);
        host.back_up_stream(&test_repo, volume, &noise(seed, mib << 20))
            .unwrap();
    }
    store.age(HOUR);
    merge(&test_repo, &host, Duration::ZERO);
    let index = Index::in_memory(&test_repo.project, Arc::new(Silent)).unwrap();
    let mut volumes: BTreeMap<ObjectHash, BTreeSet<String>> = BTreeMap::new();
    for backup in test_repo.backups() {
        for (id, _) in chunks(&test_repo, backup.id) {
            let pack = index.find_trusted(&id).unwrap().unwrap().pack();
            let volume = backup.record.volume.name.clone();
            volumes.entry(pack).or_default().insert(volume);
        }
    }
    let mut shared: Vec<_> = volumes
        .values()
        .map(|names| names.iter().cloned().collect::<String>())
        .collect();
    shared.sort_unstable();
    assert_eq!(shared, ["a", "bc", "de"]);
}
