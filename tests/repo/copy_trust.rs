//! Copies of backups that write keys signed, and of backups whose base states a false size. Also,
//! copies into a target that has lost data.

use std::time::Duration;

use cuttlebone::base::{ObjectHash, Silent};
use cuttlebone::format::{BackupRecord, ByteString, Content, SourceInfo, root_description};
use cuttlebone::ops::{CopyOptions, OpsError};
use cuttlebone::repo::{Backup, RepoError};

use super::copy::{
    all, copy, copy_all, copy_all_and, copy_options, copy_with, new_repo, of_volume,
};
use super::copy_damage::{commit, damage, delete, try_commit};
use super::provenance::writer;
use super::prune::{forget, is_pack, prune};
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

fn accepting() -> CopyOptions {
    CopyOptions {
        accept_write_keys: true,
        ..copy_options()
    }
}

fn image() -> Image {
    Image::new(LEAF).with(0, &noise(1, 2 * CHUNK))
}

/// Commits a record with the tree of the backup `made`, but with another size.
fn resize(maker: &TestRepo, made: &Backup, size: u64) -> ObjectHash {
    let content = &made.record.content;
    let described = root_description(content.kind, size, content.chunk_size, made.top.as_ref());
    let record = BackupRecord {
        content: Content {
            size,
            root: maker.project.keys.root(&described),
            ..content.clone()
        },
        follows: vec![made.id],
        ..made.record.clone()
    };
    commit(maker, &record)
}

#[test]
fn a_base_that_ends_in_the_middle_of_a_chunk_does_not_cut_the_next_copy() {
    for by_write_key in [false, true] {
        let (store, source) = new_repo(CHUNK);
        let host = Host::without_cache();
        let image = Image::new(2 * CHUNK as u64).with(0, &noise(1, 2 * CHUNK));
        let honest = host.back_up(&source, "disk", &image).unwrap().id;
        let thief = writer(&store, 1);
        let maker = if by_write_key { &thief } else { &source };
        let size = CHUNK as u64 + CHUNK as u64 / 2;
        let cut = resize(maker, &source.backup(honest), size);
        let next = host.back_up(&source, "disk", &image).unwrap().id;
        let (_, target) = new_repo(CHUNK);
        let copied = copy_with(&host, &source, &[cut], &target, &accepting()).unwrap();
        let of_cut = copied[0].1.as_ref().unwrap().id;
        let copied = copy_with(&host, &source, &[next], &target, &accepting()).unwrap();
        let report = copied[0].1.as_ref().unwrap();
        assert_eq!(report.base == of_cut, !by_write_key, "{by_write_key}");
        let copy = target.backup(report.id.unwrap());
        assert!(
            host.restore_image(&target, &copy).unwrap() == image,
            "{by_write_key}"
        );
        host.check_clean(&target, "copied");
    }
}

#[test]
fn a_prune_of_the_target_that_removes_a_base_during_a_copy_harms_no_later_copy() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "disk", &image()).unwrap();
    let (store, target) = new_repo(CHUNK);
    copy_all(&source, &target);
    // The second backup is a stream, so it cannot be compared with the first backup, an image.
    let dump = noise(5, 3 * CHUNK);
    host.back_up_stream(&source, "disk", &dump).unwrap();
    host.back_up(&source, "disk", &image()).unwrap();
    let mut calls = 0;
    copy_all_and(&source, &target, |report| {
        let other = TestRepo::open(store.clone(), &Silent).unwrap();
        if calls == 0 {
            assert!(report.existing);
            forget(&other, &[report.id.unwrap()]);
        }
        prune(&other, &Host::without_cache(), Duration::ZERO).unwrap();
        calls += 1;
    });
    assert_eq!(calls, 3);
    host.check_clean(&target, "pruned");
    let copies = of_volume(&target, "disk");
    assert_eq!(copies.len(), 2);
    assert!(host.restore_image(&target, &copies[1]).unwrap() == image());
}

#[test]
fn a_copy_of_a_backup_by_a_write_key_needs_consent_comes_last_and_omits_inode_and_snapshot() {
    let (store, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let thief = writer(&store, 1);
    let made = host.back_up(&thief, "disk", &image()).unwrap().id;
    let made = thief.backup(made);
    let false_record = BackupRecord {
        source: Some(SourceInfo {
            path: Some(ByteString::from(&b"/dev/x"[..])),
            inode: Some((1, 2)),
            changed_ns: Some((3, 4)),
            settled: true,
            snapshot: Some(ByteString::from(&b"mon"[..])),
            ..SourceInfo::of_kind("rbd")
        }),
        ..made.record
    };
    let stated = commit(&thief, &false_record);
    forget(&source, &[made.id]);
    let own = host.back_up(&source, "other", &image()).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let both = [stated, own];
    for dry_run in [true, false] {
        let options = CopyOptions {
            dry_run,
            ..copy_options()
        };
        let copied = copy_with(&host, &source, &both, &target, &options).unwrap();
        // The refused backup is reported before any backup is copied.
        assert_eq!(copied[0].0, stated);
        assert!(
            matches!(copied[0].1, Err(OpsError::CopyOfWriteKey { backup, .. }) if backup == stated),
            "{copied:?}"
        );
        assert!(copied[1].1.is_ok() && copied.len() == 2, "{copied:?}");
    }
    assert_eq!(of_volume(&target, "disk").len(), 0);
    let (_, target) = new_repo(CHUNK);
    let copied = copy_with(&host, &source, &both, &target, &accepting()).unwrap();
    assert_eq!([copied[0].0, copied[1].0], [own, stated]);
    let of_thief = target.backup(copied[1].1.as_ref().unwrap().id.unwrap());
    assert!(host.restore_image(&target, &of_thief).unwrap() == image());
    let expected = SourceInfo {
        path: false_record.source.unwrap().path,
        ..SourceInfo::of_kind("rbd")
    };
    assert_eq!(of_thief.record.source, Some(expected));
    // The target already has the copies, so the user need not accept them again.
    let again = copy(&source, &both, &target).unwrap();
    assert!(
        again
            .iter()
            .all(|(_, copied)| copied.as_ref().unwrap().existing)
    );
}

#[test]
fn a_copy_refuses_a_backup_whose_record_would_be_too_large_and_copies_all_others() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let made = host.back_up(&source, "disk", &image()).unwrap().id;
    let mut record = source.backup(made).record;
    record.labels.insert("large".to_owned(), String::new());
    let left = BackupRecord::BODY_MAX - record.encode().len();
    let mut with_label = |len| {
        record.labels.insert("large".to_owned(), "x".repeat(len));
        try_commit(&source, &record)
    };
    assert!(matches!(
        with_label(left + 1),
        Err(RepoError::RecordTooLarge { .. })
    ));
    let large = with_label(left).unwrap();
    let last = host.back_up(&source, "other", &image()).unwrap().id;
    let (_, target) = new_repo(CHUNK);
    let copied = copy(&source, &[large, last], &target).unwrap();
    for (id, copied) in copied {
        match copied {
            Err(OpsError::CopyTooLarge { backup, .. }) => assert_eq!([id, backup], [large; 2]),
            copied => assert!(copied.is_ok() && id == last, "{copied:?}"),
        }
    }
    assert_eq!(target.backups().len(), 1);
    host.check_clean(&target, "copied");
}

#[test]
fn a_copy_reports_an_earlier_copy_in_the_target_whose_data_is_lost() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    host.back_up(&source, "disk", &image()).unwrap();
    let (store, target) = new_repo(CHUNK);
    let before = copy_all(&source, &target).remove(0).id.unwrap();
    let other = Image::new(LEAF).with(0, &noise(9, CHUNK));
    delete(&store, is_pack);
    let whole = host.back_up(&source, "other", &other).unwrap().id;
    copy(&source, &[whole], &target).unwrap();
    for (id, copied) in copy(&source, &all(&source), &target).unwrap() {
        match copied {
            Err(OpsError::CopyLost { copy, .. }) => assert_eq!(copy, before),
            copied => assert!(id == whole && copied.unwrap().existing),
        }
    }
    // The next copy stores the data again.
    forget(&target, &[before]);
    copy_all(&source, &target);
    host.check_clean(&target, "copied again");
}

#[test]
fn damage_in_the_target_ends_the_copy_and_commits_nothing() {
    let (_, source) = new_repo(CHUNK);
    let host = Host::without_cache();
    let mut image = image();
    host.back_up(&source, "disk", &image).unwrap();
    let (store, target) = new_repo(CHUNK);
    copy_all(&source, &target);
    damage(&store, |name| name.as_str().contains("/trees/"));
    image.write(CHUNK as u64, &noise(8, CHUNK));
    host.back_up(&source, "disk", &image).unwrap();
    let refused = copy(&source, &all(&source), &target).unwrap_err();
    assert!(
        matches!(refused, OpsError::DamagedTarget { .. }),
        "{refused:?}"
    );
    assert_eq!(target.backups().len(), 1);
}
