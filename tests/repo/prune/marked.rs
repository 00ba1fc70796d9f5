//! Needed packs that are marked, or that no index segment names.

use std::collections::BTreeSet;
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::format::BlobKind;
use cuttlebone::repo::{Lease, Marks, ObjectRef, Work, read_listing};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::{
    CLOCK_ERROR, ELSEWHERE, GRACE, HOUR, Series, assert_tidy, damage, forget, is_pack,
    leave_unnamed_packs, names, open, pack_names, pack_object, packs, prune,
};
use crate::repo::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Stores all records of `before` again and deletes newer entries of the log, as if no record had
/// been forgotten since then.
fn put_records_back(store: &MemoryBackend, before: &MemoryBackend) {
    let mut entries = BTreeSet::new();
    for object in before.list("projects").unwrap() {
        if object.name.as_str().contains("/backups/") {
            let record = before.get(&object.name, 1 << 20).unwrap();
            store.put(&object.name, &[&record]).unwrap();
        }
        entries.insert(object.name);
    }
    for object in store.list("projects").unwrap() {
        if object.name.as_str().contains("/log/") && !entries.contains(&object.name) {
            store.delete(&object.name).unwrap();
        }
    }
}

/// Makes a store with a backup of each day. It looks as if the backup of `day` was committed while
/// a prune marked packs that this backup uses.
fn marked_and_in_use(series: &Series, day: usize) -> (MemoryBackend, Vec<ObjectHash>) {
    let (store, ids) = series.backed_up();
    let before = store.copy();
    let test_repo = open(&store);
    forget(&test_repo, &[ids[day]]);
    store.age(GRACE);
    prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    assert!(!names(&store, "marks").is_empty());
    put_records_back(&store, &before);
    (store, ids)
}

/// A backup is committed while a prune marks packs that the backup uses. The prune is killed before
/// it checks again. Then the record needs packs that no segment names. The next prune rescues these
/// packs: it stores a segment that names them again. There are also unnamed packs of a killed
/// backup.
#[test]
fn marked_packs_that_a_committed_backup_needs_are_rescued() {
    let series = Series::of(3);
    let (store, ids) = marked_and_in_use(&series, 1);
    let test_repo = open(&store);
    let gone = leave_unnamed_packs(&test_repo, &store);
    forget(&test_repo, &[gone]);
    assert_eq!(test_repo.backups().len(), ids.len());
    store.age(HOUR);

    let report = prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    assert!(report.rescued > 0, "{report:?}");
    series.assert_restores(&test_repo, "in use again");
    for _ in 0..3 {
        store.age(2 * GRACE);
        prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    }
    series.assert_restores(&test_repo, "later");
    assert_tidy(&test_repo, &store, "later");
}

/// A prune deletes some packs of a mark, and rescues others. A running backup may have begun before
/// the mark was stored, and rely on a deleted pack. Its check must find the mark.
#[test]
fn a_mark_stays_for_a_running_backup_even_if_some_of_its_packs_are_rescued() {
    let series = Series::of(4);
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    forget(&test_repo, &ids[1..2]);
    let before = store.copy();
    forget(&test_repo, &ids[2..3]);
    prune(&test_repo, &host, CLOCK_ERROR / 2).unwrap();
    let marks = names(&store, "marks");
    put_records_back(&store, &before);
    store.age(CLOCK_ERROR);
    running.intend(&[]).unwrap();

    let report = prune(&test_repo, &host, CLOCK_ERROR / 2).unwrap();
    assert!(report.rescued > 0 && report.deleted.packs > 0, "{report:?}");
    let left = names(&store, "marks");
    assert!(marks.iter().all(|mark| left.contains(mark)), "{left:?}");
    series.assert_restores(&test_repo, "the mark names deleted and used packs");
    drop(running);
    for _ in 0..3 {
        store.age(2 * GRACE);
        prune(&test_repo, &host, GRACE).unwrap();
    }
    series.assert_restores(&test_repo, "the backup ended");
    assert_tidy(&test_repo, &store, "the backup ended");
}

/// The repacked copies of chunks are damaged. The marked packs with the original chunks still
/// exist, but the next prune deletes them. So backups that need these chunks count as affected.
#[test]
fn check_does_not_rely_on_packs_that_will_be_deleted() {
    let series = Series::of(3);
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let before: BTreeSet<_> = pack_names(&store).into_iter().collect();
    forget(&test_repo, &ids[1..2]);
    let report = prune(&test_repo, &Host::without_cache(), GRACE / 48).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    for pack in pack_names(&store) {
        if !before.contains(&pack) {
            damage(&store, pack.parse().unwrap());
        }
    }
    let (report, _) = Host::without_cache().check(&test_repo, true);
    assert_eq!(report.backups_affected, ids[2..]);
    // After the damaged packs are deleted, the marked packs count again, and the next prune rescues
    // them.
    for pack in pack_names(&store) {
        if !before.contains(&pack) {
            let object = pack_object(&store, pack.parse().unwrap());
            store.delete(&object.name()).unwrap();
        }
    }
    for read_data in [false, true] {
        let (report, findings) = Host::without_cache().check(&test_repo, read_data);
        assert_eq!(report.backups_affected, [], "{findings:#?}");
        assert!(report.packs_damaged > 0);
    }
    prune(&test_repo, &Host::without_cache(), GRACE / 48).unwrap();
    series.assert_restores(&test_repo, "rescued");
}

/// A record needs marked packs, and the next backup builds on this record.
#[test]
fn a_backup_can_build_on_a_backup_whose_packs_are_marked() {
    let series = Series::of(3);
    let (store, _) = marked_and_in_use(&series, 2);
    let test_repo = open(&store);
    let next = series.days[2].clone().with(0, &noise(79, CHUNK));
    let host = Host::without_cache();
    host.back_up(&test_repo, "disk", &next).unwrap();
    assert!(
        host.restore_image(&test_repo, test_repo.backups().last().unwrap())
            .unwrap()
            == next
    );
    store.age(2 * GRACE);
    prune(&test_repo, &host, GRACE).unwrap();
    host.check_clean(&test_repo, "pruned");
}

#[test]
fn check_reads_a_marked_pack_only_if_a_backup_needs_it() {
    let series = Series::of(3);
    let (store, ids) = series.backed_up();
    let before = store.copy();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..2]);
    store.age(GRACE);
    prune(&test_repo, &Host::without_cache(), GRACE).unwrap();
    let marked = Marks::load(&test_repo.project).unwrap().packs();
    assert!(!marked.is_empty());
    let read = |test_repo: &TestRepo| Host::without_cache().check(test_repo, true);
    let without = read(&test_repo).0.bytes_read;
    put_records_back(&store, &before);
    let (report, findings) = read(&test_repo);
    assert!(findings.is_empty(), "{findings:?}");
    assert!(
        report.bytes_read > without,
        "a backup needs the marked packs"
    );
    for pack in marked {
        // Damage only packs of chunks, since a damaged node would hide all blobs below it.
        if pack_object(&store, pack).blob_kind() == Some(BlobKind::Chunk) {
            damage(&store, pack);
        }
    }
    let (report, findings) = read(&test_repo);
    assert_eq!(report.backups_affected, [ids[1]], "{findings:#?}");
    assert!(report.packs_damaged > 0);
}

/// A blob is in two packs. The prune repacks one of them. No segment names the other, which is too
/// young to be marked. The prune must repack the blob. If it relied on the unnamed pack, no segment
/// would name the blob.
#[test]
fn a_blob_that_is_also_in_an_unnamed_pack_is_repacked() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let image = Image::new(LEAF).with(0, &noise(92, 2 * CHUNK));
    let elsewhere = store.copy();
    let other = Host::without_cache();
    other.back_up(&open(&elsewhere), "gone", &image).unwrap();

    let more = image.clone().with(2 * CHUNK as u64, &noise(93, 5 * CHUNK));
    let gone = host.back_up(&test_repo, "more", &more).unwrap().id;
    host.back_up(&test_repo, "stays", &image).unwrap();
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    let running = Lease::take(&test_repo.project, Work::Backup, ELSEWHERE).unwrap();
    for object in elsewhere.list("projects").unwrap() {
        if is_pack(&object.name) {
            let pack = elsewhere.get(&object.name, 1 << 30).unwrap();
            store.put(&object.name, &[&pack]).unwrap();
        }
    }
    host.check_clean(&test_repo, "before");
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    Host::without_cache().check_clean(&test_repo, "pruned");
    drop(running);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    Host::without_cache().check_clean(&test_repo, "the backup ended");
    assert_tidy(&test_repo, &store, "the backup ended");
}

/// Two backups at the same time have stored the same chunk, each in a pack with another chunk that
/// is unused now. The prune repacks the shared chunk from one pack, and marks the other pack. So it
/// must not rely on the other pack for the chunk.
#[test]
fn a_chunk_that_is_in_a_repacked_and_in_a_marked_pack_is_repacked() {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let shared = Image::new(LEAF).with(0, &noise(80, CHUNK));
    let with_other = |seed| shared.clone().with(CHUNK as u64, &noise(seed, CHUNK));
    // Neither backup knows the other one, so each stores both of its chunks.
    let host = Host::without_cache();
    let apart = store.copy();
    let mut unused = Vec::new();
    for (store, volume, seed) in [(&store, "first", 81), (&apart, "second", 82)] {
        let made = host.back_up(&open(store), volume, &with_other(seed));
        let made = made.unwrap();
        assert_eq!(made.chunks_new, 2);
        unused.push(made.id);
    }
    for object in apart.list("projects").unwrap() {
        let name = object.name.as_str();
        if ["/packs/", "/trees/", "/index/", "/backups/"]
            .iter()
            .any(|d| name.contains(d))
        {
            let bytes = apart.get(&object.name, 1 << 30).unwrap();
            store.put(&object.name, &[&bytes]).unwrap();
        }
    }
    let test_repo = open(&store);
    let stays = host.back_up(&test_repo, "stays", &shared).unwrap();
    assert_eq!(stays.chunks_new, 0);
    let data_packs = |test_repo: &TestRepo| {
        let packs = packs(&store).into_iter();
        let listings = packs.map(|pack| read_listing(&test_repo.project, pack, None));
        let listings = listings.map(Result::unwrap);
        let data = listings.filter(|listing| listing.contents.kind == BlobKind::Chunk);
        data.map(|listing| listing.contents.blobs().map(|blob| blob.id).collect())
            .collect::<Vec<BTreeSet<_>>>()
    };
    let packs = data_packs(&test_repo);
    assert_eq!(packs.iter().map(BTreeSet::len).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(packs[0].intersection(&packs[1]).count(), 1);

    forget(&test_repo, &unused);
    store.age(HOUR);
    let report = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0, "{report:?}");
    host.check_clean(&test_repo, "pruned");
    let backup = test_repo.backup(stays.id);
    assert!(host.restore_image(&test_repo, &backup).unwrap() == shared);
    assert_eq!(data_packs(&test_repo).len(), 1);
    assert_tidy(&test_repo, &store, "pruned");
}

/// The store's clock was wrong when the packs were stored, or somebody changed their times.
#[test]
fn unused_packs_with_a_time_far_in_the_future_are_marked_and_deleted_like_old_ones() {
    let (store, ids) = Series::of(2).backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[..1]);
    let later = store.clock() + 365 * GRACE;
    for object in store.list("projects").unwrap() {
        if object.name.as_str().contains("/packs/") {
            store.set_modified(&object.name, later);
        }
    }
    let report = prune(&test_repo, &host, HOUR / 2).unwrap();
    assert!(report.marked.packs > 0, "{report:?}");
    store.advance_clock(31 * 60);
    let report = prune(&test_repo, &host, HOUR / 2).unwrap();
    assert!(report.deleted.packs > 0, "{report:?}");
    host.check_clean(&test_repo, "afterwards");
}

/// The store's clock was wrong when the mark was stored, or somebody changed the time of the file.
#[test]
fn a_mark_with_a_time_in_the_future_is_due_a_grace_period_after_it_was_seen() {
    let grace = HOUR / 2;
    let (store, ids) = Series::of(2).backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    forget(&test_repo, &ids[..1]);
    prune(&test_repo, &host, grace).unwrap();
    let marks = names(&store, "marks");
    assert!(!marks.is_empty());
    let id = test_repo.project.id;
    let into_future = || {
        let later = store.clock() + 365 * GRACE;
        for mark in &marks {
            let mark = ObjectRef::Mark(id, mark.parse().unwrap());
            store.set_modified(&mark.name(), later);
        }
    };
    into_future();
    for (passed, is_due) in [(0, false), (29 * 60, false), (2 * 60, true)] {
        store.advance_clock(passed);
        let report = prune(&test_repo, &host, grace).unwrap();
        assert_eq!(report.deleted.packs > 0, is_due, "{report:?}");
        let left = names(&store, "marks");
        assert_eq!(marks.iter().all(|mark| !left.contains(mark)), is_due);
        // The mark is due in time even if its time is set to the future again and again.
        into_future();
    }
    host.check_clean(&test_repo, "afterwards");
}
