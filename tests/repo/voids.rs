//! Tests of voids. A void withdraws a record. A withdrawn record is neither the newest record of
//! its volume nor a base, and stops no prune.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::crypto::{ProjectKeys, Secret};
use cuttlebone::format::LogKind;
use cuttlebone::ops::{
    self, BackupOptions, Finding, MaxUnused, OpsError, PruneOptions, PruneReport,
};
use cuttlebone::repo::{Log, ObjectRef, Voids};
use cuttlebone::storage::{Backend, MemoryBackend};

use super::prune::forget;
use super::{CHUNK, Host, Image, LEAF, Records, TestRepo, noise, options};

fn image(seed: u64) -> Image {
    Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK))
}

fn prune(test_repo: &TestRepo) -> Result<PruneReport, OpsError> {
    let host = Host::without_cache();
    let options = PruneOptions {
        max_unused: MaxUnused::Unlimited,
        max_repack: None,
        merge_small: false,
        grace: Duration::from_hours(20),
        accept_loss: ops::AcceptedLoss::default(),
        host: None,
    };
    ops::plan_prune(&test_repo.project, &options, false, &host.context())?.run()
}

/// Makes two backups of a volume, and withdraws the second one. Returns the repository, and the ids
/// of both backups.
fn withdrawn(store: &MemoryBackend) -> (TestRepo, [ObjectHash; 2]) {
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let ids = [1, 2].map(|seed| host.back_up(&test_repo, "disk", &image(seed)).unwrap().id);
    Voids::put(&test_repo.project, ids[1], "test").unwrap();
    (test_repo, ids)
}

/// Deletes all packs except those whose names are in `before`.
fn lose(test_repo: &TestRepo, store: &MemoryBackend, before: &[String]) {
    for object in store.list("projects").unwrap() {
        let name = object.name.as_str();
        let is_pack = name.contains("/packs/") || name.contains("/trees/");
        if is_pack && !before.iter().any(|known| known == name) {
            store.delete(&object.name).unwrap();
        }
    }
    assert!(!test_repo.backups().is_empty());
}

fn names(store: &MemoryBackend) -> Vec<String> {
    let objects = store.list("projects").unwrap();
    objects.iter().map(|o| o.name.as_str().to_owned()).collect()
}

#[test]
fn a_withdrawn_record_is_listed_but_neither_newest_nor_base() {
    let store = MemoryBackend::new();
    let (test_repo, [first, second]) = withdrawn(&store);
    let records = Records::load(&test_repo.project).unwrap();
    assert_eq!(records.all().len(), 2);
    assert_eq!(records.select("disk").unwrap().id, first);
    assert_eq!(records.select(&second.to_string()).unwrap().id, second);
    let is_voided = |id| records.is_voided(records.get(id).unwrap());
    assert!(is_voided(second) && !is_voided(first));
    let host = Host::without_cache();
    let next = host.back_up(&test_repo, "disk", &image(3)).unwrap().id;
    let record = test_repo.backup(next).record;
    assert_eq!(record.base, Some(first));
    assert!(
        record.follows.contains(&second),
        "the next record follows the withdrawn one: {record:?}"
    );
    host.check_clean(&test_repo, "the withdrawn record has a whole tree");
}

#[test]
fn a_prune_keeps_a_withdrawn_record_if_its_tree_is_complete() {
    let store = MemoryBackend::new();
    let (test_repo, [_, second]) = withdrawn(&store);
    prune(&test_repo).unwrap();
    let backup = test_repo.backup(second);
    let host = Host::without_cache();
    assert!(host.restore_image(&test_repo, &backup).unwrap() == image(2));
    assert!(!Log::load(&test_repo.project).unwrap().excuses(second));
}

#[test]
fn a_prune_removes_a_withdrawn_record_if_its_tree_is_incomplete() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let first = host.back_up(&test_repo, "disk", &image(1)).unwrap().id;
    let before = names(&store);
    let second = host.back_up(&test_repo, "disk", &image(2)).unwrap().id;
    lose(&test_repo, &store, &before);
    assert!(prune(&test_repo).is_err(), "a record needs missing data");
    Voids::put(&test_repo.project, second, "test").unwrap();
    prune(&test_repo).unwrap();
    let log = Log::load(&test_repo.project).unwrap();
    assert!(log.removed(LogKind::Record, second) && !log.excuses(first));
    assert_eq!(log.removed_record(second).unwrap().follows, [first]);
    let left: Vec<_> = test_repo.backups().iter().map(|b| b.id).collect();
    assert_eq!(left, [first]);
    let voids = names(&store);
    assert!(
        !voids.iter().any(|name| name.contains("/voids/")),
        "{voids:?}"
    );
    host.check_clean(&test_repo, "the incomplete record is removed");
    assert!(
        host.restore_image(&test_repo, &test_repo.backup(first))
            .unwrap()
            == image(1)
    );
}

#[test]
fn a_void_of_another_signer_does_not_count() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let id = host.back_up(&test_repo, "disk", &image(1)).unwrap().id;
    // The thief has a key without a certificate.
    let mut thief = test_repo.project.clone();
    let secrets = thief.keys.write_secrets(Secret::new([9; 32])).unwrap();
    thief.keys = Arc::new(ProjectKeys::write(secrets));
    let void = Voids::put(&thief, id, "theft").unwrap();
    let records = Records::load(&test_repo.project).unwrap();
    assert_eq!(records.select("disk").unwrap().id, id);
    let (report, findings) = host.check(&test_repo, false);
    assert_eq!(report.errors, 1, "{findings:?}");
    let expected = ObjectRef::Void(test_repo.project.id, void);
    let is_reported = |finding: &Finding| match finding {
        Finding::ObjectForeign { object, .. } => *object == expected,
        _ => false,
    };
    assert!(findings.iter().all(is_reported), "{findings:?}");
    let signer = *test_repo.project.keys.authority();
    assert!(!Voids::load(&test_repo.project).unwrap().names(id, &signer));
}

#[test]
fn a_backup_that_was_withdrawn_is_no_base_even_if_the_user_names_it() {
    let store = MemoryBackend::new();
    let (test_repo, [first, second]) = withdrawn(&store);
    let host = Host::without_cache();
    let run = |base: ObjectHash| {
        let options = BackupOptions {
            base: Some(base.to_string()),
            ..options("disk")
        };
        host.run(&test_repo, host.image(&image(3)).unwrap(), &options)
    };
    let refused = run(second);
    assert!(
        matches!(&refused, Err(OpsError::BaseWithdrawn { base }) if *base == second.to_string()),
        "{refused:?}"
    );
    assert_eq!(test_repo.backups().len(), 2, "nothing was stored");
    let made = run(first).unwrap();
    assert_eq!(test_repo.backup(made.id).record.base, Some(first));
}

#[test]
fn a_prune_removes_the_void_of_a_record_that_was_forgotten() {
    let store = MemoryBackend::new();
    let (test_repo, [first, second]) = withdrawn(&store);
    prune(&test_repo).unwrap();
    let log = Log::load(&test_repo.project).unwrap();
    assert!(!log.removed(LogKind::Record, second));
    prune(&test_repo).unwrap();
    let again = Log::load(&test_repo.project).unwrap();
    assert_eq!(again.newest(), log.newest(), "the record and its void stay");
    forget(&test_repo, &[second]);
    prune(&test_repo).unwrap();
    let left = names(&store);
    assert!(
        !left.iter().any(|name| name.contains("/voids/")),
        "{left:?}"
    );
    assert_eq!(test_repo.backups().len(), 1);
    assert_eq!(test_repo.backups()[0].id, first);
    Host::without_cache().check_clean(&test_repo, "afterwards");
}
