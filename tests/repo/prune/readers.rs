//! Prunes that run at the same time as readers. All data of the trees that a reader's lease names
//! stays readable. After the reader has ended, a prune deletes this data if no backup uses it.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::Notice;
use cuttlebone::repo::{Backup, BlobReader, ImageReader, Lease, ObjectRef, ReadSession, RunCache};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Name, ObjectInfo, Plan, StorageError,
    StorageErrorKind as Failure, StorageOperation as Operation,
};

use super::{
    ELSEWHERE, EXPIRED, HOUR, Hooked, Series, assert_tidy, forget, names, open, pack_names, prune,
};
use crate::repo::intercepted::Intercepted;
use crate::repo::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise};

/// Makes a reader of a backup. The reader caches no data, so it reads all data from the store.
fn reader(test_repo: &TestRepo, backup: &Backup, notices: &Arc<RecordingObserver>) -> ImageReader {
    let tops = Vec::from_iter(backup.top);
    let observer = notices.clone();
    let session =
        ReadSession::open(&test_repo.project, &tops, ELSEWHERE, None, &(observer as _)).unwrap();
    ImageReader::new(&BlobReader::under(&session), backup).with_cache(&RunCache::new(0))
}

/// Asserts that every byte can be read, in reads of an odd length.
fn assert_reads_all(reader: &ImageReader, image: &Image, when: &str) {
    let model = image.bytes();
    let mut at = 0;
    let mut buf = vec![0; 700_001];
    while at < model.len() {
        let read = reader.read_at(at as u64, &mut buf);
        let read = read.unwrap_or_else(|e| panic!("{when}, at {at}: {e:?}"));
        assert!(buf[..read] == model[at..at + read], "{when}, at {at}");
        at += read;
    }
}

/// Makes a reader of the backup of the first day, and then forgets this backup.
fn reader_of_forgotten_backup(series: &Series, store: &MemoryBackend) -> ImageReader {
    let test_repo = open(store);
    let first = test_repo.backups().remove(0);
    assert_eq!(first.record.content.size, series.days[0].size);
    let reader = reader(&test_repo, &first, &Arc::default());
    forget(&open(store), &[first.id]);
    reader
}

#[test]
fn a_reader_of_a_forgotten_backup_reads_every_byte_alongside_prunes_without_grace() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let reader = reader_of_forgotten_backup(&series, &store);
    let before = pack_names(&store);
    for n in 0..3 {
        let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
        assert_eq!(report.deleted.packs, 0, "the reader needs all packs");
        assert_reads_all(&reader, &series.days[0], &format!("prune {n}"));
        store.age(HOUR / 30);
    }
    assert_eq!(pack_names(&store), before, "no pack was repacked either");

    drop(reader);
    assert_eq!(names(&store, "leases"), Vec::<String>::new());
    let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0, "now the packs are deleted");
    let test_repo = open(&store);
    assert_eq!(test_repo.backups().len(), ids.len() - 1);
    assert_tidy(&test_repo, &store, "the reader has ended");
}

#[test]
fn a_reader_that_begins_in_the_middle_of_a_prune_reads_every_byte() {
    let series = Series::new();
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    let first = test_repo.backups().remove(0);
    let other = reader(&test_repo, &first, &Arc::default());
    forget(&test_repo, &[first.id]);
    drop(other);
    // The reader begins when the prune reads the first pack that it repacks.
    let begun = Arc::new(std::sync::Mutex::new(None));
    let (slot, backup) = (begun.clone(), first.clone());
    let hooked = Hooked::new(store.clone(), Operation::Get, move |store| {
        let reader = reader(&open(&store), &backup, &Arc::default());
        *slot.lock().unwrap() = Some(reader);
    });
    let hooked_repo = TestRepo::open(hooked, &RecordingObserver::default()).unwrap();
    prune(&hooked_repo, &Host::without_cache(), Duration::ZERO).unwrap();
    let reader = begun.lock().unwrap().take().expect("the prune reads packs");
    assert_reads_all(&reader, &series.days[0], "begun in the middle of a prune");
    drop(reader);
    prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert_tidy(&open(&store), &store, "afterwards");
}

#[test]
fn a_prune_that_fails_at_any_call_leaves_a_reader_its_packs() {
    let series = Series::of(3);
    let (base, _) = series.backed_up();
    for fault in [Fault::Fail(Failure::Io), Fault::FailAfter(Failure::Io)] {
        for n in 1.. {
            let faulty = FaultBackend::holding(&base);
            let test_repo = open(&faulty);
            let first = test_repo.backups().remove(0);
            let reader = reader(&test_repo, &first, &Arc::default());
            forget(&test_repo, &[first.id]);
            let mut host = Host::without_cache();
            host.threads = 1;
            faulty.set_plan(Plan::at(n, fault));
            let _ = prune(&test_repo, &host, Duration::ZERO);
            let done = faulty.is_planned();
            if done {
                faulty.set_plan(Plan::at(u64::MAX, fault));
            }
            assert_reads_all(&reader, &series.days[0], &format!("{fault:?} at call {n}"));
            if done {
                assert!(n > 8, "{n} calls are too few");
                break;
            }
        }
    }
}

#[test]
fn the_lease_of_a_crashed_reader_expires_and_its_space_is_freed() {
    let series = Series::new();
    let (store, _) = series.backed_up();
    let reader = reader_of_forgotten_backup(&series, &store);
    // In this copy of the store, the lease of the reader stays, as if its process had crashed.
    let left = store.copy();
    drop(reader);
    left.age(EXPIRED);
    left.age(HOUR);
    let report = prune(&open(&left), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0);
    assert_tidy(&open(&left), &left, "the lease is deleted, too");
}

#[test]
fn a_reader_whose_lease_was_removed_finds_repacked_data() {
    let series = Series::new();
    let (store, ids) = series.backed_up();
    let test_repo = open(&store);
    let last = test_repo.backups().pop().unwrap();
    let reader = reader(&test_repo, &last, &Arc::default());
    assert_reads_all(&reader, series.days.last().unwrap(), "before");
    for lease in store.list("projects").unwrap() {
        if lease.name.as_str().contains("/leases/") {
            store.delete(&lease.name).unwrap();
        }
    }
    forget(&test_repo, &ids[..ids.len() - 1]);
    let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0 && report.deleted.packs > 0);
    assert_reads_all(&reader, series.days.last().unwrap(), "after");
}

#[test]
fn a_restore_and_a_check_of_all_data_leave_no_lease() {
    let series = Series::of(2);
    let (store, _) = series.backed_up();
    let test_repo = open(&store);
    series.assert_restores(&test_repo, "read");
    assert_eq!(names(&store, "leases"), Vec::<String>::new());
}

/// A store that refuses all writes.
struct ReadOnly(MemoryBackend, Failure);

impl ReadOnly {
    fn refuse(&self, name: &Name) -> Result<(), StorageError> {
        Err(StorageError {
            kind: self.1,
            operation: Operation::Put,
            object: name.as_str().to_owned(),
            location: "a vault".to_owned(),
            is_remote: false,
            source: None,
        })
    }
}

impl Backend for ReadOnly {
    fn location(&self) -> &str {
        self.0.location()
    }

    fn put(&self, name: &Name, _: &[&[u8]]) -> Result<(), StorageError> {
        self.refuse(name)
    }

    fn put_new(&self, name: &Name, _: &[&[u8]]) -> Result<(), StorageError> {
        self.refuse(name)
    }

    fn get(&self, name: &Name, limit: u64) -> Result<Vec<u8>, StorageError> {
        self.0.get(name, limit)
    }

    fn get_range(&self, name: &Name, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.0.get_range(name, offset, buf)
    }

    fn size(&self, name: &Name) -> Result<u64, StorageError> {
        self.0.size(name)
    }

    fn list(&self, directory: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        self.0.list(directory)
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, StorageError> {
        self.0.directories(directory)
    }

    fn delete(&self, name: &Name) -> Result<(), StorageError> {
        self.refuse(name)
    }

    fn remove_leftovers(&self, _: &str, _: Duration) -> Result<u64, StorageError> {
        Ok(0)
    }
}

#[test]
fn a_store_that_cannot_be_written_is_read_without_a_lease() {
    let series = Series::of(2);
    let (store, _) = series.backed_up();
    for failure in [Failure::ReadOnly, Failure::Denied, Failure::Full] {
        let vault = TestRepo::open(
            ReadOnly(store.clone(), failure),
            &RecordingObserver::default(),
        )
        .unwrap();
        let backup = vault.backups().pop().unwrap();
        let notices = Arc::new(RecordingObserver::default());
        let reader = reader(&vault, &backup, &notices);
        let notices = notices.take();
        let is_warning = |notice: &Notice| matches!(notice, Notice::ReadWithoutLease { .. });
        assert!(
            notices.iter().filter(|n| is_warning(n)).count() == 1,
            "{notices:?}"
        );
        assert_reads_all(&reader, series.days.last().unwrap(), "read only");

        let host = Host::without_cache();
        let restored = host.restore_image(&vault, &backup).unwrap();
        assert!(restored == *series.days.last().unwrap());
        host.check_clean(&vault, "read only");
        assert!(host.notices.take().iter().any(is_warning));
    }
}

#[test]
fn a_prune_that_finds_a_new_record_reads_nodes_that_it_could_not_read_before() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let [first, second] = [1, 2].map(|seed| Image::new(LEAF).with(0, &noise(seed, 4 * CHUNK)));
    host.back_up(&test_repo, "first", &first).unwrap();
    let before = pack_names(&store);
    let made = host.back_up(&test_repo, "second", &second).unwrap();
    let backup = test_repo.backup(made.id);
    let whole = store.copy();
    // A reader has a lease for the second backup. The record of this backup is missing, and its
    // nodes are damaged.
    let tops = Vec::from_iter(backup.top);
    let lease = Lease::take_reading(&test_repo.project, &tops, ELSEWHERE).unwrap();
    let record = ObjectRef::Backup(test_repo.project.id, made.id).name();
    store.delete(&record).unwrap();
    for object in whole.list("projects").unwrap() {
        let name = object.name.as_str();
        if name.contains("/trees/") && !before.iter().any(|known| name.ends_with(known.as_str())) {
            let mut bytes = whole.get(&object.name, 1 << 30).unwrap();
            bytes[40] ^= 1;
            store.put(&object.name, &[&bytes]).unwrap();
        }
    }
    store.age(HOUR);
    // Before the prune stores a mark and lists the records again, the nodes are repaired and the
    // record is put back.
    let mended = store.clone();
    let heal = move |operation: Operation, name: &str| {
        if operation == Operation::Put && name.contains("/marks/") {
            for object in whole.list("projects").unwrap() {
                if object.name.as_str().contains("/trees/") || object.name == record {
                    let bytes = whole.get(&object.name, 1 << 30).unwrap();
                    mended.put(&object.name, &[&bytes]).unwrap();
                }
            }
        }
        Ok(())
    };
    let pruned = TestRepo::open(
        Intercepted::new(&store, heal),
        &RecordingObserver::default(),
    );
    let report = prune(&pruned.unwrap(), &host, Duration::ZERO).unwrap();
    assert!(report.marked.packs > 0, "{report:?}");
    assert!(host.restore_image(&test_repo, &backup).unwrap() == second);
    drop(lease);
    prune(&test_repo, &host, Duration::ZERO).unwrap();
    assert!(host.restore_image(&test_repo, &backup).unwrap() == second);
    host.check_clean(&test_repo, "afterwards");
}
