//! Repositories that a prune refuses to touch, and damage that it repairs.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::format::BlobKind;
use cuttlebone::ops::OpsError;
use cuttlebone::repo::{Index, Lease, ObjectRef, RepoErrorKind, Work};
use cuttlebone::storage::Backend;

use super::{
    ELSEWHERE, EXPIRED, HOUR, Series, assert_tidy, forget, names, open, pack_names, prune,
};
use crate::repo::{Host, RecordingObserver};

#[test]
fn prune_refuses_to_run_alongside_another_prune() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..]);
    let other = Lease::take(&test_repo.project, Work::Prune, ELSEWHERE).unwrap();
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(
            &refused,
            Err(OpsError::PruneRuns { host: Some(host), .. }) if host == "elsewhere"
        ),
        "{refused:?}"
    );
    // The other prune crashes, and its lease expires.
    std::mem::forget(other);
    store.age(EXPIRED);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "afterwards");
}

#[test]
fn prune_refuses_to_run_if_a_record_is_unreadable() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[1..3]);
    let name = ObjectRef::Backup(test_repo.project.id, ids[4]).name();
    let whole = store.get(&name, 1 << 20).unwrap();
    store.put(&name, &[&whole[..whole.len() - 1]]).unwrap();
    store.age(HOUR);
    let packs = pack_names(&store);
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(&refused, Err(OpsError::Unreadable { .. })),
        "{refused:?}"
    );
    assert_eq!(pack_names(&store), packs);
    store.put(&name, &[&whole]).unwrap();
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "put back");
}

#[test]
fn prune_refuses_to_run_if_a_used_blob_is_missing() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..1]);
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices.clone()).unwrap();
    let mut chunks = Vec::new();
    index
        .each_pack(|pack| {
            if pack.contents.kind == BlobKind::Chunk {
                chunks.push(pack.pack);
            }
            Ok(())
        })
        .unwrap();
    let lost = ObjectRef::Pack(test_repo.project.id, *chunks.last().unwrap()).name();
    let bytes = store.get(&lost, u64::MAX).unwrap();
    store.delete(&lost).unwrap();
    let packs = pack_names(&store);
    let refused = prune(&test_repo, &Host::without_cache(), Duration::ZERO);
    assert!(
        matches!(&refused, Err(OpsError::Repo(e)) if e.kind() == RepoErrorKind::Damaged),
        "{refused:?}"
    );
    assert_eq!(pack_names(&store), packs);
    store.put(&lost, &[&bytes]).unwrap();
    store.age(HOUR);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "put back");
}

/// The packs list their own contents, so a new segment can name them.
#[test]
fn prune_replaces_a_damaged_index_segment() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..2]);
    let segment = names(&store, "index")[0].parse().unwrap();
    let name = ObjectRef::Index(test_repo.project.id, segment).name();
    let mut bytes = store.get(&name, 1 << 20).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&name, &[&bytes]).unwrap();
    store.age(HOUR);
    prune(&test_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    assert_tidy(&test_repo, &store, "mended");
    series.assert_restores(&test_repo, "mended");
}
