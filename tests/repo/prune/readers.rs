//! Prunes beside readers: what a reader's lease names stays readable to the last byte, and goes once the reader has ended.

use std::sync::Arc;
use std::time::Duration;

use cuttlebone::base::Notice;
use cuttlebone::repo::{Backup, BlobReader, ImageReader, ReadSession, RunCache};
use cuttlebone::storage::{
    Backend, Fault, FaultBackend, MemoryBackend, Name, ObjectInfo, Plan, StorageError,
    StorageErrorKind as Failure, StorageOperation as Operation,
};

use super::{DEAD, ELSEWHERE, HOUR, Hooked, Line, forget, is_tidy, names, open, prune};
use crate::repo::{Heard, Host, Image, TestRepo};

/// A reader of a backup that holds nothing in memory, so that all that it reads is in the store.
fn reader(test_repo: &TestRepo, backup: &Backup, heard: &Arc<Heard>) -> ImageReader {
    let tops = Vec::from_iter(backup.top);
    let observer = heard.clone();
    let session =
        ReadSession::open(&test_repo.project, &tops, ELSEWHERE, None, &(observer as _)).unwrap();
    ImageReader::new(&BlobReader::under(&session), backup).with_cache(&RunCache::new(0))
}

/// Reads every byte, in reads of odd lengths.
fn reads_all(reader: &ImageReader, image: &Image, when: &str) {
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

/// A reader of the first day, whose backup is forgotten then.
fn read_and_forgotten(line: &Line, store: &MemoryBackend) -> ImageReader {
    let test_repo = open(store);
    let first = test_repo.backups().remove(0);
    assert_eq!(first.record.content.size, line.days[0].size);
    let reader = reader(&test_repo, &first, &Arc::default());
    forget(&open(store), &[first.id]);
    reader
}

#[test]
fn a_reader_of_a_forgotten_backup_reads_every_byte_beside_prunes_without_grace() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let reader = read_and_forgotten(&line, &store);
    let before = names(&store, "packs");
    for n in 0..3 {
        let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
        assert_eq!(report.deleted.packs, 0, "the reader needs them all");
        reads_all(&reader, &line.days[0], &format!("prune {n}"));
        store.age(HOUR / 30);
    }
    assert_eq!(
        names(&store, "packs"),
        before,
        "none was packed again either"
    );

    drop(reader);
    assert_eq!(names(&store, "leases"), Vec::<String>::new());
    let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0, "now the space is free");
    let test_repo = open(&store);
    assert_eq!(test_repo.backups().len(), ids.len() - 1);
    is_tidy(&test_repo, &store, "the reader has ended");
}

#[test]
fn a_reader_that_begins_in_the_middle_of_a_prune_reads_every_byte() {
    let line = Line::new();
    let (store, _) = line.backed_up();
    let test_repo = open(&store);
    let first = test_repo.backups().remove(0);
    let other = reader(&test_repo, &first, &Arc::default());
    forget(&test_repo, &[first.id]);
    drop(other);
    // The reader begins when the prune reads what it is going to pack again.
    let begun = Arc::new(std::sync::Mutex::new(None));
    let (slot, backup) = (begun.clone(), first.clone());
    let hooked = Hooked::new(store.clone(), Operation::Get, move |store| {
        let reader = reader(&open(&store), &backup, &Arc::default());
        *slot.lock().unwrap() = Some(reader);
    });
    let beside = TestRepo::open(hooked, &Heard::default()).unwrap();
    prune(&beside, &Host::without_cache(), Duration::ZERO).unwrap();
    let reader = begun.lock().unwrap().take().expect("the prune reads packs");
    reads_all(&reader, &line.days[0], "begun in the middle of a prune");
    drop(reader);
    prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    is_tidy(&open(&store), &store, "afterwards");
}

/// Whatever call of a prune fails, the reader reads on.
#[test]
fn a_prune_that_fails_at_any_call_leaves_a_reader_its_packs() {
    let line = Line::of(3);
    let (base, _) = line.backed_up();
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
            reads_all(&reader, &line.days[0], &format!("{fault:?} at call {n}"));
            if done {
                assert!(n > 8, "{n} calls are too few to tell much");
                break;
            }
        }
    }
}

#[test]
fn a_dead_readers_lease_expires_and_frees_the_space() {
    let line = Line::new();
    let (store, _) = line.backed_up();
    let reader = read_and_forgotten(&line, &store);
    // As if its process was gone: the store goes on without it.
    let left = store.copy();
    drop(reader);
    left.age(DEAD);
    left.age(HOUR);
    let report = prune(&open(&left), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.deleted.packs > 0);
    is_tidy(&open(&left), &left, "the lease is gone, too");
}

#[test]
fn a_reader_whose_lease_was_removed_finds_what_a_prune_has_packed_again() {
    let line = Line::new();
    let (store, ids) = line.backed_up();
    let test_repo = open(&store);
    let last = test_repo.backups().pop().unwrap();
    let reader = reader(&test_repo, &last, &Arc::default());
    reads_all(&reader, line.days.last().unwrap(), "before");
    for lease in store.list("projects").unwrap() {
        if lease.name.as_str().contains("/leases/") {
            store.delete(&lease.name).unwrap();
        }
    }
    forget(&test_repo, &ids[..ids.len() - 1]);
    let report = prune(&open(&store), &Host::without_cache(), Duration::ZERO).unwrap();
    assert!(report.repacked.packs > 0 && report.deleted.packs > 0);
    reads_all(&reader, line.days.last().unwrap(), "after");
}

#[test]
fn a_restore_and_a_check_of_all_data_leave_no_lease() {
    let line = Line::of(2);
    let (store, _) = line.backed_up();
    let test_repo = open(&store);
    line.is_whole(&test_repo, "read");
    assert_eq!(names(&store, "leases"), Vec::<String>::new());
}

/// A store that lets nothing be written.
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
    let line = Line::of(2);
    let (store, _) = line.backed_up();
    for failure in [Failure::ReadOnly, Failure::Denied, Failure::Full] {
        let vault = TestRepo::open(ReadOnly(store.clone(), failure), &Heard::default()).unwrap();
        let backup = vault.backups().pop().unwrap();
        let heard = Arc::new(Heard::default());
        let reader = reader(&vault, &backup, &heard);
        let said = heard.take();
        let tells = |notice: &Notice| matches!(notice, Notice::ReadWithoutLease { .. });
        assert!(said.iter().filter(|n| tells(n)).count() == 1, "{said:?}");
        reads_all(&reader, line.days.last().unwrap(), "read only");

        let host = Host::without_cache();
        let restored = host.restore_image(&vault, &backup).unwrap();
        assert!(restored == *line.days.last().unwrap());
        host.check_clean(&vault, "read only");
        assert!(host.heard.take().iter().any(tells));
    }
}
