//! The progress of a backup counts stored data.

use std::sync::{Arc, Mutex};

use cuttlebone::base::{Notice, Observer, Phase, Progress};
use cuttlebone::ops::{self, BackupOptions, Context};
use cuttlebone::repo::{Compression, PackSizes};
use cuttlebone::storage::{Backend, MemoryBackend};
use cuttlebone::volume::{DiffSource, NamedInput, RawImage, Source};

use super::{CHUNK, Host, KIB, TestRepo, noise, options, stream};

/// An observer that records each progress and the number of bytes in the store at that time.
struct Witness {
    store: MemoryBackend,
    /// For each progress: the bytes that are done, the total if it is known, and the bytes in the
    /// store.
    seen: Mutex<Vec<(u64, Option<u64>, u64)>>,
}

impl Observer for Witness {
    fn progress(&self, progress: Progress) {
        if progress.phase == Phase::Backup {
            let objects = self.store.list("projects").unwrap();
            let stored = objects.iter().map(|object| object.size).sum();
            let seen = (progress.done, progress.total, stored);
            self.seen.lock().unwrap().push(seen);
        }
    }

    fn notice(&self, _: Notice) {}
}

/// Backs up a source of `size` bytes that cannot be compressed. Returns the last progress.
#[track_caller]
fn watched(source: &mut dyn Source, size: u64) -> (u64, Option<u64>) {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let before: u64 = store.list("projects").unwrap().iter().map(|o| o.size).sum();
    let host = Host::without_cache();
    let witness = Arc::new(Witness {
        store,
        seen: Mutex::default(),
    });
    let context = Context {
        observer: witness.clone(),
        ..host.context()
    };
    let options = BackupOptions {
        compression: Compression::Off,
        pack_sizes: PackSizes::new(3000 * KIB, 1, 2),
        ..options("v")
    };
    ops::backup(&test_repo.project, source, &options, &context).unwrap();
    let seen = witness.seen.lock().unwrap();
    for (done, total, stored) in seen.iter() {
        assert!(done + before <= *stored, "{done} done, {stored} stored");
        assert!(total.is_none_or(|total| *done <= total));
    }
    let steps = seen.iter().filter(|(done, ..)| (1..size).contains(done));
    assert!(
        steps.count() > 2,
        "progress is shown while the backup runs: {seen:?}"
    );
    let (done, total, _) = *seen.last().unwrap();
    (done, total)
}

const SIZE: u64 = 24 << 20;

#[test]
fn progress_of_an_image_counts_only_stored_data_and_ends_with_all_of_it() {
    let host = Host::without_cache();
    let path = host.path("disk");
    std::fs::write(&path, noise(1, SIZE.try_into().unwrap())).unwrap();
    let mut image = RawImage::open(&path).unwrap();
    assert_eq!(watched(&mut image, SIZE), (SIZE, Some(SIZE)));
}

#[test]
fn progress_of_a_stream_counts_only_stored_data_and_ends_with_all_of_it() {
    let content = noise(2, SIZE.try_into().unwrap());
    let mut source = stream(&content);
    assert_eq!(watched(&mut *source, SIZE), (SIZE, None));
}

#[test]
fn progress_of_a_diff_counts_only_stored_data_and_ends_with_all_of_it() {
    let header = cuttlebone::format::DiffHeader {
        from: None,
        to: Some(b"s".to_vec()),
        size: SIZE,
        protected: None,
    };
    let mut diff = cuttlebone::format::DiffWriter::new(Vec::new(), &header).unwrap();
    for (number, piece) in (0..).zip(noise(3, SIZE.try_into().unwrap()).chunks(1 << 20)) {
        diff.extent(number << 20, 1 << 20).unwrap();
        diff.data(piece).unwrap();
    }
    let diff = diff.finish().unwrap();
    let all = diff.len() as u64;
    let mut source = DiffSource::new(NamedInput::new(std::io::Cursor::new(diff), "a diff"));
    let (done, total) = watched(&mut source, all);
    // The size of the stream is not known. Its end mark belongs to no data, so the progress may
    // omit that mark.
    assert!((SIZE..=all).contains(&done), "{done}");
    assert_eq!(total, None);
}
