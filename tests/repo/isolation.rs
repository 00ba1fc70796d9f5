//! Data that projects must not share, and data that backups of one project must share.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use cuttlebone::base::BlobId;
use cuttlebone::repo::Index;
use cuttlebone::storage::{Backend, MemoryBackend};

use super::prune::is_pack;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

fn ids(test_repo: &TestRepo) -> HashSet<BlobId> {
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let mut ids = HashSet::new();
    index
        .each_pack(|pack| {
            ids.extend(pack.contents.blobs().map(|blob| blob.id));
            Ok(())
        })
        .unwrap();
    ids
}

/// Returns the last part of the name of each object, and its bytes without the header. Of a key
/// slot, the fields from the scope to the cost parameters are also left out. Objects of one kind
/// may have the same bytes in the parts that are left out.
fn stored(store: &MemoryBackend) -> Vec<(String, Vec<u8>)> {
    let objects = store.list("").unwrap();
    let read = |name| store.get(name, u64::MAX).unwrap();
    objects
        .iter()
        .map(|object| {
            let path = object.name.as_str();
            let clear = if path.contains("keys/") { 32 } else { 16 };
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, read(&object.name)[clear..].to_vec())
        })
        .collect()
}

/// Returns every sequence of 16 bytes, at any offset.
fn blocks(objects: &[(String, Vec<u8>)]) -> HashSet<&[u8]> {
    objects
        .iter()
        .flat_map(|(_, bytes)| bytes.windows(16))
        .collect()
}

#[test]
fn two_projects_with_the_same_content_share_nothing() {
    let image = Image::new(2 * LEAF)
        .with(0, &noise(1, 3 * CHUNK))
        .with(LEAF, &vec![b'x'; 3 * CHUNK]);
    let stream = noise(2, 5 * CHUNK);
    let host = Host::without_cache();
    let make = || {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        host.back_up(&test_repo, "disk", &image).unwrap();
        host.back_up_stream(&test_repo, "dump", &stream).unwrap();
        (store, test_repo)
    };
    let ((store_a, repo_a), (store_b, repo_b)) = (make(), make());
    assert!(ids(&repo_a).len() > 5 && ids(&repo_a).is_disjoint(&ids(&repo_b)));

    let (objects_a, objects_b) = (stored(&store_a), stored(&store_b));
    let fixed = ["cuttlebone", "cuttlebone.copy", "project", "project.copy"];
    let names: HashSet<_> = objects_a.iter().map(|(name, _)| name.as_str()).collect();
    for (name, _) in &objects_b {
        assert!(
            fixed.contains(&name.as_str()) || !names.contains(name.as_str()),
            "{name}"
        );
    }
    let roots = |test_repo: &TestRepo| {
        test_repo
            .backups()
            .iter()
            .map(|b| b.root)
            .collect::<HashSet<_>>()
    };
    assert!(roots(&repo_a).is_disjoint(&roots(&repo_b)));

    let blocks_a = blocks(&objects_a);
    assert!(blocks_a.len() > 7 * CHUNK);
    for (name, bytes) in &objects_b {
        let shared = bytes.windows(16).position(|block| blocks_a.contains(block));
        assert_eq!(shared, None, "{name}");
    }
}

#[test]
fn a_second_backup_of_the_same_content_has_the_same_root_and_stores_no_chunk() {
    let host = Host::with_cache();
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let image = Image::new(3 * LEAF + 7).with(LEAF - 100, &noise(1, 3 * CHUNK));
    let stream = noise(2, 20 * CHUNK);
    let first = host.back_up(&test_repo, "disk", &image).unwrap();
    let first_stream = host.back_up_stream(&test_repo, "dump", &stream).unwrap();
    assert!(first.chunks_new > 0 && first_stream.chunks_new > 0);
    let packs = || {
        store
            .list("projects")
            .unwrap()
            .iter()
            .filter(|o| is_pack(&o.name))
            .count()
    };
    let before = packs();
    for volume in ["disk", "other"] {
        let again = host.back_up(&test_repo, volume, &image).unwrap();
        assert_eq!((again.chunks_new, again.bytes_stored), (0, 0), "{volume}");
        assert_eq!(
            test_repo.backup(again.id).root,
            test_repo.backup(first.id).root
        );
    }
    for volume in ["dump", "other dump"] {
        let again = host.back_up_stream(&test_repo, volume, &stream).unwrap();
        assert_eq!((again.chunks_new, again.bytes_stored), (0, 0), "{volume}");
        assert_eq!(
            test_repo.backup(again.id).root,
            test_repo.backup(first_stream.id).root
        );
    }
    assert_eq!(packs(), before);
}

#[test]
fn backups_at_the_same_time_do_not_disturb_each_other() {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let common = noise(1, 4 * CHUNK);
    let image = |thread: u64, day: u64| {
        Image::new(4 * LEAF)
            .with(0, &common)
            .with(LEAF, &noise(10 * day + thread, 2 * CHUNK))
            .with(3 * LEAF, &noise(100 + day, CHUNK))
    };
    // Two threads use one cache at the same time. The others use a host without a cache.
    let (shared, bare) = (Host::with_cache(), Host::without_cache());
    thread::scope(|scope| {
        for number in 0..4 {
            let (store, host, image) = (
                store.clone(),
                if number < 2 { &shared } else { &bare },
                &image,
            );
            scope.spawn(move || {
                let test_repo = TestRepo::open(store, &host.notices).unwrap();
                let volume = format!("disk {number}");
                for day in 1..=3 {
                    host.back_up(&test_repo, &volume, &image(number, day))
                        .unwrap();
                    let stream = noise(50 + day, 5 * CHUNK);
                    host.back_up_stream(&test_repo, &format!("dump {number}"), &stream)
                        .unwrap();
                }
            });
        }
    });
    let host = Host::without_cache();
    let test_repo = TestRepo::open(store, &host.notices).unwrap();
    host.check_clean(&test_repo, "after all");
    let backups = test_repo.backups();
    assert_eq!(backups.len(), 4 * 3 * 2);
    for number in 0..4 {
        let of = |volume: String| {
            backups
                .iter()
                .filter(move |b| b.record.volume.name == volume)
        };
        for (day, backup) in (1..).zip(of(format!("disk {number}"))) {
            assert!(host.restore_image(&test_repo, backup).unwrap() == image(number, day));
        }
        for (day, backup) in (1..).zip(of(format!("dump {number}"))) {
            assert!(host.restore(&test_repo, backup).unwrap() == noise(50 + day, 5 * CHUNK));
        }
    }
}
