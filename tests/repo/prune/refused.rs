//! Repositories that a prune refuses to change, and damage that a prune repairs.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::ObjectHash;
use cuttlebone::format::BlobKind;
use cuttlebone::ops::{
    self, AcceptedLoss, Finding, MaxUnused, MissingHistory, OpsError, PruneOptions,
};
use cuttlebone::repo::{Index, Lease, Log, ObjectRef, Records, Work};
use cuttlebone::storage::{Backend, MemoryBackend, Name};

use super::{
    ELSEWHERE, EXPIRED, HOUR, Series, assert_tidy, forget, leave_unnamed_packs, limits, names,
    open, pack_names, packs, prune,
};
use crate::repo::{Host, RecordingObserver, TestRepo};

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
fn a_prune_deletes_a_damaged_record_if_the_user_accepts_its_loss() {
    for accepted_by_name in [true, false] {
        let (store, ids) = Series::new().backed_up();
        let test_repo = open(&store);
        let project = &test_repo.project;
        let host = Host::without_cache();
        let name = ObjectRef::Backup(project.id, ids[4]).name();
        let whole = store.get(&name, 1 << 20).unwrap();
        store.put(&name, &[&whole[1..]]).unwrap();
        store.age(HOUR);
        let stops = |accepted: AcceptedLoss| prune_accepting(&test_repo, accepted).unwrap_err();
        assert!(matches!(stops(named(&[])), OpsError::Unreadable { .. }));
        let other = stops(named(&[ids[1]]));
        assert!(matches!(other, OpsError::NotMissing { name } if name == ids[1].to_string()));
        let selected = |repo: &TestRepo| {
            let records = Records::load(&repo.project).unwrap();
            records.select_surely("disk").map(|backup| backup.id).ok()
        };
        assert_eq!(selected(&test_repo), None, "the lost record may be newer");
        assert_eq!(host.check(&test_repo, false).0.records_damaged, [ids[4]]);

        let accepted = if accepted_by_name {
            named(&[ids[4]])
        } else {
            AcceptedLoss {
                objects: Vec::new(),
                all: true,
            }
        };
        let log = Log::load(project).unwrap().newest();
        let dry = PruneOptions {
            accept_loss: accepted.clone(),
            ..limits(Duration::ZERO, MaxUnused::Bytes(0))
        };
        let context = host.context();
        let planned = ops::plan_prune(project, &dry, true, &context);
        planned.unwrap().close();
        assert_eq!(Log::load(project).unwrap().newest(), log, "a dry run");

        prune_accepting(&test_repo, accepted).unwrap();
        assert!(store.get(&name, 1 << 20).is_err(), "the record was deleted");
        assert!(Log::load(project).unwrap().excuses(ids[4]));
        host.check_clean(&test_repo, "the loss was accepted");
        assert_eq!(selected(&test_repo), Some(ids[3]));
        // If the same damaged file is stored again, it stops nothing.
        store.put(&name, &[&whole[1..]]).unwrap();
        host.check_clean(&test_repo, "the damaged file is back");
        prune_accepting(&test_repo, named(&[])).unwrap();
        assert!(store.get(&name, 1 << 20).is_err());
    }
}

#[test]
fn a_forget_accepts_the_loss_of_a_damaged_record_and_does_not_stop_because_of_it() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    let name = ObjectRef::Backup(test_repo.project.id, ids[2]).name();
    store.put(&name, &[b"damaged"]).unwrap();
    let accept = |accepted: AcceptedLoss| {
        let found = ops::require_history(&test_repo.project, &accepted, None, false);
        found.map(|_| ())
    };
    accept(named(&[])).unwrap();
    assert!(!Log::load(&test_repo.project).unwrap().excuses(ids[2]));
    accept(named(&[ids[2]])).unwrap();
    assert!(Log::load(&test_repo.project).unwrap().excuses(ids[2]));
    prune_accepting(&test_repo, named(&[])).unwrap();
    Host::without_cache().check_clean(&test_repo, "the file was deleted");
}

/// Returns the pack of chunks that the index names last.
fn last_chunk_pack(test_repo: &TestRepo) -> Name {
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
    ObjectRef::Pack(test_repo.project.id, *chunks.last().unwrap()).name()
}

/// Prunes without a grace period, and returns the backups that lack chunks.
fn prune_lacking(test_repo: &TestRepo) -> Vec<ObjectHash> {
    let host = Host::without_cache();
    let options = limits(Duration::ZERO, MaxUnused::Bytes(0));
    let context = host.context();
    let prune = ops::plan_prune(&test_repo.project, &options, false, &context).unwrap();
    let lacking: Vec<_> = prune.lacking().iter().map(|backup| backup.id).collect();
    let reported = prune
        .findings()
        .into_iter()
        .filter_map(|found| match found {
            Finding::BackupAffected(backup) => Some(backup.id),
            _ => None,
        });
    assert_eq!(reported.collect::<Vec<_>>(), lacking);
    prune.run().unwrap();
    lacking
}

/// Returns the backups that a check of all data reports as affected.
fn affected(test_repo: &TestRepo) -> Vec<ObjectHash> {
    let (report, _) = Host::without_cache().check(test_repo, true);
    report.backups_affected
}

/// A missing pack may come back, because the store may have hidden it only for a moment.
#[test]
fn a_prune_goes_on_if_a_pack_of_chunks_is_missing_and_uses_the_pack_after_it_is_put_back() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..1]);
    let lost = last_chunk_pack(&test_repo);
    let bytes = store.get(&lost, u64::MAX).unwrap();
    let before = pack_names(&store);
    store.delete(&lost).unwrap();
    let found = affected(&test_repo);
    assert!(!found.is_empty() && found.len() < ids.len());
    for _ in 0..2 {
        assert_eq!(prune_lacking(&test_repo), found);
        assert_eq!(affected(&test_repo), found, "nothing else is lost");
        store.age(HOUR);
    }
    let after = pack_names(&store);
    assert!(
        before.iter().any(|pack| !after.contains(pack)),
        "some packs were deleted"
    );
    // A host without a cache learns from the index that a pack is missing, so its next backup
    // would store the chunks again.
    let notices = Arc::new(RecordingObserver::default());
    let index = Index::in_memory(&test_repo.project, notices).unwrap();
    assert_eq!(index.lost_packs().unwrap().len(), 1);
    store.put(&lost, &[&bytes]).unwrap();
    store.age(HOUR);
    assert_eq!(prune_lacking(&test_repo), []);
    series.assert_restores(&test_repo, "put back");
    assert_tidy(&test_repo, &store, "put back");
}

/// The content of a pack is not known if no segment names it and its own listing is damaged.
#[test]
fn a_pack_whose_content_is_not_known_stays_while_chunks_are_missing() {
    let series = Series::new();
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    let before = pack_names(&store);
    let gone = leave_unnamed_packs(&test_repo, &store);
    let new = packs(&store).into_iter().find(|pack| {
        let is_new = !before.contains(&pack.hash().unwrap().to_string());
        is_new && pack.blob_kind() == Some(BlobKind::Chunk)
    });
    let unknown = new.unwrap().name();
    let bytes = store.get(&unknown, u64::MAX).unwrap();
    store.put(&unknown, &[&bytes[..bytes.len() - 1]]).unwrap();
    store.age(HOUR);
    for _ in 0..2 {
        assert_eq!(prune_lacking(&test_repo), [gone]);
        assert!(store.size(&unknown).is_ok(), "the pack stays");
        store.age(HOUR);
    }
    store.put(&unknown, &[&bytes]).unwrap();
    assert_eq!(prune_lacking(&test_repo), []);
    assert_eq!(affected(&test_repo), []);
    forget(&test_repo, &[gone]);
    store.age(HOUR);
    prune_lacking(&test_repo);
    assert!(store.size(&unknown).is_err(), "the pack is deleted");
    series.assert_restores(&test_repo, "after all");
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

/// Deletes a record as a thief would: without an entry in the log.
fn steal(store: &MemoryBackend, test_repo: &TestRepo, record: ObjectHash) {
    let name = ObjectRef::Backup(test_repo.project.id, record).name();
    store.delete(&name).unwrap();
}

fn prune_accepting(test_repo: &TestRepo, accept_loss: AcceptedLoss) -> Result<(), OpsError> {
    let options = PruneOptions {
        accept_loss,
        ..limits(Duration::ZERO, MaxUnused::Bytes(0))
    };
    let host = Host::without_cache();
    let context = host.context();
    let planned = ops::plan_prune(&test_repo.project, &options, false, &context)?;
    planned.run().map(drop)
}

fn named(objects: &[ObjectHash]) -> AcceptedLoss {
    AcceptedLoss {
        objects: objects.iter().copied().map(Into::into).collect(),
        all: false,
    }
}

#[track_caller]
fn missing_in(refused: Result<(), OpsError>) -> MissingHistory {
    match refused {
        Err(OpsError::HistoryCut { missing }) => *missing,
        other => panic!("{other:?}"),
    }
}

#[test]
fn prune_refuses_to_run_if_a_record_is_missing_until_its_loss_is_accepted() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    let host = Host::without_cache();
    let (record, packs) = (test_repo.backup(ids[2]).record, pack_names(&store));
    steal(&store, &test_repo, ids[2]);
    store.age(HOUR);
    let missing = missing_in(prune_accepting(&test_repo, named(&[])));
    assert!(missing.entries.is_empty(), "{missing:?}");
    let [found] = &missing.records[..] else {
        panic!("{missing:?}")
    };
    assert_eq!(found.id, ids[2]);
    assert_eq!(found.volume.as_ref(), Some(&record.volume.name));
    assert_eq!(found.before, Some(test_repo.backup(ids[3]).time));
    assert_eq!(pack_names(&store), packs);
    // The loss of an existing record cannot be accepted.
    let wrong = prune_accepting(&test_repo, named(&[ids[2], ids[1]]));
    assert!(
        matches!(&wrong, Err(OpsError::NotMissing { name }) if *name == ids[1].to_string()),
        "{wrong:?}"
    );
    missing_in(prune_accepting(&test_repo, named(&[])));
    // A dry run accepts nothing.
    let options = PruneOptions {
        accept_loss: named(&[ids[2]]),
        ..limits(Duration::ZERO, MaxUnused::Bytes(0))
    };
    let context = host.context();
    let dry = ops::plan_prune(&test_repo.project, &options, true, &context);
    dry.unwrap().close();
    assert_eq!(host.check(&test_repo, false).0.vanished, [ids[2]]);

    prune_accepting(&test_repo, named(&[ids[2]])).unwrap();
    host.check_clean(&test_repo, "the loss was accepted");
    prune_accepting(&test_repo, named(&[])).unwrap();
    prune_accepting(&test_repo, named(&[ids[2]])).unwrap();
}

#[test]
fn prune_refuses_to_run_if_the_newest_record_is_missing_that_a_forget_kept() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..2]);
    let last = ids[ids.len() - 1];
    steal(&store, &test_repo, last);
    store.age(HOUR);
    let packs = pack_names(&store);
    let missing = missing_in(prune_accepting(&test_repo, AcceptedLoss::default()));
    assert_eq!(missing.records.len(), 1, "{missing:?}");
    assert_eq!(missing.records[0].id, last);
    assert_eq!(pack_names(&store), packs);
    let (report, _) = Host::without_cache().check(&test_repo, false);
    assert_eq!(report.vanished, [last]);
}

#[test]
fn prune_refuses_to_run_if_no_record_is_left_and_none_was_forgotten() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    for id in &ids {
        steal(&store, &test_repo, *id);
    }
    store.age(HOUR);
    let packs = pack_names(&store);
    let refused = prune_accepting(&test_repo, AcceptedLoss::default());
    assert!(
        matches!(&refused, Err(OpsError::NoBackups { packs: found }) if *found == packs.len()),
        "{refused:?}"
    );
    assert_eq!(pack_names(&store), packs);
    let accepted = AcceptedLoss {
        objects: Vec::new(),
        all: true,
    };
    prune_accepting(&test_repo, accepted).unwrap();
    assert!(pack_names(&store).is_empty());
}

#[test]
fn prune_deletes_all_data_after_all_backups_were_forgotten() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids);
    store.age(HOUR);
    prune_accepting(&test_repo, AcceptedLoss::default()).unwrap();
    assert!(pack_names(&store).is_empty());
}

#[test]
fn prune_refuses_to_run_if_an_entry_of_the_log_is_missing_until_its_loss_is_accepted() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    forget(&test_repo, &ids[..1]);
    let first = Log::load(&test_repo.project).unwrap().tips()[0];
    forget(&test_repo, &ids[1..2]);
    store
        .delete(&ObjectRef::Log(test_repo.project.id, first).name())
        .unwrap();
    store.age(HOUR);
    let missing = missing_in(prune_accepting(&test_repo, AcceptedLoss::default()));
    assert_eq!(missing.entries, [first]);
    // The object that this entry removed now counts as missing, too.
    let mut lost: Vec<_> = missing.records.iter().map(|record| record.id).collect();
    assert_eq!(lost, [ids[0]]);
    missing_in(prune_accepting(&test_repo, named(&lost)));
    lost.push(first);
    prune_accepting(&test_repo, named(&lost)).unwrap();
    Host::without_cache().check_clean(&test_repo, "the loss was accepted");
}

#[test]
fn prune_and_forget_refuse_to_run_if_an_entry_of_the_log_is_damaged_until_its_loss_is_accepted() {
    let (store, ids) = Series::new().backed_up();
    let test_repo = open(&store);
    // The first entry adds the records.
    prune_accepting(&test_repo, named(&[])).unwrap();
    let first = Log::load(&test_repo.project).unwrap().tips()[0];
    let name = ObjectRef::Log(test_repo.project.id, first).name();
    let whole = store.get(&name, 1 << 20).unwrap();
    let host = Host::without_cache();
    for is_newest in [true, false] {
        if !is_newest {
            forget(&test_repo, &ids[..1]);
        }
        let mut damaged = whole.clone();
        damaged[100] ^= 1;
        store.put(&name, &[&damaged]).unwrap();
        let forgot = ops::require_history(&test_repo.project, &named(&[]), None, false);
        let found = [
            missing_in(prune_accepting(&test_repo, named(&[]))),
            missing_in(forgot.map(|_| ())),
        ];
        for missing in found {
            let damaged: Vec<_> = missing.damaged_entries.iter().map(|e| e.id).collect();
            assert_eq!(damaged, [first]);
            assert!(missing.entries.is_empty() && missing.is_only_damage());
        }
        let (report, findings) = host.check(&test_repo, false);
        assert!(report.errors > 0, "{findings:?}");
        store.put(&name, &[&whole]).unwrap();
        prune_accepting(&test_repo, named(&[])).unwrap();
        host.check_clean(&test_repo, "put back");
        store.put(&name, &[&damaged]).unwrap();
    }
    prune_accepting(&test_repo, named(&[first])).unwrap();
    host.check_clean(&test_repo, "the loss was accepted");
    prune_accepting(&test_repo, named(&[])).unwrap();
}
