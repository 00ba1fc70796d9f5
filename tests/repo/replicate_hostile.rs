//! Copies from a hostile or damaged source. Also, batches with many objects, with none, or with
//! objects whose own files are damaged.

use std::sync::{Arc, Mutex};

use cuttlebone::base::{ObjectHash, ProjectId};
use cuttlebone::format::{Batch, BatchedKind, NewBatchedObject};
use cuttlebone::ops::{self, Finding, ReplicateOptions, ReplicateReport, Side};
use cuttlebone::repo::{ObjectKind, ObjectRef, Objects};
use cuttlebone::storage::{Backend, MemoryBackend, Name, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::replicate::{Source, batches, copied, interrupted_at, names_below, open, replicate};
use super::{CHUNK, Host, TestRepo};

/// Copies from a source whose store runs the closure `before` at the beginning of each call.
fn from_intercepted<F>(
    source: &MemoryBackend,
    target: &MemoryBackend,
    options: &ReplicateOptions,
    before: F,
) -> (ReplicateReport, Vec<(Side, Finding)>)
where
    F: Fn(StorageOperation, &str) -> Result<(), StorageErrorKind> + Send + Sync + 'static,
{
    let from = Objects::new(Arc::new(Intercepted::new(source, before)));
    let into = Objects::new(Arc::new(target.clone()));
    let host = Host::without_cache();
    let context = host.context();
    let mut findings = Vec::new();
    let report = ops::replicate(&from, &into, options, &context, &mut |side, finding| {
        findings.push((side, finding.clone()));
    });
    (report.unwrap(), findings)
}

/// Returns a new store with the same files.
fn copy_of(store: &MemoryBackend) -> MemoryBackend {
    let copy = MemoryBackend::new();
    for info in store.list("").unwrap() {
        let bytes = store.get(&info.name, u64::MAX).unwrap();
        copy.put(&info.name, &[&bytes]).unwrap();
    }
    copy
}

const MIRROR: ReplicateOptions = ReplicateOptions {
    project: None,
    mirror: true,
    newer_than: None,
    verify: false,
};

/// Returns the names of both copies of a project object.
fn project_names(project: ProjectId) -> [Name; 2] {
    let object = ObjectRef::Project(project);
    [object.name(), object.copy_name()]
}

#[test]
fn the_log_is_verified_with_the_project_object_that_was_compared() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    // A hostile source could return another project object at the next read. So `replicate` must
    // not read the project object again after the comparison.
    let reads = Arc::new(Mutex::new(0));
    let counted = reads.clone();
    let names = project_names(project).map(|name| name.to_string());
    let (_, findings) =
        from_intercepted(&source.store, &target, &MIRROR, move |operation, name| {
            if operation == StorageOperation::Get && names.iter().any(|of| of == name) {
                let mut reads = counted.lock().unwrap();
                *reads += 1;
                // Both copies are read once to accept the target, and once to compare them with
                // the target's project object.
                if *reads > 4 {
                    return Err(StorageErrorKind::NotFound);
                }
            }
            Ok(())
        });
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(*reads.lock().unwrap(), 4);
}

#[test]
fn nothing_is_deleted_if_the_source_hides_an_entry_of_the_log_and_lists_it_again() {
    let source = Source::new();
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.replace(2);
    let project = source.test_repo.project.id;
    let log = ObjectKind::Log.directory(project);
    // The target has entries that the source lists only from the third listing on.
    let store = copy_of(&source.store);
    let mut hidden = Vec::new();
    for name in names_below(&source.store, &log) {
        if target.size(&name).is_err() {
            let bytes = source.store.get(&name, u64::MAX).unwrap();
            target.put(&name, &[&bytes]).unwrap();
            store.delete(&name).unwrap();
            hidden.push((name, bytes));
        }
    }
    let (back, listings) = (store.clone(), Mutex::new(0));
    let files = target.list("").unwrap().len();
    let (report, findings) = from_intercepted(&store, &target, &MIRROR, move |operation, name| {
        if operation == StorageOperation::List && name.trim_end_matches('/') == log {
            let mut listings = listings.lock().unwrap();
            *listings += 1;
            if *listings == 3 {
                for (name, bytes) in &hidden {
                    back.put(name, &[bytes]).unwrap();
                }
            }
        }
        Ok(())
    });
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(report.files_removed, 0);
    assert!(target.list("").unwrap().len() >= files);
}

#[test]
fn two_copies_that_differ_are_reported_and_the_one_that_the_target_has_is_used() {
    let source = Source::new();
    let other = MemoryBackend::new();
    let _other = TestRepo::init(other.clone(), CHUNK).unwrap();
    let name = ObjectRef::Repository.name();
    let copy = ObjectRef::Repository.copy_name();
    let genuine = source.store.get(&name, u64::MAX).unwrap();
    let foreign = other.get(&name, u64::MAX).unwrap();
    let damaged = copy_of(&source.store);
    damaged.put(&name, &[&foreign]).unwrap();
    let is_reported = |findings: &[(Side, Finding)]| {
        let is_copy = |f: &Finding| {
            let object = ObjectRef::Repository;
            matches!(f, Finding::CopyDamaged { object: of, .. } if *of == object)
        };
        findings.len() == 1 && findings[0].0 == Side::Source && is_copy(&findings[0].1)
    };
    // A new target gets both files, since nothing shows which one is genuine.
    let new = MemoryBackend::new();
    let (_, findings) = replicate(&damaged, &new, &ReplicateOptions::default()).unwrap();
    assert!(is_reported(&findings), "{findings:?}");
    assert_eq!(new.get(&name, u64::MAX).unwrap(), foreign);
    assert_eq!(new.get(&copy, u64::MAX).unwrap(), genuine);
    // A target that has one copy gets the same bytes again.
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    target.delete(&name).unwrap();
    let (_, findings) = replicate(&damaged, &target, &ReplicateOptions::default()).unwrap();
    assert!(is_reported(&findings), "{findings:?}");
    assert_eq!(target.get(&name, u64::MAX).unwrap(), genuine);
    assert!(open(&target).is_ok());
}

#[test]
fn a_project_that_is_missing_in_the_source_is_reported_as_vanished_history() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    let directory = ObjectKind::Project.directory(project) + "/";
    let files = names_below(&target, "").len();
    let store = copy_of(&source.store);
    for name in names_below(&store, "") {
        if name.as_str().starts_with(&directory) {
            store.delete(&name).unwrap();
        }
    }
    let only = ReplicateOptions {
        project: Some(project.to_string()),
        ..ReplicateOptions::default()
    };
    for options in [&ReplicateOptions::default(), &MIRROR, &only] {
        let (report, findings) = replicate(&store, &target, options).unwrap();
        assert_eq!((report.errors, report.of_history), (1, 1), "{findings:?}");
        let Finding::ProjectVanished { project: found } = &findings[0].1 else {
            unreachable!("{findings:?}");
        };
        assert_eq!(*found, Some(project));
    }
    assert_eq!(names_below(&target, "").len(), files);
    // Each repository is made with a project. So a source without any project has lost one.
    let new = MemoryBackend::new();
    let (report, findings) = replicate(&store, &new, &ReplicateOptions::default()).unwrap();
    assert_eq!((report.errors, report.of_history), (1, 1), "{findings:?}");
}

#[test]
fn nothing_is_deleted_if_anything_in_the_source_is_damaged() {
    let source = Source::new();
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.replace(2);
    let store = copy_of(&source.store);
    let name = ObjectRef::Repository.name();
    let genuine = store.get(&name, u64::MAX).unwrap();
    store.put(&name, &[b"damaged"]).unwrap();
    let (report, findings) = replicate(&store, &target, &MIRROR).unwrap();
    assert_eq!(
        (findings.len(), report.files_removed),
        (1, 0),
        "{findings:?}"
    );
    store.put(&name, &[&genuine]).unwrap();
    let (report, _) = replicate(&store, &target, &MIRROR).unwrap();
    assert!(report.files_removed > 0);
}

fn hash_of(bytes: &[u8]) -> ObjectHash {
    ObjectHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

#[test]
fn each_object_of_a_large_batch_can_be_read() {
    const OBJECTS: u32 = 60_000;
    let project = ProjectId::from_bytes([1; 16]);
    let mut new: Vec<NewBatchedObject> = (0..OBJECTS)
        .map(|n| {
            let bytes = n.to_le_bytes().to_vec();
            let (kind, hash) = (BatchedKind::Record, hash_of(&bytes));
            NewBatchedObject { kind, hash, bytes }
        })
        .collect();
    new.sort_unstable();
    let batch = Batch::encode(project, &new);
    let store = MemoryBackend::new();
    let name = ObjectRef::Batch(project, hash_of(&batch)).name();
    store.put(&name, &[&batch]).unwrap();
    let objects = Objects::new(Arc::new(store));
    let listed = objects
        .list(&ObjectKind::Backup.directory(project))
        .unwrap();
    assert_eq!(listed.len(), OBJECTS as usize);
    for object in &new {
        let record = ObjectRef::Backup(project, object.hash);
        assert_eq!(objects.get(record, 4).unwrap(), object.bytes);
    }
}

#[test]
fn an_object_that_fits_into_no_batch_is_copied_once() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let large = vec![0; Batch::LEN_MAX];
    let name = ObjectRef::Void(project, hash_of(&large)).name();
    source.store.put(&name, &[&large]).unwrap();
    copied(&source.store, &target);
    assert!(batches(&target, project).is_empty());
    assert_eq!(target.size(&name).unwrap(), large.len() as u64);
    assert_eq!(copied(&source.store, &target).files_copied, 0);
}

#[test]
fn a_batch_without_objects_is_not_stored_and_is_deleted() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let store = copy_of(&source.store);
    let mut damaged = 0;
    for kind in [ObjectKind::Backup, ObjectKind::Log] {
        for name in names_below(&store, &kind.directory(project)) {
            if target.size(&name).is_err() {
                store.put(&name, &[b"damaged"]).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 1);
    let (_, findings) = replicate(&store, &target, &ReplicateOptions::default()).unwrap();
    assert!(!findings.is_empty());
    assert!(batches(&target, project).is_empty());
    let empty = Batch::encode(project, &[]);
    let name = ObjectRef::Batch(project, hash_of(&empty)).name();
    target.put(&name, &[&empty]).unwrap();
    copied(&source.store, &target);
    assert!(batches(&target, project).is_empty());
}

#[test]
fn a_batch_stays_as_long_as_the_file_of_one_of_its_objects_is_damaged() {
    let source = Source::new();
    let project = source.test_repo.project.id;
    let target = MemoryBackend::new();
    copied(&source.store, &target);
    source.change(2);
    let store = interrupted_at(&source, &target, "log", 1);
    let batch = batches(&store, project);
    assert_eq!(batch.len(), 1);
    let name = names_below(&source.store, &ObjectKind::Backup.directory(project))
        .into_iter()
        .find(|name| target.size(name).is_err())
        .unwrap();
    let genuine = source.store.get(&name, u64::MAX).unwrap();
    let mut damaged = genuine.clone();
    damaged[80] ^= 1;
    store.put(&name, &[&damaged]).unwrap();
    let (_, findings) = replicate(&source.store, &store, &ReplicateOptions::default()).unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(batches(&store, project), batch);
    // After the damaged file is deleted, the object is read from the batch.
    store.delete(&name).unwrap();
    copied(&source.store, &store);
    assert_eq!(store.get(&name, u64::MAX).unwrap(), genuine);
    assert!(batches(&store, project).is_empty());
}
