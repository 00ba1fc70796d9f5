//! Copies of backups that are damaged, false or withdrawn, or that are copied while a prune runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::format::{BackupRecord, Content, root_description};
use cuttlebone::ops::{CopyOptions, OpsError};
use cuttlebone::repo::{
    Backup, BlobReader, CommitCheck, ImageReader, Index, Packer, PackerOptions, PruneGuard,
    Records, RepoError, RepoErrorKind, UnindexedPacks, Worker,
};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend, Name};

use super::copy::{
    all, back_up_states, copy, copy_all, copy_all_and, copy_each, copy_options, copy_with,
    has_states, listed, new_repo, of_volume, states,
};
use super::provenance::writer;
use super::prune::{forget, is_pack, prune};
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

/// Zeroes each object that `wanted` accepts, except its first and last 100 bytes.
pub(super) fn damage(store: &MemoryBackend, wanted: impl Fn(&Name) -> bool) {
    for name in listed(store).into_iter().filter(wanted) {
        let mut bytes = store.get(&name, u64::MAX).unwrap();
        let end = bytes.len() - 100;
        bytes[100..end].fill(0);
        store.delete(&name).unwrap();
        store.put(&name, &[&bytes]).unwrap();
    }
}

/// Deletes each object that `wanted` accepts.
pub(super) fn delete(store: &MemoryBackend, wanted: impl Fn(&Name) -> bool) {
    for name in listed(store).into_iter().filter(wanted) {
        store.delete(&name).unwrap();
    }
}

#[test]
fn a_copy_names_a_damaged_backup_and_copies_all_others() {
    for part in ["/packs/", "/trees/"] {
        let (store, source) = new_repo(CHUNK);
        let host = Host::without_cache();
        let first = host.back_up(&source, "disk", &states()[0]).unwrap().id;
        let before = listed(&store);
        let mut worse = states()[0].clone();
        worse.write(CHUNK as u64, &noise(50, CHUNK));
        let second = host.back_up(&source, "disk", &worse).unwrap().id;
        let is_new = |name: &Name| !before.contains(name) && name.as_str().contains(part);
        damage(&store, is_new);
        let third = host.back_up(&source, "other", &states()[1]).unwrap().id;
        // The last backup of the damaged volume does not need the damaged data.
        let fourth = host
            .back_up_again(&source, "disk", &states()[0])
            .unwrap()
            .id;
        let (_, target) = new_repo(CHUNK);
        let copied = copy(&source, &all(&source), &target).unwrap();
        assert_eq!(copied.len(), 4);
        for (id, copied) in &copied {
            match copied {
                Err(OpsError::NotCopied {
                    backup,
                    volume,
                    part: named,
                    ..
                }) => {
                    assert_eq!((*id, *backup, &volume[..]), (second, second, "disk"));
                    let bytes = format!("bytes {} to {}", CHUNK, 2 * CHUNK - 1);
                    let expected = if part == "/packs/" {
                        bytes
                    } else {
                        "its content".into()
                    };
                    assert_eq!(*named, expected);
                }
                copied => assert!(copied.is_ok() && *id != second, "{copied:?}"),
            }
        }
        let originals: BTreeSet<_> = target
            .backups()
            .iter()
            .map(|b| b.record.original.unwrap())
            .collect();
        assert_eq!(originals, BTreeSet::from([first, third, fourth]), "{part}");
        host.check_clean(&target, part);
        let fourth_copy = of_volume(&target, "disk").pop().unwrap();
        assert!(host.restore_image(&target, &fourth_copy).unwrap() == states()[0]);
    }
}

#[test]
fn a_backup_is_copied_even_if_the_tree_of_an_earlier_one_is_damaged() {
    let (store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let ids = back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    copy(&source, &ids[..2], &target).unwrap();
    // Delete all trees. Then a backup with --reread stores the tree of the third backup again.
    delete(&store, |name| name.as_str().contains("/trees/"));
    let source = TestRepo::open(store.clone(), &Silent).unwrap();
    host.back_up_again(&source, "disk", &states()[2]).unwrap();
    let newest = of_volume(&source, "disk").pop().unwrap().id;
    let copied = copy(&source, &[newest], &target).unwrap();
    let report = copied[0].1.as_ref().unwrap();
    assert_eq!(report.base, None);
    let [a, b, c] = &states();
    has_states(&target, &[a, b, c], "without a base");
}

#[test]
fn data_that_the_target_has_lost_is_stored_again() {
    let (_, source) = new_repo(CHUNK);
    let ids = back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    copy(&source, &ids[..1], &target).unwrap();
    delete(&store, is_pack);
    let copied = copy(&source, &ids[1..], &target).unwrap();
    assert!(
        copied.iter().all(|(_, copied)| copied.is_ok()),
        "{copied:?}"
    );
    let host = Host::without_cache();
    for (copy, state) in of_volume(&target, "disk").iter().zip(&states()).skip(1) {
        assert!(host.restore_image(&target, copy).unwrap() == *state);
    }
}

#[test]
fn a_prune_of_the_source_keeps_what_a_copy_is_going_to_read() {
    let (store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "a", &states()[0]).unwrap();
    let image = Image::new(LEAF).with(0, &noise(60, 5 * CHUNK));
    let last = host.back_up(&source, "b", &image).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let packs = || listed(&store).into_iter().filter(is_pack).count();
    let before = packs();
    let mut copied = 0;
    copy_all_and(&source, &target, |_| {
        if copied == 0 {
            let other = TestRepo::open(store.clone(), &Silent).unwrap();
            forget(&other, &[last]);
            prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
            prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
            assert_eq!(packs(), before);
        }
        copied += 1;
    });
    assert_eq!(copied, 2);
    let copy = of_volume(&target, "b").pop().unwrap();
    assert!(host.restore_image(&target, &copy).unwrap() == image);
    for _ in 0..2 {
        prune(&source, &host, Duration::ZERO).unwrap();
    }
    assert!(
        packs() < before,
        "without a reader, the prune deletes these packs"
    );
}

#[test]
fn a_prune_of_the_target_between_two_backups_harms_no_copy() {
    let (_, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (store, target) = new_repo(CHUNK);
    copy_all_and(&source, &target, |report| {
        let copy = report.id.unwrap();
        let other = TestRepo::open(store.clone(), &Silent).unwrap();
        if of_volume(&other, "disk").len() > 1 {
            // Forget the older copy, with which this copy was compared.
            let older = of_volume(&other, "disk").into_iter().find(|b| b.id != copy);
            forget(&other, &[older.unwrap().id]);
        }
        prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
    });
    has_states(&target, &[&states()[2]], "pruned");
    Host::without_cache().check_clean(&target, "pruned");
}

#[test]
fn a_copy_that_is_cancelled_stores_no_further_backup() {
    let (_, source) = new_repo(CHUNK);
    back_up_states(&source);
    let (_, target) = new_repo(CHUNK);
    let (host, selected) = (Host::without_cache(), all(&source));
    let selected = (&source, &selected[..]);
    let cancelled = copy_each(&host, selected, &target, &copy_options(), |_, _| {
        host.cancel.cancel();
    });
    let is_cancelled =
        |e: &OpsError| matches!(e, OpsError::Repo(e) if e.kind() == RepoErrorKind::Cancelled);
    assert!(is_cancelled(&cancelled.unwrap_err()));
    has_states(&target, &[&states()[0]], "cancelled");
}

/// Commits a record whose data is in the project already.
pub(super) fn commit(test_repo: &TestRepo, record: &BackupRecord) -> ObjectHash {
    try_commit(test_repo, record).unwrap()
}

/// Tries to commit a record whose data is in the project already.
pub(super) fn try_commit(
    test_repo: &TestRepo,
    record: &BackupRecord,
) -> Result<ObjectHash, RepoError> {
    let project = &test_repo.project;
    let index = Index::in_memory(project, Arc::new(Silent)).unwrap();
    let nothing = |_: &Packer<'_>| Ok::<_, RepoError>(());
    let (unindexed, options) = (UnindexedPacks::none().0, PackerOptions::default());
    let ((), receipt, _) = Packer::scope(&index, unindexed, options, nothing).unwrap();
    let worker = Worker {
        host: None,
        tool: "test",
    };
    let mut guard = PruneGuard::begin(project, worker).unwrap();
    let CommitCheck::Permitted(cleared) = guard.clear(&index, &[]).unwrap() else {
        panic!("no other process is running");
    };
    Records::commit(project, record, &receipt.unwrap(), &cleared)
}

/// Commits a record of another image as the holder of a write key. The record claims to be a copy
/// of `original`, and has its time and size.
fn claim(thief: &TestRepo, original: &Backup) -> ObjectHash {
    let host = Host::without_cache();
    let size = original.record.content.size;
    let image = Image::new(size).with(0, &noise(77, CHUNK));
    let made = host
        .back_up(thief, &original.record.volume.name, &image)
        .unwrap();
    let own = thief.backup(made.id);
    let record = BackupRecord {
        original: Some(original.id),
        time: original.record.time.clone(),
        ..own.record
    };
    commit(thief, &record)
}

#[test]
fn the_holder_of_a_write_key_cannot_keep_a_backup_from_being_copied() {
    for in_target in [false, true] {
        let (source_store, source) = new_repo(CHUNK);
        let id = back_up_states(&source)[0];
        let (target_store, target) = new_repo(CHUNK);
        let store = if in_target {
            &target_store
        } else {
            &source_store
        };
        let original = source.backup(id);
        claim(&writer(store, 1), &original);
        let host = Host::without_cache();
        // Copy the false backup first.
        let mut ids = all(&source);
        ids.retain(|other| *other != id);
        let options = CopyOptions {
            volume: Some("disk".to_owned()),
            accept_write_keys: true,
            ..copy_options()
        };
        copy_with(&host, &source, &ids, &target, &options).unwrap();
        let copied = copy_with(&host, &source, &[id], &target, &options).unwrap();
        let report = copied[0].1.as_ref().unwrap();
        assert!(!report.existing, "{in_target}");
        let copy = target.backup(report.id.unwrap());
        assert!(host.restore_image(&target, &copy).unwrap() == states()[0]);
        assert!(
            copy_with(&host, &source, &[id], &target, &options).unwrap()[0]
                .1
                .as_ref()
                .unwrap()
                .existing
        );
    }
}

#[test]
fn a_withdrawn_backup_is_not_copied() {
    let (store, source) = new_repo(CHUNK);
    let thief = writer(&store, 1);
    let host = Host::without_cache();
    let made = host.back_up(&thief, "disk", &states()[0]).unwrap().id;
    cuttlebone::repo::Voids::put(&thief.project, made, "test").unwrap();
    let kept = host.back_up(&source, "disk", &states()[1]).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let copied = copy(&source, &[made, kept], &target).unwrap();
    assert_eq!(copied.len(), 2);
    for (id, copied) in copied {
        match copied {
            Err(OpsError::CopyWithdrawn { backup }) => assert_eq!([id, backup], [made; 2]),
            copied => assert!(copied.is_ok() && id == kept),
        }
    }
}

#[test]
fn a_chunk_with_bytes_after_the_end_of_the_image_is_copied_without_them() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let whole = Image::new(LEAF).with(0, &noise(1, CHUNK));
    let id = host.back_up(&source, "disk", &whole).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    // A faulty writer commits a record whose size ends in the middle of a chunk with data.
    let made = source.backup(id);
    let size = CHUNK as u64 / 2;
    let top = made.top;
    let described = root_description(
        made.record.content.kind,
        size,
        made.record.content.chunk_size,
        top.as_ref(),
    );
    let content = Content {
        size,
        root: source.project.keys.root(&described),
        ..made.record.content.clone()
    };
    let record = BackupRecord {
        content,
        ..made.record
    };
    let cut = commit(&source, &record);
    let copied = copy(&source, &[cut], &target).unwrap();
    let copy = target.backup(copied[0].1.as_ref().unwrap().id.unwrap());
    let index = Index::in_memory(&target.project, Arc::new(Silent)).unwrap();
    let blobs = BlobReader::new(&index);
    let mut plain = Vec::new();
    ImageReader::new(&blobs, &copy)
        .each_chunk(|chunk| {
            plain.push(blobs.chunk(&chunk.id)?);
            Ok::<_, RepoError>(())
        })
        .unwrap();
    let mut expected = noise(1, CHUNK);
    expected[CHUNK / 2..].fill(0);
    assert!(plain == [expected]);
}

#[test]
fn the_number_of_requests_to_the_source_depends_on_the_changes_and_not_on_the_size_of_the_image() {
    let requests = |leaves: u64| {
        let store = FaultBackend::new();
        let source = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::without_cache();
        let mut image = Image::new(leaves * LEAF);
        for leaf in 0..leaves {
            image.write(leaf * LEAF, &noise(leaf, CHUNK));
        }
        host.back_up(&source, "disk", &image).unwrap();
        let (_, target) = new_repo(CHUNK);
        copy_all(&source, &target);
        image.write(5, b"changed");
        let made = host.back_up(&source, "disk", &image).unwrap().id;
        let cached = Host::with_cache();
        // Fill the cache of the index, so that only requests of the copy are counted.
        cached.back_up(&source, "other", &Image::new(1)).unwrap();
        let _ = store.take_log();
        copy_with(&cached, &source, &[made], &target, &copy_options()).unwrap();
        let log = store.take_log();
        log.iter()
            .filter(|call| call.name.contains("/packs/") || call.name.contains("/trees/"))
            .count()
    };
    let (few, many) = (requests(2), requests(60));
    assert!(
        many <= few + 4,
        "{few} requests for 2 leaves, {many} for 60"
    );
}
