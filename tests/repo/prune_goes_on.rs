//! Damage that stops a prune, and damage that does not stop it. Damage to removed records, and to
//! data that only backups of write keys need, does not stop it.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::{ObjectHash, ProjectId, Silent};
use cuttlebone::format::BlobKind;
use cuttlebone::ops::{self, Finding, MaxUnused, OpsError, PruneOptions, PruneReport};
use cuttlebone::repo::{Index, ObjectRef, RepoError};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

use super::provenance::writer;
use super::prune::{forget, names};
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

fn image(seed: u64) -> Image {
    Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK))
}

/// Prunes without a grace period. Also returns the damage that was found.
fn prune(test_repo: &TestRepo) -> Result<(PruneReport, Vec<Finding>), OpsError> {
    let host = Host::without_cache();
    let options = PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        max_repack: None,
        merge_small: false,
        grace: Duration::ZERO,
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    let context = host.context();
    let prune = ops::plan_prune(&test_repo.project, &options, false, &context)?;
    let findings = prune.findings();
    Ok((prune.run()?, findings))
}

fn record(test_repo: &TestRepo, hash: ObjectHash) -> Name {
    ObjectRef::Backup(test_repo.project.id, hash).name()
}

/// Makes two backups with a full key, and forgets the first one. Returns the store, the repository
/// and the id of the second backup.
fn with_something_to_delete() -> (MemoryBackend, TestRepo, ObjectHash) {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let ids = [1, 2].map(|seed| host.back_up(&full, "real", &image(seed)).unwrap().id);
    forget(&full, &ids[..1]);
    (store, full, ids[1])
}

/// Returns the packs of chunks that the index names and that do not exist.
fn named_and_missing(store: &MemoryBackend, test_repo: &TestRepo) -> Vec<ObjectHash> {
    let index = Index::in_memory(&test_repo.project, Arc::new(Silent)).unwrap();
    let exists = names(store, "packs");
    let mut missing = Vec::new();
    index
        .each_pack(|listing| {
            let is_chunks = listing.contents.kind == BlobKind::Chunk;
            if is_chunks && !exists.contains(&listing.pack.to_string()) {
                missing.push(listing.pack);
            }
            Ok::<_, RepoError>(())
        })
        .unwrap();
    missing
}

#[test]
fn a_prune_keeps_a_damaged_segment_if_only_it_may_state_where_lost_data_is() {
    let (store, full, real) = with_something_to_delete();
    let host = Host::without_cache();
    let project = full.project.id;
    let object = |hash: &String, of: fn(ProjectId, ObjectHash) -> ObjectRef| {
        of(project, hash.parse().unwrap()).name()
    };
    for pack in names(&store, "packs") {
        let name = object(&pack, ObjectRef::Pack);
        let mut bytes = store.get(&name, u64::MAX).unwrap();
        // The list of a pack's content is at the end of the pack. The runs stay whole.
        let end = bytes.len();
        bytes[end - 50] ^= 1;
        store.put(&name, &[&bytes]).unwrap();
    }
    let segments: Vec<_> = names(&store, "index")
        .iter()
        .map(|segment| {
            let name = object(segment, ObjectRef::Index);
            let bytes = store.get(&name, u64::MAX).unwrap();
            store.put(&name, &[&bytes[1..]]).unwrap();
            (name, bytes)
        })
        .collect();
    for _ in 0..2 {
        prune(&full).unwrap();
    }
    // Restore the segments, as a repair with parity could.
    for (name, bytes) in segments {
        assert!(store.get(&name, u64::MAX).is_ok(), "{name} was deleted");
        store.put(&name, &[&bytes]).unwrap();
    }
    assert!(host.restore_image(&full, &full.backup(real)).unwrap() == image(2));
}

#[test]
fn a_record_of_a_write_key_whose_tree_is_not_whole_does_not_stop_a_prune() {
    for lost in ["trees", "packs"] {
        let (store, full, real) = with_something_to_delete();
        let host = Host::without_cache();
        let before = names(&store, lost);
        let thief = writer(&store, 1);
        let forged = host.back_up(&thief, "disk", &image(3)).unwrap().id;
        for object in store.list("projects").unwrap() {
            let name = object.name.as_str();
            let is_old = before.iter().any(|known| name.ends_with(known));
            if name.contains(&format!("/{lost}/")) && !is_old {
                store.delete(&object.name).unwrap();
            }
        }
        let trees = names(&store, "trees");
        let (report, findings) = prune(&full).unwrap();
        assert!(report.deleted.packs > 0, "{lost}: {report:?}");
        let object = ObjectRef::Backup(full.project.id, forged);
        let [Finding::ObjectDamaged { object: found, .. }] = &findings[..] else {
            panic!("{lost}: {findings:?}");
        };
        assert_eq!(*found, object, "{lost}");
        assert!(host.restore_image(&full, &full.backup(real)).unwrap() == image(2));
        // The record of the write key stays, with all blobs that it still reaches.
        assert_eq!(full.backup(forged).id, forged);
        if lost == "packs" {
            let left = names(&store, "trees");
            assert!(left.len() * 2 > trees.len(), "{left:?} of {trees:?}");
            // The index still names the missing packs, so the next backup notices the loss.
            assert!(!named_and_missing(&store, &full).is_empty());
        }
        let (checked, _) = host.check(&full, false);
        assert_eq!(checked.backups_affected, [forged], "{lost}");

        forget(&full, &[forged]);
        let (_, findings) = prune(&full).unwrap();
        assert!(findings.is_empty(), "{lost}: {findings:?}");
        assert_eq!(named_and_missing(&store, &full), [], "{lost}");
        host.check_clean(&full, lost);
    }
}

#[test]
fn a_lost_blob_that_a_full_key_needs_stops_a_prune_even_if_a_write_key_needs_it_too() {
    let (store, full, _) = with_something_to_delete();
    let host = Host::without_cache();
    let thief = writer(&store, 1);
    host.back_up(&thief, "real", &image(2)).unwrap();
    for name in names(&store, "trees") {
        let hash = name.parse().unwrap();
        let object = ObjectRef::Tree(full.project.id, hash).name();
        store.delete(&object).unwrap();
    }
    assert!(prune(&full).is_err());
}

#[test]
fn garbage_in_place_of_a_record_that_another_object_names_stops_a_prune() {
    let (store, full, real) = with_something_to_delete();
    let host = Host::without_cache();
    host.back_up(&full, "real", &image(3)).unwrap();
    store.put(&record(&full, real), &[&noise(9, 300)]).unwrap();
    let refused = prune(&full).map(drop);
    assert!(
        matches!(&refused, Err(OpsError::Unreadable { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_prune_deletes_a_removed_record_that_was_stored_again_after_its_packs_were_deleted() {
    let store = MemoryBackend::new();
    let full = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let ids = [1, 2].map(|seed| host.back_up(&full, "real", &image(seed)).unwrap().id);
    let name = record(&full, ids[0]);
    let bytes = store.get(&name, u64::MAX).unwrap();
    forget(&full, &ids[..1]);
    store.put(&name, &[&bytes]).unwrap();
    prune(&full).unwrap();
    assert!(
        store.get(&name, u64::MAX).is_ok(),
        "the tree of the record was whole"
    );
    forget(&full, &ids[..1]);
    prune(&full).unwrap();
    store.put(&name, &[&bytes]).unwrap();
    prune(&full).unwrap();
    assert!(
        store.get(&name, u64::MAX).is_err(),
        "the record is removed again"
    );
    host.check_clean(&full, "afterwards");
    assert!(host.restore_image(&full, &full.backup(ids[1])).unwrap() == image(2));
    // A damaged copy of the record does not stop a prune either, since the log states that the
    // record was removed.
    store.put(&name, &[&bytes[1..]]).unwrap();
    let (_, findings) = prune(&full).unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
}
