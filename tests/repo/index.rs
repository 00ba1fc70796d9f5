//! Damages the index cache. If damage is noticed, the cache is rebuilt with one notice. In any
//! case, no data is lost.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use cuttlebone::base::{Notice, Silent};
use cuttlebone::repo::{
    Index, ObjectRef, Packer, PackerOptions, PackerReport, RepoError, UnindexedPacks,
};
use cuttlebone::storage::{Backend, MemoryBackend, StorageErrorKind, StorageOperation};

use super::intercepted::Intercepted;
use super::{CHUNK, Host, Image, LEAF, RecordingObserver, TestRepo, noise, scratch};
use crate::support::SmallDisk;

/// A repository with two backups, and a host with a complete index cache.
struct Warm {
    store: MemoryBackend,
    test_repo: TestRepo,
    host: Host,
    image: Image,
}

impl Warm {
    fn new() -> Self {
        let store = MemoryBackend::new();
        let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
        let host = Host::with_cache();
        let image = Image::new(6 * LEAF).with(LEAF - 9, &noise(1, 5 * CHUNK));
        host.back_up(&test_repo, "disk", &image).unwrap();
        let image = image.with(4 * LEAF, &noise(2, 5 * CHUNK));
        host.back_up(&test_repo, "disk", &image).unwrap();
        assert_eq!(rebuilt(&host), 0, "the cache is intact");
        Self {
            store,
            test_repo,
            host,
            image,
        }
    }

    fn files(&self) -> Files {
        Files::of(&self.test_repo, self.host.cache.as_ref().unwrap())
    }

    /// Returns another host with a copy of the cache, and the paths of this copy.
    fn another_host(&self) -> (Host, Files) {
        let host = Host::with_cache();
        let (from, to) = (
            self.files(),
            Files::of(&self.test_repo, host.cache.as_ref().unwrap()),
        );
        fs::create_dir_all(to.index.parent().unwrap()).unwrap();
        fs::copy(&from.index, &to.index).unwrap();
        keep_time(&to.index, modified(&from.index));
        fs::copy(&from.stamp, &to.stamp).unwrap();
        (host, to)
    }

    /// Asserts that everything works on this host: restores, a backup of known content, a backup of
    /// new content, and a check. Returns how often a rebuild of the cache was reported.
    fn assert_works(&self, host: &Host, when: &str) -> usize {
        let store = self.store.copy();
        let test_repo = TestRepo::open(store, &host.notices).unwrap();
        let newest = test_repo.backups().pop().unwrap();
        assert!(
            host.restore_image(&test_repo, &newest).unwrap() == self.image,
            "{when}"
        );
        host.back_up(&test_repo, "disk", &self.image).unwrap();
        let changed = self.image.clone().with(2 * LEAF, &noise(3, CHUNK));
        let made = host.back_up(&test_repo, "disk", &changed).unwrap();
        assert!(
            host.restore_image(&test_repo, &test_repo.backup(made.id))
                .unwrap()
                == changed,
            "{when}"
        );
        host.check_clean(&test_repo, when);
        Host::without_cache().check_clean(&test_repo, when);
        rebuilt(host)
    }
}

/// The files of an index cache. The index is trusted only if the stamp fits it.
struct Files {
    index: PathBuf,
    stamp: PathBuf,
}

impl Files {
    fn of(test_repo: &TestRepo, caches: &Path) -> Self {
        let cache = test_repo.project.cache_dir(caches);
        Self {
            index: cache.path().join("index-0.redb"),
            stamp: cache.path().join("index-0.stamp"),
        }
    }
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

fn keep_time(path: &Path, time: SystemTime) {
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// Returns how often a rebuild of the cache was reported since the last call.
fn rebuilt(host: &Host) -> usize {
    let notices = host.notices.take();
    let is_rebuilt = |notice: &&Notice| matches!(notice, Notice::IndexRebuilt(_));
    notices.iter().filter(is_rebuilt).count()
}

#[test]
fn an_intact_index_cache_is_used_and_not_rebuilt() {
    let warm = Warm::new();
    let (host, files) = warm.another_host();
    let notices = Arc::new(RecordingObserver::default());
    let before = modified(&files.index);
    let index = Index::open(
        &warm.test_repo.project,
        host.cache.as_ref().unwrap(),
        notices.clone(),
    )
    .unwrap();
    assert!(
        !files.stamp.exists(),
        "an open cache has no stamp, so a crash makes it untrusted"
    );
    assert_eq!(index.state().unwrap().path.as_deref(), Some(&*files.index));
    index.close();
    assert!(files.stamp.exists() && modified(&files.index) >= before);
    assert_eq!(warm.assert_works(&host, "as it was"), 0);
}

#[test]
fn a_missing_index_cache_is_created_without_a_notice() {
    let warm = Warm::new();
    let (host, files) = warm.another_host();
    fs::remove_dir_all(files.index.parent().unwrap()).unwrap();
    assert_eq!(warm.assert_works(&host, "the directory is missing"), 0);
    let (host, files) = warm.another_host();
    fs::remove_file(&files.index).unwrap();
    assert_eq!(
        warm.assert_works(&host, "the index is missing, but not its stamp"),
        0
    );
}

#[test]
fn a_truncated_index_cache_is_rebuilt() {
    let warm = Warm::new();
    let len = warm.files().index.metadata().unwrap().len();
    for keep in [1, 100, 4096, 5000, len / 3, len / 2, len - 4096, len - 1] {
        let (host, files) = warm.another_host();
        let file = File::options().write(true).open(&files.index).unwrap();
        file.set_len(keep).unwrap();
        drop(file);
        keep_time(&files.index, modified(&warm.files().index));
        assert_eq!(
            warm.assert_works(&host, &format!("{keep} of {len} bytes")),
            1,
            "{keep} of {len}"
        );
    }
}

/// Flips bits in a copy of the cache. Unless `trusted`, the copy has no valid stamp. Returns how
/// often the damage was noticed: 0 or 1.
fn flip(warm: &Warm, at: u64, len: usize, trusted: bool) -> usize {
    let (host, files) = warm.another_host();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&files.index)
        .unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    for byte in &mut bytes {
        *byte ^= 0x55;
    }
    file.write_all_at(&bytes, at).unwrap();
    drop(file);
    let when = format!("{len} bytes at {at} flipped, trusted: {trusted}");
    if trusted {
        keep_time(&files.index, modified(&warm.files().index));
    } else {
        fs::remove_file(&files.stamp).unwrap();
    }
    let noticed = warm.assert_works(&host, &when);
    assert!(noticed <= 1, "{when}: reported {noticed} times");
    noticed
}

/// Returns random offsets in the cache file.
fn places(len: u64, count: u64) -> impl Iterator<Item = u64> {
    let random = noise(7, 8 * usize::try_from(count).unwrap());
    let random = random
        .chunks(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
        .collect::<Vec<_>>();
    random.into_iter().map(move |at| at % (len - 4096))
}

#[test]
fn an_index_cache_with_flipped_bits_is_rebuilt() {
    let warm = Warm::new();
    let len = warm.files().index.metadata().unwrap().len();
    let mut noticed = 0;
    // Test many places at the beginning, which refers to all pages, and random places elsewhere.
    for at in (0..400).step_by(16).chain(places(len, 40)) {
        noticed += flip(&warm, at, 3, false);
    }
    assert!(noticed > 0);
    assert_eq!(flip(&warm, 0, 4096, false), 1);
    // Damage of at least one other page must be noticed. It is not known of which page, since redb
    // does not use all pages.
    let mut pages = (1..len / 4096).map(|page| flip(&warm, page * 4096, 4096, false));
    assert!(pages.any(|noticed| noticed == 1));
}

#[test]
fn a_trusted_index_cache_with_flipped_bits_loses_no_data() {
    let warm = Warm::new();
    let len = warm.files().index.metadata().unwrap().len();
    for at in (0..400).step_by(16).chain(places(len, 40)) {
        flip(&warm, at, 3, true);
    }
    for at in (0..len - 4096).step_by(usize::try_from(len / 24).unwrap()) {
        flip(&warm, at / 4096 * 4096, 4096, true);
    }
}

#[test]
fn an_index_cache_of_another_repository_is_rebuilt() {
    let (warm, other) = (Warm::new(), Warm::new());
    let (host, files) = warm.another_host();
    fs::copy(&other.files().index, &files.index).unwrap();
    keep_time(&files.index, modified(&other.files().index));
    fs::copy(&other.files().stamp, &files.stamp).unwrap();
    assert_eq!(warm.assert_works(&host, "another's"), 1);
}

#[test]
fn an_index_cache_that_is_not_a_database_is_rebuilt() {
    let warm = Warm::new();
    let (host, files) = warm.another_host();
    fs::write(&files.index, noise(1, 100_000)).unwrap();
    assert_eq!(warm.assert_works(&host, "noise"), 1);
}

#[test]
fn an_index_cache_that_cannot_be_written_is_replaced_by_memory() {
    let warm = Warm::new();
    let mut host = Host::without_cache();
    // Even root cannot create a directory inside a file.
    let file = host.path("file");
    fs::write(&file, "").unwrap();
    host.cache = Some(file.join("cache"));
    let test_repo = TestRepo::open(warm.store.copy(), &host.notices).unwrap();
    let newest = test_repo.backups().pop().unwrap();
    assert!(host.restore_image(&test_repo, &newest).unwrap() == warm.image);
    assert_eq!(rebuilt(&host), 1, "each operation reports the rebuild once");
    host.back_up(&test_repo, "disk", &warm.image).unwrap();
    assert_eq!(rebuilt(&host), 1, "each operation reports the rebuild once");
    host.check_clean(&test_repo, "no cache");

    // A directory has the name of the cache file.
    let (host, files) = warm.another_host();
    fs::remove_file(&files.index).unwrap();
    fs::create_dir(&files.index).unwrap();
    let test_repo = TestRepo::open(warm.store.copy(), &host.notices).unwrap();
    host.back_up(&test_repo, "disk", &warm.image).unwrap();
    assert_eq!(rebuilt(&host), 1);
}

#[test]
fn an_index_cache_on_a_full_disk_is_replaced_by_memory() {
    let warm = Warm::new();
    let len = warm.files().index.metadata().unwrap().len() >> 10;
    let mut reported = 0;
    for kib in [4, 64, len / 2, len - 64, len, len + 64, 2 * len, 8 * len] {
        let Some(disk) = SmallDisk::mount(kib) else {
            return;
        };
        let mut host = Host::without_cache();
        host.cache = Some(disk.path().join("cache"));
        let test_repo = TestRepo::open(warm.store.copy(), &host.notices).unwrap();
        for day in 0..3 {
            let image = warm
                .image
                .clone()
                .with(5 * LEAF, &noise(10 + day, 5 * CHUNK));
            let made = host.back_up(&test_repo, "disk", &image).unwrap();
            let noticed = rebuilt(&host);
            assert!(
                noticed <= 1,
                "{kib} KiB: reported {noticed} times in one operation"
            );
            reported += noticed;
            let backup = test_repo.backup(made.id);
            assert!(
                host.restore_image(&test_repo, &backup).unwrap() == image,
                "{kib} KiB"
            );
            assert!(rebuilt(&host) <= 1);
        }
        host.check_clean(&test_repo, &format!("{kib} KiB"));
    }
    assert!(reported > 0);
}

#[test]
fn concurrent_processes_use_separate_index_caches() {
    let warm = Warm::new();
    let (host, files) = warm.another_host();
    let cache = host.cache.as_ref().unwrap();
    let notices = Arc::new(RecordingObserver::default());
    let open = || Index::open(&warm.test_repo.project, cache, notices.clone()).unwrap();
    let (first, second) = (open(), open());
    let path = |index: &Index| index.state().unwrap().path.unwrap();
    assert_eq!(path(&first), files.index);
    assert_ne!(path(&first), path(&second));
    let counts = |index: &Index| {
        let state = index.state().unwrap();
        (state.packs, state.blobs)
    };
    assert_eq!(counts(&first), counts(&second));
    first.close();
    assert_eq!(
        path(&open()),
        files.index,
        "no process uses the first cache any longer"
    );
    drop(second);
    assert!(notices.take().is_empty());
    assert_eq!(warm.assert_works(&host, "two caches"), 0);
}

#[test]
fn segments_of_other_hosts_are_added_to_an_index_cache() {
    let warm = Warm::new();
    let another = Host::with_cache();
    let image = warm.image.clone().with(0, &noise(5, 3 * CHUNK));
    let made = another.back_up(&warm.test_repo, "theirs", &image).unwrap();
    assert!(made.chunks_new > 0);
    let again = warm.host.back_up(&warm.test_repo, "mine", &image).unwrap();
    assert_eq!(again.chunks_new, 0, "chunks of other hosts are known");
    warm.host.check_clean(&warm.test_repo, "segments added");
    assert_eq!(rebuilt(&warm.host), 0);
}

#[test]
fn an_index_cache_that_names_missing_segments_is_rebuilt() {
    let warm = Warm::new();
    let index = format!("projects/{}/index", warm.test_repo.project.id);
    let segments = warm.store.list(&index).unwrap();
    assert!(segments.len() > 2);
    for segment in [&segments[0], &segments[segments.len() - 1]] {
        let (host, _) = warm.another_host();
        let store = warm.store.copy();
        store.delete(&segment.name).unwrap();
        let test_repo = TestRepo::open(store, &host.notices).unwrap();
        let newest = test_repo.backups().pop().unwrap();
        assert!(host.restore_image(&test_repo, &newest).unwrap() == warm.image);
        assert_eq!(rebuilt(&host), 1);
        let made = host.back_up_again(&test_repo, "disk", &warm.image).unwrap();
        assert!(
            host.restore_image(&test_repo, &test_repo.backup(made.id))
                .unwrap()
                == warm.image
        );
        assert_eq!(rebuilt(&host), 0);
        host.check_clean(&test_repo, "the packs are named again");
    }
}

#[test]
fn an_index_cache_of_a_killed_process_is_usable() {
    let warm = Warm::new();
    // A copy that is made during a backup is like the file that a killed process leaves behind.
    let files = warm.files();
    let copies = scratch();
    let store = warm.store.copy();
    let test_repo = TestRepo::open(store, &warm.host.notices).unwrap();
    let image = warm.image.clone().with(0, &noise(6, 20 * CHUNK));
    let count = thread::scope(|scope| {
        let backup = scope.spawn(|| warm.host.back_up(&test_repo, "disk", &image).unwrap());
        let mut count = 0;
        while !backup.is_finished() && count < 100 {
            let copy = copies.path().join(count.to_string());
            if fs::copy(&files.index, copy).is_ok() {
                count += 1;
            }
        }
        count
    });
    assert!(count > 0);
    for number in (0..count).step_by(count / 12 + 1) {
        let (host, files) = warm.another_host();
        fs::copy(copies.path().join(number.to_string()), &files.index).unwrap();
        fs::remove_file(&files.stamp).unwrap();
        let newest = test_repo.backups().pop().unwrap();
        assert!(host.restore_image(&test_repo, &newest).unwrap() == image);
        let again = host.back_up(&test_repo, "disk", &image).unwrap();
        assert_eq!(again.chunks_new, 0, "copy {number}");
        assert!(rebuilt(&host) <= 1, "copy {number}");
    }
}

/// Stores a chunk unless the index knows it, and calls `meanwhile` before its segment is stored.
fn store_chunk(index: &Index, plain: &[u8], meanwhile: impl FnOnce()) -> PackerReport {
    let id = index.project().chunk_keys().unwrap().id(plain);
    let (unindexed, _) = UnindexedPacks::none();
    let work = |packer: &Packer<'_>| -> Result<(), RepoError> {
        let mut worker = packer.worker()?;
        packer.store_chunks(&mut worker, plain, [(id, 0..plain.len())])?;
        packer.flush(&mut worker)?;
        meanwhile();
        Ok(())
    };
    let stored = Packer::scope(index, unindexed, PackerOptions::default(), work);
    let (.., report) = stored.unwrap();
    report
}

#[test]
fn a_backup_stores_a_segment_for_an_unnamed_pack_even_if_its_index_is_rebuilt() {
    let store = MemoryBackend::new();
    let project = TestRepo::init(store.clone(), CHUNK).unwrap().project;
    let index = || Index::in_memory(&project, Arc::new(Silent)).unwrap();
    let plain = b"a chunk in a pack that no segment names";
    store_chunk(&index(), plain, || {});
    for listed in store.list("").unwrap() {
        if let Some((ObjectRef::Index(..), _)) = ObjectRef::parse(&listed.name) {
            store.delete(&listed.name).unwrap();
        }
    }

    let running = index();
    assert!(running.resync().unwrap(), "the pack's listing is read");
    // A backup does this before it relies on packs that no segment names.
    running.verify_unnamed().unwrap();
    let report = store_chunk(&running, plain, || running.rebuild().unwrap());
    assert_eq!(report.chunks_new, 0, "the chunk is known");
    // The packer has stored its segment, so a record may be committed from here on.
    let found = index()
        .find_trusted(&project.chunk_keys().unwrap().id(plain))
        .unwrap();
    assert!(found.is_some(), "a segment names the pack");
}

#[test]
fn look_ups_fail_after_a_failed_rebuild_until_the_index_is_complete_again() {
    let store = MemoryBackend::new();
    let project = TestRepo::init(store.clone(), CHUNK).unwrap().project;
    let plain = b"a chunk of the repository";
    let index = Index::in_memory(&project, Arc::new(Silent)).unwrap();
    store_chunk(&index, plain, || {});
    let id = project.chunk_keys().unwrap().id(plain);
    for failing in [StorageOperation::List, StorageOperation::Get] {
        let fails = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&fails);
        let unreliable = Intercepted::new(&store, move |operation, name| {
            let is_hit = operation == failing && name.contains("/index");
            if is_hit && flag.load(Ordering::Relaxed) {
                return Err(StorageErrorKind::Unavailable);
            }
            Ok(())
        });
        let project = TestRepo::open(unreliable, &Silent).unwrap().project;
        let index = Index::in_memory(&project, Arc::new(Silent)).unwrap();
        fails.store(true, Ordering::Relaxed);
        assert!(index.rebuild().is_err(), "{failing:?}");
        assert!(index.find_trusted(&id).is_err(), "{failing:?}");
        fails.store(false, Ordering::Relaxed);
        assert!(index.find_trusted(&id).unwrap().is_some(), "{failing:?}");
    }
}
