//! Records that replace other records.

use cuttlebone::base::ObjectHash;
use cuttlebone::format::BackupRecord;
use cuttlebone::repo::{Log, ObjectRef, Records};
use cuttlebone::storage::MemoryBackend;

use super::prune::forget;
use super::{CHUNK, Host, Image, LEAF, TestRepo, noise};

fn put(test_repo: &TestRepo, record: &BackupRecord) -> ObjectHash {
    let body = record.encode();
    let put = test_repo.project.put_sealed(ObjectRef::Backup, &body);
    put.unwrap()
}

#[test]
fn a_record_is_listed_again_at_its_place_if_the_record_that_replaced_it_is_forgotten() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, CHUNK));
    let made = host.back_up(&test_repo, "disk", &image).unwrap().id;
    let mut record = test_repo.backup(made).record;
    // The clock was wrong when this record was made.
    record.time = "2040-01-01T00:00:00Z".parse().unwrap();
    let first = put(&test_repo, &record);
    let object = ObjectRef::Backup(test_repo.project.id, made);
    test_repo.project.objects.delete(object).unwrap();
    record.replaces = Some(first);
    let second = put(&test_repo, &record);
    record.time = "2026-11-21T00:00:00Z".parse().unwrap();
    record.follows = vec![second];
    record.replaces = None;
    let third = put(&test_repo, &record);
    let listed = || -> Vec<_> {
        let records = Records::load(&test_repo.project).unwrap();
        records.listed().map(|backup| backup.id).collect()
    };
    assert_eq!(listed(), [second, third]);
    forget(&test_repo, &[second]);
    assert_eq!(
        listed(),
        [first, third],
        "the third record stays the newest"
    );
    let log = Log::load(&test_repo.project).unwrap();
    let described = log.removed_record(second).unwrap();
    assert_eq!(described.replaces, Some(first));
}
