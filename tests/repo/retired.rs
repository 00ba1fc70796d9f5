//! Projects that are no longer written to.

use std::time::Duration;

use cuttlebone::ops::OpsError;
use cuttlebone::repo::{ObjectRef, RepoError};
use cuttlebone::storage::MemoryBackend;

use super::prune::{forget, prune};
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

#[test]
fn a_retired_project_takes_no_backup_and_can_be_read_forgotten_and_pruned() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = |seed| Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK));
    let ids = [1, 2].map(|seed| host.back_up(&test_repo, "disk", &image(seed)).unwrap().id);
    let mut settings = (*test_repo.project.settings).clone();
    settings.revision += 1;
    settings.retired = Some("project “web” in /srv/new".into());
    let body = settings.encode();
    let put = test_repo.project.put_sealed(ObjectRef::Settings, &body);
    put.unwrap();

    let test_repo = TestRepo::open(store, &RecordingObserver::default()).unwrap();
    let refused = host.back_up(&test_repo, "disk", &image(3)).map(drop);
    match refused {
        Err(OpsError::Repo(error @ RepoError::Retired { .. })) => {
            let message = error.to_string();
            assert!(message.contains("project “web” in /srv/new"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    host.check_clean(&test_repo, "retired");
    forget(&test_repo, &ids[..1]);
    let pruned = prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(pruned.deleted.packs > 0, "{pruned:?}");
    let left = test_repo.backup(ids[1]);
    assert!(host.restore_image(&test_repo, &left).unwrap() == image(2));
}
