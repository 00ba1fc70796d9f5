//! Prunes that run at the same time as backups: a backup is complete, or it fails.

use std::io::{self, Cursor, Read};
use std::thread;
use std::time::Duration;

use cuttlebone::ops::OpsError;
use cuttlebone::repo::{Lease, Work};
use cuttlebone::storage::{Backend, MemoryBackend, StorageOperation};

use super::{
    CLOCK_ERROR, ELSEWHERE, GRACE, HOUR, Hooked, Series, assert_tidy, forget, is_pack,
    leave_unnamed_packs, names, open, pack_names, prune,
};
use crate::repo::{
    CHUNK, Host, Image, Input, LEAF, RecordingObserver, TestRepo, is_damage, noise, options,
    stream_of,
};

/// A stream that runs a hook before its first read.
struct HookedBytes<F> {
    hook: Option<F>,
    bytes: Cursor<Vec<u8>>,
}

impl<F: FnOnce()> Read for HookedBytes<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(hook) = self.hook.take() {
            hook();
        }
        self.bytes.read(into)
    }
}

/// Makes a source with these bytes. Before its first read, the source runs `hook`.
pub(in crate::repo) fn hooked_source(bytes: &[u8], hook: impl FnOnce() + Send + 'static) -> Input {
    stream_of(HookedBytes {
        hook: Some(hook),
        bytes: Cursor::new(bytes.to_vec()),
    })
}

/// A backup has loaded the index. Then the only other backup with the same chunks is forgotten, and
/// a prune marks the packs of these chunks. The index of the running backup still has the chunks.
#[test]
fn a_backup_stores_chunks_again_that_a_concurrent_prune_marks() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let content = noise(1, 2 << 20);
    let host = Host::without_cache();
    let old = host.back_up_stream(&test_repo, "old", &content).unwrap().id;
    store.age(2 * GRACE);
    let meanwhile = store.clone();
    let source = hooked_source(&content, move || {
        let test_repo = open(&meanwhile);
        forget(&test_repo, &[old]);
        let report = prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
        assert!(report.marked.packs > 0 && report.deleted.packs == 0);
    });
    let new = host.run(&test_repo, source, &options("new")).unwrap().id;
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
    for _ in 0..3 {
        store.age(GRACE + HOUR);
        prune(&test_repo, &host, GRACE).unwrap();
    }
    assert_tidy(&test_repo, &store, "later");
    host.check_clean(&test_repo, "later");
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
}

/// The concurrent prune has no grace period, so it deletes the chunks at once.
#[test]
fn a_backup_fails_if_a_concurrent_prune_deletes_chunks_that_it_needs() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let content = noise(1, 2 << 20);
    let host = Host::without_cache();
    let old = host.back_up_stream(&test_repo, "old", &content).unwrap().id;
    store.age(HOUR);
    let meanwhile = store.clone();
    let source = hooked_source(&content, move || {
        let test_repo = open(&meanwhile);
        forget(&test_repo, &[old]);
        let report = prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
        assert!(report.deleted.packs > 0);
    });
    let failed = host.run(&test_repo, source, &options("new"));
    assert!(
        matches!(&failed, Err(OpsError::LostToPrune { .. })),
        "{failed:?}"
    );
    assert_eq!(test_repo.backups().len(), 0);
    let new = host.back_up_stream(&test_repo, "new", &content).unwrap().id;
    host.check_clean(&test_repo, "again");
    assert!(host.restore(&test_repo, &test_repo.backup(new)).unwrap() == content);
}

/// A backup builds on the tree of another backup, which is forgotten and pruned meanwhile. The new
/// backup does not read most of that tree.
#[test]
fn a_backup_is_whole_or_fails_if_its_base_is_pruned_meanwhile() {
    for grace in [GRACE, Duration::ZERO] {
        for marked_before in [false, true] {
            let when = format!("{grace:?}, marks before: {marked_before}");
            let series = Series::new();
            let store = MemoryBackend::new();
            let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
            let host = Host::without_cache();
            let base = host
                .back_up(&test_repo, "disk", &series.days[0])
                .unwrap()
                .id;
            store.age(2 * GRACE);
            if marked_before {
                let image = Image::new(LEAF).with(0, &noise(70, CHUNK));
                let other = host.back_up(&test_repo, "other", &image).unwrap().id;
                forget(&test_repo, &[other]);
                store.age(2 * GRACE);
                prune(&test_repo, &host, GRACE).unwrap();
                assert!(!names(&store, "marks").is_empty());
            }
            // The prune runs before the backup stores its first pack.
            let hooked = Hooked::new(store.clone(), StorageOperation::Put, move |store| {
                let test_repo = open(&store);
                forget(&test_repo, &[base]);
                prune(&test_repo, &Host::without_cache(), grace).unwrap();
            });
            let hooked_repo = TestRepo::open(hooked, &RecordingObserver::default()).unwrap();
            let made = host.back_up(&hooked_repo, "disk", &series.days[1]);
            match &made {
                Ok(made) => {
                    let restored = host
                        .restore_image(&test_repo, &test_repo.backup(made.id))
                        .unwrap();
                    assert!(restored == series.days[1], "{when}");
                }
                Err(OpsError::LostToPrune { .. }) => {}
                Err(error) if is_damage(error) => {}
                Err(error) => panic!("{when}: {error:?}"),
            }
            host.check_clean(&test_repo, &when);
            host.back_up(&test_repo, "disk", &series.days[1]).unwrap();
            series.assert_restores(&test_repo, &when);
            for _ in 0..3 {
                store.age(GRACE + HOUR);
                prune(&test_repo, &host, grace).unwrap();
            }
            assert_tidy(&test_repo, &store, &when);
            series.assert_restores(&test_repo, &when);
        }
    }
}

/// At first, no segment names the packs of a running backup. A prune keeps these packs because they
/// are younger than the backup's lease. But the packs may look older than the lease: storing the
/// lease may have taken minutes, or the store's clock may have been set ahead.
#[test]
fn packs_of_a_running_backup_stay_despite_clock_errors() {
    let series = Series::of(1);
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    let gone = leave_unnamed_packs(&test_repo, &store);
    forget(&test_repo, &[gone]);
    let packs = pack_names(&store);
    store.age(CLOCK_ERROR);
    running.intend(&[]).unwrap();
    let host = Host::without_cache();
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_eq!((report.marked.packs, report.deleted.packs), (0, 0));
    assert_eq!(pack_names(&store), packs);
    drop(running);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "the backup ended");
}

/// A backup may have begun before a mark was stored. Its check before the commit must find the
/// mark, even if the marked packs were deleted meanwhile.
#[test]
fn a_mark_stays_until_backups_that_may_have_missed_it_have_ended() {
    for grace in [Duration::ZERO, CLOCK_ERROR / 2] {
        let series = Series::of(3);
        let (store, ids) = series.backed_up();
        let test_repo = open(&store);
        let host = Host::without_cache();
        let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
        forget(&test_repo, &ids[..2]);
        if !grace.is_zero() {
            prune(&test_repo, &host, grace).unwrap();
            store.age(CLOCK_ERROR);
            running.intend(&[]).unwrap();
        }
        let report = prune(&test_repo, &host, grace).unwrap();
        assert!(report.deleted.packs > 0);
        assert!(!names(&store, "marks").is_empty(), "{grace:?}");
        series.assert_restores(&test_repo, "the mark names deleted packs");
        drop(running);
        store.age(GRACE);
        prune(&test_repo, &host, grace).unwrap();
        assert_tidy(&test_repo, &store, "the backup ended");
        series.assert_restores(&test_repo, "the backup ended");
    }
}

/// A prune has listed the packs, does not find a blob, and syncs its index again. Now the index has
/// segments of a backup that was made after the listing. The prune must not treat the packs of this
/// backup as lost.
#[test]
fn packs_stored_while_a_prune_syncs_its_index_again_stay_in_the_index() {
    let series = Series::of(3);
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    leave_unnamed_packs(&test_repo, &store);
    store.age(HOUR);
    let new = series.days[2].clone().with(0, &noise(78, 2 * CHUNK));
    let content = new.clone();
    let hooked = Hooked::new(store.clone(), StorageOperation::Get, move |store| {
        let test_repo = open(&store);
        let host = Host::without_cache();
        host.back_up(&test_repo, "meanwhile", &content).unwrap();
    });
    let hooked_repo = TestRepo::open(hooked, &RecordingObserver::default()).unwrap();
    prune(&hooked_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_eq!(test_repo.backups().len(), 5);
    for volume in ["later", "later still"] {
        Host::without_cache().check_clean(&test_repo, volume);
        let made = Host::without_cache()
            .back_up(&test_repo, volume, &new)
            .unwrap();
        assert_eq!(made.chunks_new, 0, "the index names all chunks");
    }
}

/// A backup relies on packs that no segment names. Another process deletes them meanwhile.
#[test]
fn a_backup_fails_if_unnamed_packs_that_it_needs_are_deleted() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let gone = leave_unnamed_packs(&test_repo, &store);
    forget(&test_repo, &[gone]);
    let host = Host::without_cache();
    let hooked = Hooked::new(store.clone(), StorageOperation::Put, |store| {
        for object in store.list("projects").unwrap() {
            if is_pack(&object.name) {
                store.delete(&object.name).unwrap();
            }
        }
    });
    let hooked_repo = TestRepo::open(hooked, &host.notices).unwrap();
    let stored_before = Image::new(2 * LEAF).with(0, &noise(77, 3 * CHUNK));
    let image = stored_before.with(LEAF, &noise(79, CHUNK));
    let made = host.back_up_again(&hooked_repo, "disk", &image);
    assert!(
        matches!(made, Err(OpsError::LostToPrune { .. })),
        "{made:?}"
    );
    assert!(test_repo.backups().is_empty());
    // The failed backup left no segment that names a deleted pack, so the next backup stores these
    // chunks again.
    host.back_up(&test_repo, "disk", &image).unwrap();
    host.check_clean(&test_repo, "again");
    let backup = test_repo.backups().pop().unwrap();
    assert!(host.restore_image(&test_repo, &backup).unwrap() == image);
}

/// The lease of a running backup protects its packs, for any duration of the backup and any grace
/// period.
#[test]
fn prune_keeps_the_packs_of_a_running_backup() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = noise(1, 8 << 20);
    let second = noise(2, 8 << 20);
    let meanwhile = store.clone();
    let start = Cursor::new(first.clone());
    let pause = HookedBytes {
        hook: Some(move || {
            let test_repo = open(&meanwhile);
            let stored = || !pack_names(&meanwhile).is_empty();
            let waits = (0..2000).map(|_| thread::sleep(Duration::from_millis(10)));
            assert!(stored() || waits.take_while(|()| !stored()).count() < 2000);
            for grace in [Duration::ZERO, HOUR] {
                let report = prune(&test_repo, &Host::without_cache(), grace).unwrap();
                assert_eq!((report.deleted.packs, report.marked.packs), (0, 0));
            }
        }),
        bytes: Cursor::new(second.clone()),
    };
    let source = stream_of(start.chain(pause));
    let new = host.run(&test_repo, source, &options("new")).unwrap().id;
    let whole = host.restore(&test_repo, &test_repo.backup(new)).unwrap();
    assert!(whole == [first, second].concat());
    store.age(HOUR);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "afterwards");
}
