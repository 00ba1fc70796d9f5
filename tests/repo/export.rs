//! Exports of the difference between two backups as a diff. The diff, applied to the first image,
//! gives the second.

use cuttlebone::format::{ByteString, DiffHeader, ExtentKind};
use cuttlebone::ops::{self, ExportReport, OpsError, SnapshotNames};
use cuttlebone::repo::Backup;
use cuttlebone::storage::{
    Fault, FaultBackend, MemoryBackend, Plan, StorageErrorKind, StorageOperation,
};
use cuttlebone::volume::{NamedOutput, OutputFile};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{BLOCK, CHUNK, Host, Image, KIB, LEAF, TestRepo, noise};
use crate::rbd::{Diff, read};

/// A write to an image. The first two numbers choose the place: near the end of a leaf, anywhere in
/// a leaf, or near the end of the image. The others are the length in bytes, and the seed of the
/// noise, or `None` for zeros.
type Step = (u8, u32, usize, Option<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seed = prop::option::weighted(0.7, 0..6_u8);
    vec((any::<u8>(), any::<u32>(), 1..200 * KIB, seed), 0..8)
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        2 => 1..3 * BLOCK,
        2 => (0..4_u64, 0..3_u64).prop_map(|(leaves, odd)| (leaves * LEAF + odd).saturating_sub(1)),
        4 => 0..4 * LEAF,
        1 => 64 * LEAF..66 * LEAF,
        1 => 4096 * LEAF..4098 * LEAF,
    ]
}

fn change(image: &mut Image, steps: &[Step]) {
    for (place, at, len, seed) in steps {
        let bytes = seed.map_or_else(|| vec![0; *len], |seed| noise(seed.into(), *len));
        let leaves = image.size.div_ceil(LEAF).max(1);
        let mut offset = match (u64::from(*place), u64::from(*at)) {
            (0..32, at) => image.size.saturating_sub(at % 200_000),
            (place, at) if at % 2 == 0 => place % leaves * LEAF + LEAF - 1 - at / 2 % 70_000,
            (place, at) => place % leaves * LEAF + at % LEAF,
        };
        if len % 2 == 0 {
            offset -= offset % BLOCK;
        }
        image.write(offset, &bytes);
    }
}

/// Applies a diff to an image, as `rbd import-diff` does.
fn apply(image: &mut Image, (header, extents): &Diff) {
    image.resize(header.size);
    for (extent, data) in extents {
        match extent.kind {
            ExtentKind::Data => image.write(extent.offset, data),
            ExtentKind::Zero => {
                let zeros = vec![0; usize::try_from(extent.length).unwrap()];
                image.write(extent.offset, &zeros);
            }
        }
    }
}

fn names() -> SnapshotNames {
    SnapshotNames {
        from: Some(b"from".to_vec()),
        to: Some(b"to".to_vec()),
    }
}

/// Exports a diff. Returns the stream and the report.
fn export(
    (host, test_repo): (&Host, &TestRepo),
    from: Option<&Backup>,
    to: &Backup,
    names: SnapshotNames,
) -> Result<(Vec<u8>, ExportReport), OpsError> {
    let mut stream = Vec::new();
    let mut output = NamedOutput::new(&mut stream, "memory");
    let project = &test_repo.project;
    let report = ops::export_diff(project, from, to, names, &mut output, &host.context())?;
    drop(output);
    Ok((stream, report))
}

/// Exports a diff and asserts that it is valid. `read` fails unless extents are in ascending order
/// and within the image.
fn export_valid(world: (&Host, &TestRepo), from: Option<&Backup>, to: &Backup) -> Diff {
    let (stream, report) = export(world, from, to, names()).unwrap();
    let mut diffs = read(&stream).unwrap();
    assert_eq!(diffs.len(), 1);
    let diff = diffs.remove(0);
    let (header, extents) = &diff;
    let expected = DiffHeader {
        from: from.map(|_| b"from".to_vec()),
        to: Some(b"to".to_vec()),
        size: to.record.content.size,
        protected: None,
    };
    assert_eq!(*header, expected);
    assert_eq!(report.header, expected);
    assert_eq!(
        (report.totals.extents, report.totals.written),
        (extents.len() as u64, stream.len() as u64)
    );
    let mut before = None;
    for (extent, data) in extents {
        let is_zero = extent.kind == ExtentKind::Zero;
        assert!(!is_zero || from.is_some(), "no zeros without a base");
        assert!(extent.length <= LEAF || is_zero);
        let zeros = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        assert!(
            !data.chunks(4 * KIB).any(zeros),
            "blocks of zeros are not data"
        );
        assert!(
            !is_zero || before != Some((extent.offset, true)),
            "adjacent zeros are one extent"
        );
        before = Some((extent.end(), is_zero));
    }
    diff
}

fn assert_diffs_apply_both_ways(
    chunk: usize,
    mut a: Image,
    b_size: u64,
    first: &[Step],
    second: &[Step],
) {
    change(&mut a, first);
    let mut b = a.clone();
    b.resize(b_size);
    change(&mut b, second);
    let test_repo = TestRepo::init(MemoryBackend::new(), chunk).unwrap();
    let host = Host::with_cache();
    let world = (&host, &test_repo);
    let backup = |image| test_repo.backup(host.back_up(&test_repo, "disk", image).unwrap().id);
    let (made_a, made_b) = (backup(&a), backup(&b));
    for (from, to, before, after) in [
        (Some(&made_a), &made_b, &a, &b),
        (Some(&made_b), &made_a, &b, &a),
        (None, &made_b, &Image::new(0), &b),
        (None, &made_a, &Image::new(0), &a),
    ] {
        let diff = export_valid(world, from, to);
        let mut image = before.clone();
        apply(&mut image, &diff);
        assert_eq!(image, *after);
        // The diff has no data for chunks that did not change.
        for (extent, _) in diff.1.iter().filter(|(e, _)| e.kind == ExtentKind::Data) {
            let chunk = chunk as u64;
            for start in (extent.offset / chunk..=(extent.end() - 1) / chunk).map(|n| n * chunk) {
                let len = usize::try_from(chunk).unwrap();
                assert!(
                    before.read(start, len) != after.read(start, len),
                    "the chunk at {start} did not change"
                );
            }
        }
    }
    assert!(export_valid(world, Some(&made_b), &made_b).1.is_empty());
}

proptest! {
    #![proptest_config(super::model::config(48))]

    #[test]
    fn an_exported_diff_turns_one_backup_into_the_other(
        size_a in size(),
        size_b in prop::option::weighted(0.7, size()),
        first in steps(),
        second in steps(),
        chunk in prop::sample::select(vec![4 * KIB, 64 * KIB, 4096 * KIB]),
    ) {
        let (image, size_b) = (Image::new(size_a), size_b.unwrap_or(size_a));
        assert_diffs_apply_both_ways(chunk, image, size_b, &first, &second);
    }
}

/// Returns an image of 16 TiB with `chunks` chunks of data at equal distances.
fn vast(chunks: u64) -> Image {
    let size = 16 << 40;
    let step = size / chunks / CHUNK as u64 * CHUNK as u64;
    (0..chunks).fold(Image::new(size), |image, n| {
        image.with(n * step, &noise(n, CHUNK))
    })
}

#[test]
fn an_export_reads_only_nodes_and_chunks_that_differ() {
    let store = FaultBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::with_cache();
    let a = vast(300);
    let mut b = a.clone();
    b.write((7 << 40) + 3 * CHUNK as u64, &noise(999, 10));
    let made = |image| test_repo.backup(host.back_up(&test_repo, "disk", image).unwrap().id);
    let (made_a, made_b) = (made(&a), made(&b));
    // The image `c` consists only of the first chunk of `a`.
    let c = Image::new(CHUNK as u64).with(0, &a.read(0, CHUNK));
    let made_c = made(&c);

    let reads = |from, to: &Backup| {
        let _ = store.take_log();
        let diff = export_valid((&host, &test_repo), from, to);
        let log = store.take_log();
        let is_of_pack = |name: &str| name.contains("/packs/") || name.contains("/trees/");
        let gets = log
            .iter()
            .filter(|c| c.operation == StorageOperation::Get && is_of_pack(&c.name));
        (gets.count(), diff.1)
    };
    // The export reads the five levels of each tree, and the changed chunk.
    let (count, extents) = reads(Some(&made_a), &made_b);
    assert!(count <= 11, "{count} reads");
    let kinds: Vec<_> = extents.iter().map(|(e, _)| (e.kind, e.length)).collect();
    assert_eq!(
        kinds,
        [
            (ExtentKind::Data, BLOCK),
            (ExtentKind::Zero, CHUNK as u64 - BLOCK)
        ]
    );
    // The export reads no nodes of `a` that lie after the end of `c`.
    let (count, extents) = reads(Some(&made_a), &made_c);
    assert!(
        count <= 11 && extents.is_empty(),
        "{count} reads, {extents:?}"
    );
    let (count, extents) = reads(None, &made_b);
    assert!(count > 300 && extents.len() == 301, "{count} reads");
    assert_eq!(reads(Some(&made_b), &made_b), (0, Vec::new()));
}

#[test]
fn an_exported_diff_names_snapshots_as_the_records_or_the_user_do() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(5, b"data");
    let mut backup = test_repo.backup(host.back_up(&test_repo, "disk", &image).unwrap().id);
    let header = |from: Option<&Backup>, to: &Backup, names| {
        export((&host, &test_repo), from, to, names)
            .map(|(stream, _)| read(&stream).unwrap().remove(0).0)
    };
    let none = SnapshotNames::default;
    let plain = header(None, &backup, none()).unwrap();
    assert_eq!((plain.from, plain.to), (None, None));
    match header(Some(&backup), &backup, none()) {
        Err(OpsError::NoSnapshot { backup: named }) => assert!(named.contains("disk"), "{named}"),
        other => panic!("{other:?}"),
    }
    let named = |backup: &mut Backup, name: &[u8]| {
        let source = backup.record.source.as_mut().unwrap();
        source.snapshot = Some(ByteString::from(name));
    };
    named(&mut backup, b"mon");
    let mut later = backup.clone();
    named(&mut later, b"\xffday");
    let found = header(Some(&backup), &later, none()).unwrap();
    assert_eq!(
        (found.from, found.to),
        (Some(b"mon".to_vec()), Some(b"\xffday".to_vec()))
    );
    let found = header(Some(&backup), &later, names()).unwrap();
    assert_eq!(
        (found.from, found.to),
        (Some(b"from".to_vec()), Some(b"to".to_vec()))
    );
}

#[test]
fn an_export_between_volumes_or_of_a_stream_is_refused() {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(LEAF).with(5, b"data");
    let of = |volume| test_repo.backup(host.back_up(&test_repo, volume, &image).unwrap().id);
    let (disk, other) = (of("disk"), of("other"));
    let dump = test_repo.backup(host.back_up_stream(&test_repo, "dump", b"data").unwrap().id);
    let refused =
        |from: Option<&Backup>, to: &Backup| match export((&host, &test_repo), from, to, names()) {
            Err(error @ OpsError::NoDiff { .. }) => error.to_string(),
            result => panic!("{result:?}"),
        };
    let message = refused(Some(&disk), &other);
    for part in ["“disk”", "“other”", "different volumes"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(refused(Some(&dump), &dump).contains("stream"));
    assert!(refused(None, &dump).contains("“dump”"));
}

#[test]
fn a_failed_export_leaves_no_file_and_a_stream_without_an_end() {
    let store = FaultBackend::new();
    let test_repo = TestRepo::init(store.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    let image = Image::new(16 * LEAF).with(0, &noise(1, 9 << 20));
    let backup = test_repo.backup(host.back_up(&test_repo, "disk", &image).unwrap().id);
    let path = host.path("disk.diff");
    let before = store.calls();
    let to_file = || {
        let mut output = OutputFile::create_new(&path).unwrap();
        ops::export_diff(
            &test_repo.project,
            None,
            &backup,
            names(),
            &mut output,
            &host.context(),
        )
    };
    to_file().unwrap();
    let calls = store.calls() - before;
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let files = || host.directory.path().read_dir().unwrap().count();
    let left = files();
    // The last call removes the reader's lease. The export is complete without that.
    store.set_plan(Plan::at(calls, Fault::Fail(StorageErrorKind::Unavailable)));
    to_file().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    std::fs::remove_file(&path).unwrap();
    for call in [1, calls / 2, calls - 1] {
        store.set_plan(Plan::at(call, Fault::Fail(StorageErrorKind::Unavailable)));
        to_file().unwrap_err();
        assert_eq!(files(), left, "call {call}");
        let mut stream = Vec::new();
        store.set_plan(Plan::at(call, Fault::Fail(StorageErrorKind::Unavailable)));
        let mut output = NamedOutput::new(&mut stream, "memory");
        let (project, context) = (&test_repo.project, host.context());
        ops::export_diff(project, None, &backup, names(), &mut output, &context).unwrap_err();
        drop(output);
        assert!(
            stream.len() < whole.len() && whole.starts_with(&stream),
            "call {call}"
        );
    }
    host.cancel.cancel();
    to_file().unwrap_err();
    assert_eq!(files(), left);
}
