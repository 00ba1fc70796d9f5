//! Tests the cache of objects on the host: it saves requests to the store, and changes no results.

use std::fs;
use std::path::PathBuf;

use cuttlebone::base::ObjectHash;
use cuttlebone::repo::{ObjectRef, PackSizes};
use cuttlebone::storage::{Backend, Call, FaultBackend, MemoryBackend};

use super::{BLOCK, CHUNK, Host, Image, LEAF, TestRepo, noise, options};

/// Opens the repository, and caches its objects on this host.
fn open_with_cache(host: &Host, store: impl Backend + 'static) -> TestRepo {
    let mut test_repo = TestRepo::open(store, &host.notices).unwrap();
    test_repo.project.keep_copies(host.cache.as_ref().unwrap());
    test_repo
}

/// Returns a store with a new repository.
fn new_store() -> MemoryBackend {
    let store = MemoryBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    store
}

/// Returns an image of 64 leaves with data in 20 places.
fn image() -> Image {
    (0..20).fold(Image::new(64 * LEAF), |image, n| {
        image.with(n * 3 * LEAF + 9 * BLOCK, &noise(n, 2 * CHUNK))
    })
}

/// Returns the paths of all cached objects.
fn cached_objects(host: &Host, test_repo: &TestRepo) -> Vec<PathBuf> {
    let cache = test_repo.project.cache_dir(host.cache.as_ref().unwrap());
    let listed = fs::read_dir(cache.path().join("objects")).unwrap();
    listed.map(|entry| entry.unwrap().path()).collect()
}

/// Returns the hash that a cached object should have: its file name.
fn hash_of(path: &std::path::Path) -> ObjectHash {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

/// Returns whether the content of a cached object has the hash that its file name states.
fn is_whole(path: &PathBuf) -> bool {
    let hash = blake3::hash(&fs::read(path).unwrap());
    ObjectHash::from_bytes(*hash.as_bytes()) == hash_of(path)
}

/// Returns the calls to the store that an incremental backup of a large image makes, including
/// those that open the repository.
fn calls_of_a_backup(with_cache: bool) -> Vec<Call> {
    let store = FaultBackend::new();
    TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let back_up = |image: &Image| {
        let test_repo = if with_cache {
            open_with_cache(&host, store.clone())
        } else {
            TestRepo::open(store.clone(), &host.notices).unwrap()
        };
        let mut options = options("disk");
        options.pack_sizes = PackSizes::default();
        host.run(&test_repo, host.image(image).unwrap(), &options)
            .unwrap()
    };
    let offset = |n: u64| n * 655 * LEAF;
    let mut image = Image::new(1 << 40);
    for n in 0..400 {
        image.write(offset(n), &noise(n, 4096));
    }
    back_up(&image);
    for n in 0..100 {
        image.write(offset(n * 4) + 30 * BLOCK, &noise(1000 + n, 4096));
    }
    let _ = store.take_log();
    let made = back_up(&image);
    let log = store.take_log();
    assert_eq!(made.chunks_new, 100);
    let test_repo = TestRepo::open(store, &host.notices).unwrap();
    let restored = host.restore_image(&test_repo, &test_repo.backup(made.id));
    assert!(restored.unwrap() == image);
    log
}

#[test]
fn a_backup_with_cached_objects_makes_few_requests() {
    let without = calls_of_a_backup(false).len();
    let log = calls_of_a_backup(true);
    let calls: Vec<_> = log
        .iter()
        .map(|c| (c.operation, &c.name, c.bytes))
        .collect();
    println!(
        "calls without a cache: {without}, with a cache: {}",
        log.len()
    );
    assert!(calls.len() < 40 && calls.len() * 3 < without, "{calls:#?}");
}

#[test]
fn results_are_the_same_with_and_without_cached_objects() {
    let store = new_store();
    let (first, second, plain) = (Host::with_cache(), Host::with_cache(), Host::with_cache());
    let mut image = image();
    first
        .back_up(&open_with_cache(&first, store.clone()), "disk", &image)
        .unwrap();
    for n in 0..3 {
        image.write(n * 5 * LEAF, &noise(100 + n, CHUNK));
        let other_host = TestRepo::open(store.copy(), &plain.notices).unwrap();
        let without = plain.back_up(&other_host, "disk", &image).unwrap();
        // The hosts `second` and `first` take turns, so that each finds the objects of the other.
        for host in [&second, &first] {
            let test_repo = open_with_cache(host, store.clone());
            let made = host.back_up(&test_repo, "disk", &image).unwrap();
            if std::ptr::eq(host, &raw const second) {
                assert_eq!(made.chunks_new, without.chunks_new);
            }
            for (reader, test_repo) in [
                (&first, open_with_cache(&first, store.clone())),
                (&second, open_with_cache(&second, store.clone())),
                (
                    &plain,
                    TestRepo::open(store.clone(), &plain.notices).unwrap(),
                ),
            ] {
                let newest = test_repo.backups().pop().unwrap();
                assert_eq!(newest.id, made.id);
                assert!(reader.restore_image(&test_repo, &newest).unwrap() == image);
            }
        }
    }
    plain.check_clean(
        &TestRepo::open(store, &plain.notices).unwrap(),
        "after backups by both hosts in turn",
    );
}

#[test]
fn a_damaged_cached_object_is_fetched_again() {
    type Damage = (&'static str, fn(&PathBuf));
    let damages: [Damage; 4] = [
        ("one bit is flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("the second half is missing", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("the file is empty", |path| fs::write(path, []).unwrap()),
        ("the file is deleted", |path| fs::remove_file(path).unwrap()),
    ];
    let store = new_store();
    let mut image = image();
    for (n, (how, damage)) in (0..).zip(damages) {
        let host = Host::with_cache();
        image.write(n * 2 * LEAF, &noise(200 + n, CHUNK));
        let test_repo = open_with_cache(&host, store.clone());
        host.back_up(&test_repo, "disk", &image).unwrap();
        let records: Vec<_> = test_repo.backups().iter().map(|backup| backup.id).collect();
        let files = cached_objects(&host, &test_repo);
        assert!(files.iter().all(is_whole) && files.len() > records.len());
        files.iter().for_each(damage);

        let test_repo = open_with_cache(&host, store.clone());
        let backups = test_repo.backups();
        assert!(
            backups
                .iter()
                .map(|backup| backup.id)
                .eq(records.iter().copied())
        );
        let newest = backups.last().unwrap();
        assert!(
            host.restore_image(&test_repo, newest).unwrap() == image,
            "{how}"
        );
        let files = cached_objects(&host, &test_repo);
        let whole: Vec<_> = files.iter().filter(|path| is_whole(path)).collect();
        let whole: Vec<_> = whole.into_iter().map(|path| hash_of(path)).collect();
        assert!(records.iter().all(|record| whole.contains(record)), "{how}");
        assert!(
            whole.len() > records.len(),
            "{how}: no node pack was cached again"
        );

        image.write(40 * LEAF, &noise(300 + n, CHUNK));
        host.back_up(&test_repo, "disk", &image).unwrap();
        host.check_clean(&test_repo, how);
    }
}

#[test]
fn the_store_decides_which_objects_exist_not_the_cache() {
    let store = new_store();
    let host = Host::with_cache();
    let test_repo = open_with_cache(&host, store.clone());
    let made = host.back_up(&test_repo, "disk", &image()).unwrap();
    let kept = host
        .back_up_stream(&test_repo, "pipe", &noise(1, CHUNK))
        .unwrap();
    let object = ObjectRef::Backup(test_repo.project.id, made.id);
    store.delete(&object.name()).unwrap();
    assert!(
        cached_objects(&host, &test_repo)
            .iter()
            .any(|path| hash_of(path) == made.id)
    );
    for test_repo in [test_repo, open_with_cache(&host, store)] {
        let left: Vec<_> = test_repo.backups().iter().map(|backup| backup.id).collect();
        assert_eq!(left, [kept.id]);
    }
}

#[test]
fn deleting_an_object_deletes_its_cached_copy() {
    let store = new_store();
    let host = Host::with_cache();
    let test_repo = open_with_cache(&host, store);
    let made = host.back_up(&test_repo, "disk", &image()).unwrap();
    let object = ObjectRef::Backup(test_repo.project.id, made.id);
    let is_cached = || {
        cached_objects(&host, &test_repo)
            .iter()
            .any(|path| hash_of(path) == made.id)
    };
    assert!(is_cached());
    test_repo.project.objects.delete(object).unwrap();
    assert!(!is_cached());
}

#[test]
fn check_reads_the_store_and_not_the_cache() {
    let store = new_store();
    let host = Host::with_cache();
    let test_repo = open_with_cache(&host, store.clone());
    host.back_up(&test_repo, "disk", &image()).unwrap();
    for object in cached_objects(&host, &test_repo)
        .iter()
        .map(|path| hash_of(path))
    {
        let copied = store.copy();
        let names = [
            ObjectRef::Backup(test_repo.project.id, object).name(),
            ObjectRef::Tree(test_repo.project.id, object).name(),
        ];
        let found = names.iter().find_map(|name| {
            let bytes = copied.get(name, u64::MAX).ok()?;
            Some((name, bytes))
        });
        let (name, mut bytes) = found.unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        copied.put(name, &[&bytes]).unwrap();
        let test_repo = open_with_cache(&host, copied);
        assert_eq!(
            test_repo.backups().len(),
            1,
            "the record is read from the cache"
        );
        let (report, _) = host.check(&test_repo, true);
        assert!(report.errors > 0, "{name}");
    }
}
