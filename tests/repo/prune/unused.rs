//! The data that a prune deletes, repacks and keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{Notice, ObjectHash};
use cuttlebone::ops::{self, MaxUnused, PruneOptions};
use cuttlebone::repo::{BlobReader, ImageReader, Index, RepoError};
use cuttlebone::storage::{FaultBackend, MemoryBackend, StorageOperation};

use super::{
    GRACE, HOUR, Series, assert_tidy, forget, limits, names, open, pack_names, prune, stored, used,
};
use crate::repo::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

#[test]
fn prune_deletes_exactly_the_data_that_no_backup_uses() {
    let series = Series::new();
    for kept in 1..32_u32 {
        let when = format!("{kept:#b}");
        let (store, ids) = series.backed_up();
        let test_repo = open(&store);
        let (keep, gone): (Vec<_>, Vec<_>) = (0..5).partition(|day| kept & 1 << day != 0);
        forget(
            &test_repo,
            &gone.iter().map(|day: &usize| ids[*day]).collect::<Vec<_>>(),
        );
        let before = stored(&test_repo, &store);
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert!(
            gone.is_empty() || report.deleted.packs > 0 || before == used(&test_repo),
            "{when}"
        );
        assert_tidy(&test_repo, &store, &when);
        series.assert_restores(&test_repo, &when);
        assert_eq!(test_repo.backups().len(), keep.len());
        // A second prune has nothing to do.
        let segments = names(&store, "index");
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert_eq!(
            (
                report.deleted.packs,
                report.marked.packs,
                report.bytes_written
            ),
            (0, 0, 0),
            "{when}: {report:?}"
        );
        assert_eq!(names(&store, "index"), segments, "{when}");
    }
}

#[test]
fn prune_keeps_the_data_of_a_stream() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = [noise(1, 3 << 20), vec![0; 1 << 20], noise(2, 1 << 20)].concat();
    let second = [noise(1, 2 << 20), noise(3, 1 << 20)].concat();
    let gone = host.back_up_stream(&test_repo, "dump", &first).unwrap().id;
    let stays = host.back_up_stream(&test_repo, "dump", &second).unwrap().id;
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "streams");
    assert!(host.restore(&test_repo, &test_repo.backup(stays)).unwrap() == second);
    host.check_clean(&test_repo, "streams");
}

#[test]
fn prune_marks_unused_packs_and_deletes_them_after_the_grace_period() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let host = Host::with_cache();
    forget(&test_repo, &ids[..3]);
    let all = stored(&test_repo, &store);
    // The packs are younger than the grace period.
    let report = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!((report.deleted.packs, report.marked.packs), (0, 0));
    assert_eq!(stored(&test_repo, &store), all);
    store.age(GRACE);
    let report = prune(&test_repo, &host, GRACE).unwrap();
    assert!(report.deleted.packs == 0 && report.marked.packs > 0);
    let packs = pack_names(&store);
    assert!(
        all.keys()
            .all(|id| stored(&test_repo, &store).contains_key(id))
    );
    series.assert_restores(&test_repo, "marked");
    host.check_clean(&test_repo, "marked");
    // The grace period has not passed yet.
    store.age(Duration::from_hours(23));
    let again = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!((again.deleted.packs, again.marked.packs), (0, 0));
    assert_eq!(pack_names(&store), packs);
    store.age(HOUR);
    let last = prune(&test_repo, &host, GRACE).unwrap();
    assert_eq!(last.deleted, report.marked);
    assert_tidy(&test_repo, &store, "deleted");
    series.assert_restores(&test_repo, "deleted");
    host.back_up(&test_repo, "disk", &series.days[4]).unwrap();
    let rebuilt = host
        .notices
        .take()
        .into_iter()
        .any(|n| matches!(n, Notice::IndexRebuilt(_)));
    assert!(
        !rebuilt,
        "the cached index no longer has the deleted packs and need not be rebuilt"
    );
}

#[test]
fn a_dry_run_writes_nothing_and_plans_the_same_steps_as_a_prune() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    forget(&open(&store), &ids[..4]);
    let faulty = FaultBackend::holding(&store);
    let test_repo = open(&faulty);
    let host = Host::without_cache();
    let _ = faulty.take_log();
    let options = limits(Duration::ZERO, MaxUnused::Bytes(0));
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, true, &context).unwrap();
    let (mark, repack, used) = {
        let plan = planned.plan();
        (plan.mark, plan.repack, plan.repack_used)
    };
    planned.close();
    let writes = [StorageOperation::Put, StorageOperation::Delete];
    assert!(
        faulty
            .take_log()
            .iter()
            .all(|call| !writes.contains(&call.operation))
    );
    assert!(mark.packs > 0 && repack.packs > 0 && used > 0 && used < repack.bytes);
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_eq!(report.deleted.packs, mark.packs + repack.packs);
    assert_eq!(report.deleted.bytes, mark.bytes + repack.bytes);
    assert!(report.bytes_read >= used && report.bytes_read <= repack.bytes);
}

#[test]
fn packs_are_not_repacked_while_unused_space_is_within_the_limit() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[1..]);
    let options = limits(Duration::ZERO, MaxUnused::Unlimited);
    let context = host.context();
    let report = ops::plan_prune(&test_repo.project, &options, false, &context)
        .unwrap()
        .run()
        .unwrap();
    assert!(
        report.repacked.packs == 0 && report.deleted.packs > 0,
        "{report:?}"
    );
    series.assert_restores(&test_repo, "only unused packs deleted");
    let options = PruneOptions {
        max_repack: Some(0),
        ..limits(Duration::ZERO, MaxUnused::Bytes(0))
    };
    let report = ops::plan_prune(&test_repo.project, &options, false, &context)
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(report.repacked.packs, 0, "{report:?}");
}

#[test]
fn repacked_chunks_of_different_volumes_do_not_share_packs() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let mut gone = Vec::new();
    for day in 0..3_u64 {
        for volume in ["a1", "b2", "c3"] {
            let seed = day + 100 * u64::from(volume.as_bytes()[0]);
            let image = Image::new(LEAF)
                .with(0, &noise(seed, CHUNK))
                .with(LEAF / 2, &noise(seed + 50, CHUNK));
            let kept = Image::new(LEAF).with(0, &noise(seed, CHUNK));
            gone.push(host.back_up(&test_repo, volume, &image).unwrap().id);
            host.back_up(&test_repo, &format!("{volume} stays"), &kept)
                .unwrap();
        }
    }
    forget(&test_repo, &gone);
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let blobs = BlobReader::new(&index);
    let mut volumes: BTreeMap<ObjectHash, BTreeSet<String>> = BTreeMap::new();
    for backup in test_repo.backups() {
        ImageReader::new(&blobs, &backup)
            .each_chunk(|chunk| {
                let pack = index.find_trusted(&chunk.id)?.unwrap().pack();
                let volume = backup.record.volume.name.clone();
                volumes.entry(pack).or_default().insert(volume);
                Ok::<(), RepoError>(())
            })
            .unwrap();
    }
    assert!(
        volumes.values().all(|names| names.len() == 1),
        "{volumes:?}"
    );
}

#[test]
fn prune_merges_many_small_index_segments() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let mut image = Image::new(LEAF);
    for day in 0..12_u32 {
        image.write(u64::from(day) * CHUNK as u64, &noise(day.into(), CHUNK));
        host.back_up(&test_repo, "disk", &image).unwrap();
    }
    store.age(HOUR);
    assert!(names(&store, "index").len() >= 12);
    let before = stored(&test_repo, &store);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(
        names(&store, "index").len() <= 2,
        "{:?}",
        names(&store, "index")
    );
    assert!(before.keys().eq(stored(&test_repo, &store).keys()));
    host.check_clean(&test_repo, "merged");
    let made = host.back_up(&test_repo, "disk", &image).unwrap();
    assert_eq!(made.chunks_new, 0);
}
