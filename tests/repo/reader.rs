//! Random access to a backup: compared with a plain vector of bytes, from many threads, and with
//! damaged packs.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use cuttlebone::repo::{
    BlobReader, ChunkRef, ImageReader, Index, ObjectRef, RepoError, RepoErrorKind, RunCache,
};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend};
use proptest::prelude::*;

use super::{CHUNK, Host, Image, KIB, LEAF, Made, RecordingObserver, TestRepo, noise, stream};

/// Returns a reader of a backup, and the reader's cache of at most `limit` bytes.
fn reader(test_repo: &TestRepo, made: Made, limit: usize) -> (ImageReader, Arc<RunCache>) {
    let index =
        Index::in_memory(&test_repo.project, Arc::new(RecordingObserver::default())).unwrap();
    let runs = RunCache::new(limit);
    let backup = test_repo.backup(made.id);
    let reader = ImageReader::new(&BlobReader::new(&index), &backup).with_cache(&runs);
    (reader, runs)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

/// Asserts that a range reads as in the model.
fn assert_reads(reader: &ImageReader, model: &[u8], offset: u64, len: usize) {
    let mut buf = vec![0xaa; len];
    let read = reader.read_at(offset, &mut buf).unwrap();
    let start = model
        .len()
        .min(usize::try_from(offset).unwrap_or(usize::MAX));
    let expected = &model[start..model.len().min(start + len)];
    assert_eq!(read, expected.len(), "{len} bytes at {offset}");
    assert!(buf[..read] == *expected, "{len} bytes at {offset}");
    assert!(
        buf[read..].iter().all(|byte| *byte == 0xaa),
        "the rest of the buffer is not changed"
    );
}

/// Asserts that extents cover the range without gaps, alternate between data and zeros, and that
/// extents of zeros are zero in the model.
fn assert_extents(reader: &ImageReader, model: &[u8], range: Range<u64>) {
    let extents = reader.extents(range.clone()).unwrap();
    let size = model.len() as u64;
    let mut at = range.start.min(range.end.min(size));
    for (n, extent) in extents.iter().enumerate() {
        assert_eq!(extent.offset, at);
        assert!(extent.len > 0);
        assert!(n == 0 || extents[n - 1].is_data != extent.is_data);
        at += extent.len;
        let bytes = &model[to_usize(extent.offset)..to_usize(at)];
        if !extent.is_data {
            assert!(bytes.iter().all(|byte| *byte == 0), "{extent:?}");
        }
    }
    if range.start < range.end.min(size) {
        assert_eq!(at, range.end.min(size));
    }
    // The chunks of the tree cover exactly the extents with data.
    let whole = reader.extents(0..u64::MAX).unwrap();
    let mut chunks = Vec::new();
    let each = |chunk: ChunkRef| {
        chunks.push(chunk.range());
        Ok::<_, RepoError>(())
    };
    reader.each_chunk(each).unwrap();
    let in_data = |chunk: &Range<u64>| {
        whole.iter().any(|extent| {
            extent.is_data
                && extent.offset <= chunk.start
                && chunk.end <= extent.offset + extent.len
        })
    };
    assert!(chunks.iter().all(in_data));
    let bytes: u64 = whole.iter().filter(|e| e.is_data).map(|e| e.len).sum();
    let covered: u64 = chunks.iter().map(|chunk| chunk.end - chunk.start).sum();
    assert_eq!(bytes, covered);
}

/// Returns ranges around the edges of chunks and leaves, around the end, and far after the end.
fn edges(size: u64) -> Vec<(u64, usize)> {
    let chunk = CHUNK as u64;
    let starts = [
        0,
        1,
        chunk - 1,
        chunk,
        LEAF - 1,
        LEAF,
        size / 2,
        size - 1,
        size,
        size + 1,
    ];
    let lens = [0, 1, 511, CHUNK, CHUNK + 1, 3 * CHUNK, to_usize(LEAF) + 5];
    let pairs = starts
        .iter()
        .flat_map(|start| lens.iter().map(move |len| (*start, *len)));
    pairs.chain([(u64::MAX, 10), (u64::MAX - 5, 10)]).collect()
}

fn sparse() -> Image {
    Image::new(2 * LEAF + 3 * CHUNK as u64 + 12_345)
        .with(5, &noise(1, 3 * CHUNK))
        .with(LEAF - 10_000, &noise(2, 20_000))
        .with(2 * LEAF + CHUNK as u64, &noise(3, 2 * CHUNK + 12_345))
}

#[test]
fn any_range_of_an_image_reads_as_the_image() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = sparse();
    let made = host.back_up(&test_repo, "v", &image).unwrap();
    let (reader, _) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    let model = image.bytes();
    for (offset, len) in edges(image.size) {
        assert_reads(&reader, &model, offset, len);
    }
    let behind = image.size..u64::MAX;
    for range in [
        0..image.size,
        5..LEAF,
        LEAF..u64::MAX,
        LEAF..LEAF + 1,
        behind,
    ] {
        assert_extents(&reader, &model, range);
    }
}

#[test]
fn any_range_of_a_stream_reads_as_the_stream() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let content = [noise(1, 700_000), vec![0; 3 << 20], noise(2, 300_000)].concat();
    let made = host
        .run(&test_repo, stream(&content), &super::options("s"))
        .unwrap();
    let (reader, _) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    for (offset, len) in edges(content.len() as u64) {
        assert_reads(&reader, &content, offset, len);
    }
    assert_extents(&reader, &content, 0..u64::MAX);
    assert_extents(&reader, &content, 100..900_000);
}

#[test]
fn an_empty_image_reads_as_no_bytes_and_an_image_of_zeros_as_zeros() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    for size in [0, 1, 10 * LEAF] {
        let made = host.back_up(&test_repo, "v", &Image::new(size)).unwrap();
        let (reader, runs) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
        let model = vec![0; to_usize(size)];
        assert_reads(&reader, &model, 0, CHUNK);
        assert_reads(&reader, &model, size.saturating_sub(3), CHUNK);
        assert_extents(&reader, &model, 0..u64::MAX);
        assert_eq!(runs.bytes(), 0, "nothing is stored for zeros");
    }
}

proptest! {
    #![proptest_config(super::model::config(24))]

    /// Images that grow, shrink and get holes, with several chunk sizes.
    #[test]
    fn random_ranges_of_random_images_read_as_the_images(
        chunk_kib in prop::sample::select(vec![4_usize, 16, 64, 256]),
        steps in prop::collection::vec(
            (
                0..3 * LEAF,
                prop::collection::vec((0..3 * LEAF, 0..200_000_usize, any::<bool>()), 0..5),
            ),
            1..4,
        ),
        ranges in prop::collection::vec((0..3 * LEAF + 1000, 0..1_000_000_usize), 1..12),
    ) {
        let test_repo = TestRepo::init(MemoryBackend::new(), chunk_kib * KIB).unwrap();
        let host = Host::without_cache();
        let mut image = Image::new(0);
        let mut backups = Vec::new();
        for (n, (size, writes)) in (0..).zip(&steps) {
            image.resize(*size);
            for (m, (offset, len, zeros)) in (0..).zip(writes) {
                let bytes = if *zeros { vec![0; *len] } else { noise(n * 10 + m, *len) };
                image.write(*offset, &bytes);
            }
            backups.push((host.back_up(&test_repo, "v", &image).unwrap(), image.bytes()));
        }
        for (made, model) in backups {
            let (reader, runs) = reader(&test_repo, made, 300_000);
            for (offset, len) in &ranges {
                assert_reads(&reader, &model, *offset, *len);
                assert_extents(&reader, &model, *offset..*offset + *len as u64);
                prop_assert!(runs.bytes() <= 300_000);
            }
        }
    }
}

#[test]
fn many_threads_read_one_backup_through_one_cache() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = sparse();
    let made = host.back_up(&test_repo, "v", &image).unwrap();
    let model = image.bytes();
    let (first, runs) = reader(&test_repo, made, 1 << 20);
    let (second, _) = reader(&test_repo, made, 0);
    let second = second.with_cache(&runs);
    thread::scope(|scope| {
        for n in 0..6_u64 {
            let reader = if n % 2 == 0 {
                first.clone()
            } else {
                second.clone()
            };
            let (model, runs) = (&model, &runs);
            scope.spawn(move || {
                for m in 0..60 {
                    let offset = (n * 7919 + m * 104_729) * 4096 % image_size(model);
                    assert_reads(&reader, model, offset, 4096 + to_usize(m) * 997);
                    assert!(runs.bytes() <= 1 << 20);
                }
            });
        }
    });
    assert!(runs.bytes() > 0);
}

fn image_size(model: &[u8]) -> u64 {
    model.len() as u64
}

#[test]
fn readers_that_share_a_cache_open_a_run_once() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(0, &noise(1, 4 * CHUNK));
    let made = host.back_up(&test_repo, "v", &image).unwrap();
    let (first, runs) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    let (second, _) = reader(&test_repo, made, 0);
    let second = second.with_cache(&runs);
    let model = image.bytes();
    assert_reads(&first, &model, 1000, 5000);
    let held = runs.bytes();
    assert_eq!(held, 4 * CHUNK, "only the run is in the cache");
    // Without the packs, the second reader can only use the cache.
    for object in store.list("projects").unwrap() {
        if let Some((ObjectRef::Pack(..), _)) = ObjectRef::parse(&object.name) {
            store.delete(&object.name).unwrap();
        }
    }
    assert_reads(&second, &model, 70_000, 100_000);
    assert_eq!(runs.bytes(), held);
}

#[test]
fn damage_is_reported_with_its_offset_and_harms_no_other_range() {
    let store = MemoryBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    // Two leaves, each in its own pack.
    let image = Image::new(2 * LEAF)
        .with(0, &noise(1, 4 * CHUNK))
        .with(LEAF + 2 * CHUNK as u64, &noise(2, 4 * CHUNK));
    let made = host.back_up(&test_repo, "v", &image).unwrap();
    let model = image.bytes();
    let damaged_at = LEAF + 2 * CHUNK as u64;
    let (whole, _) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    let mut chunk = None;
    let each = |found: ChunkRef| {
        if found.offset == damaged_at {
            chunk = Some(found.id);
        }
        Ok::<_, RepoError>(())
    };
    whole.each_chunk(each).unwrap();
    let pack = whole
        .blobs()
        .index()
        .find_readable(&chunk.unwrap())
        .unwrap()
        .unwrap()
        .pack();
    let name = ObjectRef::Pack(test_repo.project.id, pack).name();
    let mut bytes = store.get(&name, 1 << 30).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(&name).unwrap();
    store.put(&name, &[&bytes]).unwrap();

    let (reader, runs) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    for (offset, len) in [
        (damaged_at, 1),
        (damaged_at - 5, 10),
        (0, to_usize(2 * LEAF)),
    ] {
        let error = reader.read_at(offset, &mut vec![0; len]).unwrap_err();
        assert_eq!(error.kind(), RepoErrorKind::Damaged);
        assert!(
            matches!(error, RepoError::Unreadable { offset, .. } if offset == damaged_at),
            "{error:?}"
        );
    }
    assert_reads(&reader, &model, 0, to_usize(damaged_at));
    assert_reads(&reader, &model, LEAF + 7 * CHUNK as u64, CHUNK);
    assert_eq!(runs.bytes(), 0, "damaged data is not cached");
    assert_extents(&reader, &model, 0..u64::MAX);
}

/// Listing the extents of one leaf reads one node for each level of the tree.
#[test]
fn extents_read_only_the_nodes_of_their_range() {
    let store = FaultBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let mut image = Image::new(200 * LEAF);
    for leaf in 0..200 {
        image.write(leaf * LEAF, &noise(leaf, 4096));
    }
    let made = host.back_up(&test_repo, "v", &image).unwrap();
    let (reader, _) = reader(&test_repo, made, RunCache::DEFAULT_LIMIT);
    let _ = store.take_log();
    let extents = reader.extents(70 * LEAF..71 * LEAF).unwrap();
    assert_eq!(extents.len(), 2);
    assert_eq!(extents[0].len, CHUNK as u64);
    let calls = store.take_log();
    assert_eq!(calls.len(), 3, "one call for each level: {calls:?}");
}
