//! Backs up RBD diffs: streams that Ceph wrote, and diffs for which the repository has no base.
//! Random chains of diffs are in `ingest_model.rs`.

use std::io::Read;
use std::sync::Arc;

use cuttlebone::base::Phase;
use cuttlebone::format::{DiffHeader, DiffWriter};
use cuttlebone::ops::{self, BackupOptions, BackupReport, Context, OpsError};
use cuttlebone::storage::{Backend, FaultBackend, MemoryBackend};
use cuttlebone::volume::{DiffSource, InputFile, NamedInput};

use super::prune::is_pack;
use super::{Host, Image, LEAF, TestRepo, Watch, noise, options};
use crate::rbd;

/// The extents of a diff: offset, length, and the seed of the noise, or `None` for zeros.
pub(super) type Extents = Vec<(u64, usize, Option<u8>)>;

pub(super) fn ingest(
    host: &Host,
    test_repo: &TestRepo,
    stream: &[u8],
    options: &BackupOptions,
) -> Result<Vec<BackupReport>, OpsError> {
    let mut source = DiffSource::new(NamedInput::new(stream, "a diff"));
    ops::backup(&test_repo.project, &mut source, options, &host.context())
}

pub(super) fn diff(from: Option<&str>, to: Option<&str>, size: u64, extents: &Extents) -> Vec<u8> {
    let name = |name: Option<&str>| name.map(|name| name.as_bytes().to_vec());
    let header = DiffHeader {
        from: name(from),
        to: name(to),
        size,
        protected: None,
    };
    let mut writer = DiffWriter::new(Vec::new(), &header).unwrap();
    for (offset, len, seed) in extents {
        match seed {
            Some(seed) => {
                writer.extent(*offset, *len as u64).unwrap();
                writer
                    .data(&noise(u64::from(*seed) << 32 | offset, *len))
                    .unwrap();
            }
            None => writer.zero(*offset, *len as u64).unwrap(),
        }
    }
    writer.finish().unwrap()
}

pub(super) fn apply(image: &mut Image, size: u64, extents: &Extents) {
    image.resize(size);
    for (offset, len, seed) in extents {
        let bytes = match seed {
            Some(seed) => noise(u64::from(*seed) << 32 | offset, *len),
            None => vec![0; *len],
        };
        image.write(*offset, &bytes);
    }
}

fn restored(host: &Host, test_repo: &TestRepo, report: &BackupReport) -> Vec<u8> {
    let backup = test_repo.backup(report.id.unwrap());
    host.restore(test_repo, &backup).unwrap()
}

/// Backs up each chain of diffs to a separate volume, with chunks of the smallest and of the
/// default size.
#[test]
fn every_diff_fixture_gives_the_same_image_as_ceph() {
    let chains: [&[&str]; 14] = [
        &[
            "std-full-s1",
            "std-inc-s1-s2",
            "std-inc-s2-s3-grow",
            "std-inc-s3-s4-shrink",
            "std-inc-s4-s5-empty",
            "std-inc-s5-s6-utf8",
            "std-inc-s6-s7-regrow",
            "std-inc-s7-head",
        ],
        &["std-full-s1", "std-inc-s1-s3", "std-inc-s3-s4-shrink"],
        &["std-full-s1", "std-inc-s1-s7", "std-inc-s7-head"],
        &["std-full-s1", "std-inc-s1-s2-whole"],
        &["std-full-s2", "std-merge-s2-s4"],
        &["std-full-s1", "std-merge-s1-s3"],
        &["std-merge-full-s2", "std-inc-s2-s3-grow"],
        &["std-full-head"],
        &["wo-full-a", "wo-inc-a-b", "wo-inc-b-c"],
        &["wo-full-a-whole", "wo-inc-a-b-whole", "wo-inc-b-c-whole"],
        &["big-full-a", "big-inc-a-b"],
        &["stripe-full-a"],
        &["empty-full-a"],
        &["nil-full-a"],
    ];
    let streams = rbd::streams();
    for chunk in [4 << 10, 64 << 10] {
        let (test_repo, host) = (
            TestRepo::init(MemoryBackend::new(), chunk).unwrap(),
            Host::with_cache(),
        );
        for (number, chain) in chains.iter().enumerate() {
            let options = options(&format!("chain {number}"));
            for name in *chain {
                let name = format!("{name}.diff");
                let expected = streams
                    .iter()
                    .find(|stream| stream["file"] == name)
                    .unwrap();
                let stream = rbd::bytes(&name);
                let reports = ingest(&host, &test_repo, &stream, &options).expect(&name);
                let [report] = &reports[..] else {
                    unreachable!("one diff")
                };
                assert!(!report.existing);
                let content = restored(&host, &test_repo, report);
                let found = rbd::digest(&content);
                assert_eq!(expected["result"]["blake2b"], found, "{name}");

                let again = ingest(&host, &test_repo, &stream, &options).expect(&name);
                assert!(again[0].existing && again[0].id == report.id, "{name}");
            }
        }
        host.check_clean(&test_repo, "all chains");
    }
}

#[test]
fn a_v2_stream_with_several_diffs_becomes_a_chain_of_backups() {
    for stream in rbd::streams() {
        if stream["format"] != "rbd image v2" {
            continue;
        }
        let name = stream["file"].as_str().unwrap();
        let (test_repo, host) = (
            TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
            Host::without_cache(),
        );
        let bytes = rbd::bytes(name);
        let reports = ingest(&host, &test_repo, &bytes, &options("v")).expect(name);
        let snapshots = stream["snapshots"].as_array().unwrap();
        // If an image was not written to since its last snapshot, its current state (the head) does
        // not become a new backup.
        let last = snapshots.last().map(|snapshot| &snapshot["blake2b"]);
        let is_new = last != Some(&stream["result"]["blake2b"]);
        assert_eq!(
            reports.len(),
            snapshots.len() + usize::from(is_new),
            "{name}"
        );
        for (number, report) in reports.iter().enumerate() {
            let expected = snapshots.get(number).map_or_else(
                || &stream["result"]["blake2b"],
                |snapshot| &snapshot["blake2b"],
            );
            let content = restored(&host, &test_repo, report);
            assert_eq!(expected, &rbd::digest(&content), "{name} {number}");
            let backup = test_repo.backup(report.id.unwrap());
            let before = number.checked_sub(1).and_then(|before| reports[before].id);
            assert_eq!(backup.record.base, before);
            let snapshot = report.snapshot.as_ref().map(ToString::to_string);
            let expected = snapshots.get(number).and_then(|s| s["snap"].as_str());
            assert_eq!(snapshot.as_deref(), expected);
        }
        let again = ingest(&host, &test_repo, &bytes, &options("v")).expect(name);
        assert!(again.iter().all(|report| report.existing), "{name}");
        assert_eq!(test_repo.backups().len(), reports.len());

        // A truncated stream commits no backup.
        for at in [bytes.len() - 1, bytes.len() / 2, bytes.len() * 9 / 10] {
            ingest(&host, &test_repo, &bytes[..at], &options("cut")).expect_err(name);
        }
        assert_eq!(test_repo.backups().len(), reports.len());
        host.check_clean(&test_repo, name);
    }
}

#[test]
fn an_invalid_diff_commits_nothing() {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let valid = [
        "good.diff",
        "name-4096.diff",
        "name-at.diff",
        "name-not-utf8.diff",
        "to-exists.diff",
    ];
    let mut seen = 0;
    for entry in std::fs::read_dir(rbd::fixture("bad")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "diff") {
            continue;
        }
        seen += 1;
        let before = test_repo.backups().len();
        let result = ingest(
            &host,
            &test_repo,
            &std::fs::read(&path).unwrap(),
            &options(name),
        );
        let committed = test_repo.backups().len() - before;
        if valid.contains(&name) {
            assert_eq!((result.expect(name).len(), committed), (1, 1), "{name}");
        } else {
            result.expect_err(name);
            assert_eq!(committed, 0, "{name}");
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_diff_without_a_matching_base_is_refused_and_nothing_is_stored() {
    let store = MemoryBackend::new();
    let (test_repo, host) = (
        TestRepo::init(store.clone(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let size = 3 * LEAF;
    let data: Extents = vec![(5, 100_000, Some(1))];
    let full = |to: &str, seed| diff(None, Some(to), size, &vec![(5, 100_000, Some(seed))]);
    let step = |from: &str, to: &str| diff(Some(from), Some(to), size, &data);
    let take = |stream: &[u8], options: &BackupOptions| ingest(&host, &test_repo, stream, options);
    let with_base = |base: &str, force_base| BackupOptions {
        base: Some(base.to_owned()),
        force_base,
        ..options("v")
    };
    take(&full("a", 1), &options("v")).unwrap();
    take(&full("a", 2), &options("other")).unwrap();
    let a = test_repo.backups()[0].id.to_string();
    let other_backup = test_repo.backups()[1].id.to_string();
    let stored = || store.list("").unwrap().len();
    let before = stored();

    let refused = |stream: &[u8], options: &BackupOptions| {
        let error = take(stream, options).expect_err("refused");
        assert_eq!(stored(), before, "{error}");
        error
    };
    let error = refused(&step("b", "c"), &options("v"));
    assert!(
        matches!(&error, OpsError::NoBase { known, empty: false, .. } if known == &["a"]),
        "{error:?}"
    );
    let error = refused(&step("a", "b"), &options("nothing"));
    assert!(
        matches!(error, OpsError::NoBase { empty: true, .. }),
        "{error:?}"
    );
    let error = refused(&step("a", "b"), &with_base(&other_backup, false));
    assert!(
        matches!(error, OpsError::BaseOfOtherVolume { .. }),
        "{error:?}"
    );
    let error = refused(&step("b", "c"), &with_base(&a, false));
    assert!(
        matches!(error, OpsError::BaseOfOtherSnapshot { .. }),
        "{error:?}"
    );
    let error = refused(&full("b", 1), &with_base(&a, true));
    assert!(matches!(error, OpsError::NeedsNoBase { .. }), "{error:?}");
    // The volume has this snapshot with different content.
    let error = refused(&full("a", 3), &options("v"));
    assert!(matches!(error, OpsError::SnapshotTaken { .. }), "{error:?}");
    // With --reread, content of another size is refused, too.
    let larger = diff(None, Some("a"), size + 1, &data);
    let error = refused(&larger, &super::reread("v"));
    assert!(matches!(error, OpsError::SnapshotTaken { .. }), "{error:?}");

    // A matching base is accepted. With --force-base, any base is accepted.
    take(&step("a", "b"), &with_base(&a, false)).unwrap();
    take(&step("x", "c"), &with_base(&a, true)).unwrap();
    host.check_clean(&test_repo, "after the accepted diffs");
}

/// Chunks that a diff zeroes or cuts off count as changed, even where it clears or cuts off whole
/// leaves of the tree.
#[test]
fn zeroed_and_truncated_data_counts_as_changed() {
    const CHUNK: u64 = 64 << 10;
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let size = 300 * LEAF;
    // Two chunks in each of four leaves, and one at the end.
    let full: Extents = (0..4)
        .map(|n| (n * LEAF + 5000, 100_000, Some(1)))
        .chain([(size - 10, 10, Some(1))])
        .collect();
    let changed = |from: Option<&str>, to: &str, size, extents: &Extents| {
        let stream = diff(from, Some(to), size, extents);
        let report = ingest(&host, &test_repo, &stream, &options("v"))
            .unwrap()
            .remove(0);
        report.counts.changed / CHUNK
    };
    assert_eq!(changed(None, "a", size, &full), 9);
    let clear: Extents = vec![(LEAF - 1, (2 << 22) + 2, None)];
    assert_eq!(changed(Some("a"), "b", size, &clear), 4);
    assert_eq!(changed(Some("b"), "c", 3 * LEAF + 70_000, &Vec::new()), 2);
    assert_eq!(changed(Some("c"), "d", 5000, &Vec::new()), 4);
    assert_eq!(changed(Some("d"), "e", size, &Vec::new()), 0);
    host.check_clean(&test_repo, "cleared");
}

#[test]
fn a_stream_with_a_repeated_snapshot_name_is_refused() {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let diffs = [
        diff(None, Some("a"), LEAF, &vec![(0, 10, Some(1))]),
        diff(Some("a"), Some("a"), LEAF, &vec![(0, 10, Some(2))]),
        diff(Some("a"), None, LEAF, &Vec::new()),
    ];
    let diffs = diffs.map(|diff| rbd::read(&diff).unwrap().remove(0));
    let error =
        ingest(&host, &test_repo, &rbd::stream_v2(&diffs), &options("v")).expect_err("twice");
    assert!(
        matches!(&error, OpsError::SnapshotTwice { snapshot, .. } if snapshot == "a"),
        "{error:?}"
    );
    assert!(test_repo.backups().is_empty());
}

#[test]
fn examining_a_diff_reports_its_progress() {
    let host = Host::without_cache();
    let path = host.path("diff");
    let data: Extents = (0..9).map(|n| (n * LEAF, 50_000, Some(1))).collect();
    let stream = diff(None, Some("a"), 9 * LEAF, &data);
    std::fs::write(&path, &stream).unwrap();
    let watch = Arc::new(Watch::default());
    let source = InputFile::open(&path).unwrap();
    let context = Context {
        observer: watch.clone(),
        ..host.context()
    };
    ops::examine_diff(&source, &context).unwrap();
    let seen = watch.of(Phase::InspectDiff);
    assert_eq!(seen.len(), 9);
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert!(
        seen.iter()
            .all(|progress| progress.total == Some(stream.len() as u64))
    );
}

/// Each diff stores the lost chunks of its own extents again; the rest comes from its base.
#[test]
fn a_diff_with_reread_stores_lost_chunks_again() {
    let store = MemoryBackend::new();
    let (test_repo, host) = (
        TestRepo::init(store.clone(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let full: Extents = vec![(5, 300_000, Some(1)), (2 * LEAF, 100_000, Some(2))];
    let change: Extents = vec![(70_000, 1000, Some(3))];
    let streams = [
        diff(None, Some("a"), 3 * LEAF, &full),
        diff(Some("a"), Some("b"), 3 * LEAF, &change),
    ];
    let reports = streams.each_ref().map(|stream| {
        let mut reports = ingest(&host, &test_repo, stream, &options("v")).unwrap();
        reports.remove(0)
    });
    let whole = reports
        .each_ref()
        .map(|report| restored(&host, &test_repo, report));
    for object in store.list("").unwrap() {
        if is_pack(&object.name) {
            store.delete(&object.name).unwrap();
        }
    }
    assert!(host.check(&test_repo, true).0.errors > 0);
    // Without --reread, a backup would rely on the index, which still names the lost packs.
    let reread = super::reread("v");
    for stream in &streams {
        let reports = ingest(&host, &test_repo, stream, &reread).unwrap();
        assert!(reports[0].existing);
    }
    let found = reports
        .each_ref()
        .map(|report| restored(&host, &test_repo, report));
    assert!(found == whole);
}

#[test]
fn if_two_backups_of_a_snapshot_differ_the_user_must_name_the_base() {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let full = |seed| diff(None, Some("a"), LEAF, &vec![(0, 10_000, Some(seed))]);
    let options = options("v");
    // This is the state after concurrent backups on two hosts that did not see each other.
    let other = BackupOptions {
        volume: "w".to_owned(),
        ..options.clone()
    };
    ingest(&host, &test_repo, &full(1), &options).unwrap();
    ingest(&host, &test_repo, &full(2), &other).unwrap();
    let mut record = test_repo.backups()[1].record.clone();
    record.volume = test_repo.backups()[0].record.volume.clone();
    commit_as(&test_repo, &record);
    let step = diff(Some("a"), Some("b"), LEAF, &Vec::new());
    let error = ingest(&host, &test_repo, &step, &options).expect_err("ambiguous");
    let OpsError::AmbiguousBase { backups, .. } = &error else {
        unreachable!("{error:?}")
    };
    let chosen = BackupOptions {
        base: Some(backups[1].clone()),
        ..options
    };
    ingest(&host, &test_repo, &step, &chosen).unwrap();
}

/// Stores a record in the repository without any checks.
fn commit_as(test_repo: &TestRepo, record: &cuttlebone::format::BackupRecord) {
    test_repo
        .project
        .put_sealed(cuttlebone::repo::ObjectRef::Backup, &record.encode())
        .unwrap();
}

#[test]
fn the_cost_of_a_diff_does_not_depend_on_the_size_of_the_volume() {
    let calls = |size: u64| {
        let store = FaultBackend::new();
        let test_repo = TestRepo::init(store.clone(), 64 << 10).unwrap();
        let host = Host::with_cache();
        let data: Extents = (0..50)
            .map(|n| (n * 3 * LEAF + 700, 5000, Some(1)))
            .collect();
        ingest(
            &host,
            &test_repo,
            &diff(None, Some("a"), size, &data),
            &options("v"),
        )
        .unwrap();
        let before = store.calls();
        let change: Extents = (0..5).map(|n| (n * 3 * LEAF, 1000, Some(2))).collect();
        let stream = diff(Some("a"), Some("b"), size, &change);
        ingest(&host, &test_repo, &stream, &options("v")).unwrap();
        store.calls() - before
    };
    let (small, large) = (calls(8 << 30), calls(16 << 40));
    assert!(
        large <= small + 20,
        "{small} calls at 8 GiB, {large} at 16 TiB"
    );
}

#[test]
fn memory_does_not_depend_on_lengths_that_a_diff_states() {
    /// A reader that ends after 64 MiB of zeros. It counts the bytes that it has returned.
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 += into.len() as u64;
            if self.0 > 64 << 20 {
                return Ok(0);
            }
            into.fill(0);
            Ok(into.len())
        }
    }
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let mut head = diff(None, Some("a"), 1 << 60, &Vec::new());
    head.pop();
    head.push(b'w');
    head.extend_from_slice(&0_u64.to_le_bytes());
    head.extend_from_slice(&(1_u64 << 60).to_le_bytes());
    let endless = NamedInput::new((&head[..]).chain(Endless(0)), "endless");
    let mut source = DiffSource::new(endless);
    let result = ops::backup(
        &test_repo.project,
        &mut source,
        &options("v"),
        &host.context(),
    );
    let error = result.expect_err("the stream is truncated");
    assert!(matches!(error, OpsError::DamagedDiff { .. }), "{error:?}");
    assert!(test_repo.backups().is_empty());
}
