//! Diffs of a volume that has backups by another write key. The packs of those backups may hold
//! wrong data.

use cuttlebone::ops::OpsError;
use cuttlebone::storage::MemoryBackend;

use super::ingest::{Extents, apply, diff, ingest};
use super::provenance::writer;
use super::{CHUNK, Host, Image, LEAF, TestRepo, options};

const SIZE: u64 = LEAF;

fn is_of_other_key<T>(result: &Result<T, OpsError>) -> bool {
    matches!(result, Err(OpsError::BaseOfOtherKey { .. }))
}

#[test]
fn a_diff_builds_on_no_backup_by_another_write_key_unless_the_user_names_it() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let (honest, thief) = (writer(&store, 1), writer(&store, 2));
    let host = Host::without_cache();
    let extents: [Extents; 2] = [
        vec![(0, CHUNK, Some(1))],
        vec![(CHUNK as u64, CHUNK, Some(2))],
    ];
    let first = diff(None, Some("s1"), SIZE, &extents[0]);
    let second = diff(Some("s1"), Some("s2"), SIZE, &extents[1]);
    let made = ingest(&host, &thief, &first, &options("disk")).unwrap();
    assert!(is_of_other_key(&ingest(
        &host,
        &honest,
        &second,
        &options("disk")
    )));
    let mut named = options("disk");
    named.base = Some(made[0].id.unwrap().to_string());
    ingest(&host, &honest, &second, &named).unwrap();
    // Every key trusts a backup by the full key.
    ingest(&host, &full, &first, &options("other")).unwrap();
    ingest(&host, &honest, &second, &options("other")).unwrap();
}

#[test]
fn a_snapshot_that_another_write_key_backed_up_is_stored_again() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let (honest, thief) = (writer(&store, 1), writer(&store, 2));
    let host = Host::without_cache();
    let extents: [Extents; 3] = [
        vec![(0, CHUNK, Some(1))],
        vec![(CHUNK as u64, CHUNK, Some(2))],
        vec![(2 * CHUNK as u64, CHUNK, Some(3))],
    ];
    let mut image = Image::new(SIZE);
    let first = diff(None, Some("s1"), SIZE, &extents[0]);
    let theirs = ingest(&host, &thief, &first, &options("disk")).unwrap();
    let ours = ingest(&host, &honest, &first, &options("disk")).unwrap();
    assert_ne!(ours[0].id, theirs[0].id);
    assert!(ours[0].counts.chunks_new > 0);
    apply(&mut image, SIZE, &extents[0]);

    // The backup by the same key is the base, although the other key has a backup of the snapshot,
    // too.
    let second = diff(Some("s1"), Some("s2"), SIZE, &extents[1]);
    let ours = ingest(&host, &honest, &second, &options("disk")).unwrap();
    let backup = full.backup(ours[0].id.unwrap());
    let own = writer(&store, 1).project.keys.signing().public();
    let base = full.backup(backup.record.base.unwrap());
    assert_eq!(base.signer, own);
    apply(&mut image, SIZE, &extents[1]);
    assert!(host.restore_image(&full, &backup).unwrap() == image);

    // A newer backup by the other key stops the next diff, until the user names the base.
    let third = diff(Some("s2"), Some("s3"), SIZE, &extents[2]);
    let mut named = options("disk");
    named.base = Some(ours[0].id.unwrap().to_string());
    let theirs = ingest(&host, &thief, &third, &named).unwrap();
    assert!(is_of_other_key(&ingest(
        &host,
        &honest,
        &third,
        &options("disk")
    )));
    let ours = ingest(&host, &honest, &third, &named).unwrap();
    assert_ne!(ours[0].id, theirs[0].id);
    assert!(ours[0].counts.chunks_new > 0);
    apply(&mut image, SIZE, &extents[2]);
    let restored = host.restore_image(&full, &full.backup(ours[0].id.unwrap()));
    assert!(restored.unwrap() == image);
}

#[test]
fn a_backup_of_the_current_image_by_another_write_key_is_stored_again() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let (honest, thief) = (writer(&store, 1), writer(&store, 2));
    let host = Host::without_cache();
    let first = diff(None, Some("s1"), SIZE, &vec![(0, CHUNK, Some(1))]);
    ingest(&host, &full, &first, &options("disk")).unwrap();
    let head = diff(
        Some("s1"),
        None,
        SIZE,
        &vec![(CHUNK as u64, CHUNK, Some(2))],
    );
    let theirs = ingest(&host, &thief, &head, &options("disk")).unwrap();
    let ours = ingest(&host, &honest, &head, &options("disk")).unwrap();
    assert_ne!(ours[0].id, theirs[0].id);
    let again = ingest(&host, &honest, &head, &options("disk")).unwrap();
    assert_eq!(again[0].id, ours[0].id);
}
