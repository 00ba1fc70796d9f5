//! Backups of diffs to a volume that already has backups. A diff may be of the same image as these
//! backups, or of another image. Also, backups of sources without bytes.

use cuttlebone::base::Notice;
use cuttlebone::format::{DiffHeader, DiffWriter};
use cuttlebone::ops::{self, Accept, BackupOptions, OpsError};
use cuttlebone::storage::MemoryBackend;
use cuttlebone::volume::{DiffSource, NamedInput, RawImage, Source, StreamSource};

use super::ingest::{Extents, apply, diff, ingest};
use super::{Host, Image, LEAF, TestRepo, noise, options};
use crate::rbd;

/// Returns a repository with backups of the snapshots `a` and `b` of the volume `v`, and a host.
fn a_and_b() -> (TestRepo, Host) {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let full: Extents = (0..4).map(|n| (n * LEAF, 300_000, Some(1))).collect();
    let step: Extents = vec![(LEAF, 1000, Some(2))];
    for stream in [
        diff(None, Some("a"), 4 * LEAF, &full),
        diff(Some("a"), Some("b"), 4 * LEAF, &step),
    ] {
        ingest(&host, &test_repo, &stream, &options("v")).unwrap();
    }
    host.notices.take();
    (test_repo, host)
}

fn with_id(image_id: &str) -> BackupOptions {
    let mut options = options("v");
    options.stated.image_id = Some(image_id.to_owned());
    options
}

#[test]
fn a_diff_from_the_snapshot_of_an_older_backup_needs_the_option_base() {
    let (test_repo, host) = a_and_b();
    let again = diff(Some("a"), Some("c"), 4 * LEAF, &vec![(0, 10, Some(3))]);
    let error = ingest(&host, &test_repo, &again, &options("v")).expect_err("refused");
    assert!(
        matches!(&error, OpsError::BaseNotNewest { snapshot, .. } if snapshot == "a"),
        "{error:?}"
    );
    assert_eq!(test_repo.backups().len(), 2);
    let named = BackupOptions {
        base: Some("v@a".to_owned()),
        ..options("v")
    };
    ingest(&host, &test_repo, &again, &named).unwrap();
    // Every diff that ends at the image's current state (the head) begins at the same snapshot,
    // because this snapshot is not deleted.
    for seed in 4..7 {
        let head = diff(Some("c"), None, 4 * LEAF, &vec![(0, 10, Some(seed))]);
        let reports = ingest(&host, &test_repo, &head, &options("v")).unwrap();
        assert!(!reports[0].existing);
    }
    let next = diff(Some("c"), Some("d"), 4 * LEAF, &vec![(0, 10, Some(8))]);
    ingest(&host, &test_repo, &next, &options("v")).unwrap();
    host.check_clean(&test_repo, "all diffs");
}

#[test]
fn a_base_that_only_a_snapshot_name_identifies_gives_a_notice() {
    let (test_repo, host) = a_and_b();
    let mut from = "b".to_owned();
    for (to, options, by_name) in [
        ("c", options("v"), true),
        // The record of the base has no image id.
        ("d", with_id("10ab"), true),
        ("e", with_id("10ab"), false),
        ("f", options("v"), true),
    ] {
        let step = diff(Some(&from), Some(to), 4 * LEAF, &vec![(0, 10, Some(3))]);
        let reports = ingest(&host, &test_repo, &step, &options).unwrap();
        assert_eq!(reports[0].base_by_name, by_name, "{to}");
        let is_notice = |notice: &Notice| matches!(notice, Notice::BaseByName { .. });
        assert_eq!(host.notices.take().iter().any(is_notice), by_name, "{to}");
        to.clone_into(&mut from);
    }
}

#[test]
fn another_image_id_or_source_name_is_refused_unless_the_user_accepts_new_content() {
    let (test_repo, host) = a_and_b();
    let step = |from: &str, to: &str| diff(Some(from), Some(to), 4 * LEAF, &vec![(0, 10, Some(3))]);
    let named = |name: &str| {
        let mut options = with_id("10ab");
        options.stated.name = Some(name.to_owned());
        options
    };
    ingest(&host, &test_repo, &step("b", "c"), &named("vms/one")).unwrap();
    let newest = test_repo.backups().pop().unwrap();
    let source = newest.record.source.unwrap();
    assert_eq!(source.image_id.as_deref(), Some("10ab"));
    assert_eq!(source.name.as_deref(), Some("vms/one"));
    // A backup that states no image id and no source name does not hide the id and the name that
    // earlier backups stated.
    ingest(&host, &test_repo, &step("c", "d"), &options("v")).unwrap();
    let full = diff(None, Some("e"), 4 * LEAF, &vec![(0, 300_000, Some(1))]);
    for stream in [step("d", "e"), full] {
        for options in [with_id("20cd"), named("vms/two")] {
            let error = ingest(&host, &test_repo, &stream, &options).expect_err("refused");
            assert!(matches!(error, OpsError::OtherStated { .. }), "{error:?}");
        }
    }
    let image = Image::new(4 * LEAF).with(0, &noise(1, 10));
    let path = host.path("image");
    image.write_to(&path);
    let mut image = RawImage::open(&path).unwrap();
    let result = ops::backup(
        &test_repo.project,
        &mut image,
        &with_id("20cd"),
        &host.context(),
    );
    assert!(matches!(result, Err(OpsError::OtherStated { .. })));
    assert_eq!(test_repo.backups().len(), 4);
    let accepted = BackupOptions {
        accept: Accept {
            empty: true,
            new_content: true,
            times: false,
            ..Accept::default()
        },
        ..with_id("20cd")
    };
    ingest(&host, &test_repo, &step("d", "e"), &accepted).unwrap();
    let error = ingest(&host, &test_repo, &step("e", "f"), &with_id("10ab")).expect_err("old id");
    assert!(matches!(error, OpsError::OtherStated { .. }), "{error:?}");
}

#[test]
fn a_full_diff_that_shares_nothing_with_the_newest_backup_is_refused() {
    let (test_repo, host) = a_and_b();
    let other: Extents = (0..4).map(|n| (n * LEAF, 300_000, Some(9))).collect();
    let elsewhere: Extents = vec![(2 * LEAF + 1_000_000, 300_000, Some(1))];
    let accepted = BackupOptions {
        accept: Accept {
            empty: true,
            new_content: true,
            times: false,
            ..Accept::default()
        },
        ..options("v")
    };
    for extents in [&other, &elsewhere, &Extents::new()] {
        let full = diff(None, Some("c"), 4 * LEAF, extents);
        let error = ingest(&host, &test_repo, &full, &options("v")).expect_err("refused");
        assert!(matches!(error, OpsError::NothingShared { .. }), "{error:?}");
        assert_eq!(test_repo.backups().len(), 2);
    }
    // A new volume accepts any diff. An existing volume accepts new content only if the user allows
    // it.
    let full = diff(None, Some("c"), 4 * LEAF, &other);
    ingest(&host, &test_repo, &full, &options("w")).unwrap();
    ingest(&host, &test_repo, &full, &accepted).unwrap();
    host.check_clean(&test_repo, "after the accepted diffs");
}

#[test]
fn a_full_diff_is_compared_with_the_newest_backup() {
    let (test_repo, host) = a_and_b();
    let newest = test_repo.backups().pop().unwrap();
    let mut image = Image::new(0);
    let full: Extents = (0..4).map(|n| (n * LEAF, 300_000, Some(1))).collect();
    apply(&mut image, 4 * LEAF, &full);
    apply(&mut image, 4 * LEAF, &vec![(LEAF, 1000, Some(2))]);
    assert_eq!(host.restore_image(&test_repo, &newest).unwrap(), image);
    // The full diff of the next snapshot: one chunk changed, and the last leaf was discarded.
    let head = noise(2 << 32 | LEAF, 1000);
    let header = DiffHeader {
        from: None,
        to: Some(b"c".to_vec()),
        size: 4 * LEAF,
        protected: None,
    };
    let mut writer = DiffWriter::new(Vec::new(), &header).unwrap();
    for (offset, len, _) in &full[..3] {
        let mut data = noise(1 << 32 | offset, *len);
        match *offset {
            0 => data[70_000] ^= 1,
            LEAF => data[..1000].copy_from_slice(&head),
            _ => {}
        }
        writer.extent(*offset, *len as u64).unwrap();
        writer.data(&data).unwrap();
    }
    let stream = writer.finish().unwrap();
    let report = ingest(&host, &test_repo, &stream, &options("v"))
        .unwrap()
        .remove(0);
    assert_eq!(report.base, Some(newest.id));
    // The five chunks of the leaf that is zero now, and the changed chunk.
    assert_eq!(report.counts.changed, 6 * (64 << 10));
    assert_eq!(report.counts.chunks_new, 1);
    let mut expected = image;
    let mut byte = expected.read(70_000, 1);
    byte[0] ^= 1;
    expected.write(70_000, &byte);
    expected.write(3 * LEAF, &vec![0; 300_000]);
    let made = test_repo.backup(report.id.unwrap());
    assert_eq!(host.restore_image(&test_repo, &made).unwrap(), expected);
    host.check_clean(&test_repo, "after the full diff");
}

#[test]
fn the_head_of_an_image_is_backed_up_only_if_it_differs_from_the_last_snapshot() {
    for (change, expected) in [(Extents::new(), 1), (vec![(0, 10, Some(5))], 2)] {
        let (test_repo, host) = (
            TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
            Host::without_cache(),
        );
        let diffs = [
            diff(None, Some("a"), LEAF, &vec![(0, 100_000, Some(1))]),
            diff(Some("a"), None, LEAF, &change),
        ];
        let diffs = diffs.map(|diff| rbd::read(&diff).unwrap().remove(0));
        let stream = rbd::stream_v2(&diffs);
        for existing in [false, true] {
            let reports = ingest(&host, &test_repo, &stream, &options("v")).unwrap();
            assert_eq!(reports.len(), expected);
            assert!(reports.iter().all(|report| report.existing == existing));
        }
        assert_eq!(test_repo.backups().len(), expected);
        let is_notice = |notice: &Notice| matches!(notice, Notice::HeadOfImage);
        let seen = host.notices.take().iter().filter(|n| is_notice(n)).count();
        assert_eq!(seen, expected - 1);
    }
}

#[test]
fn a_source_without_bytes_is_refused_unless_the_user_allows_it() {
    let (test_repo, host) = (
        TestRepo::init(MemoryBackend::new(), 64 << 10).unwrap(),
        Host::without_cache(),
    );
    let path = host.path("empty");
    std::fs::write(&path, b"").unwrap();
    let refuse = BackupOptions {
        accept: Accept::default(),
        ..options("v")
    };
    let sources = || -> [Box<dyn Source>; 3] {
        let stream = NamedInput::new(&b""[..], "nothing");
        let diff = std::io::Cursor::new(diff(None, Some("a"), 0, &Extents::new()));
        [
            Box::new(StreamSource::new(stream)),
            Box::new(RawImage::open(&path).unwrap()),
            Box::new(DiffSource::new(NamedInput::new(diff, "a diff"))),
        ]
    };
    for mut source in sources() {
        let result = ops::backup(&test_repo.project, &mut *source, &refuse, &host.context());
        assert!(
            matches!(result, Err(OpsError::EmptySource { .. })),
            "{result:?}"
        );
    }
    assert!(test_repo.backups().is_empty());
    for (number, mut source) in sources().into_iter().enumerate() {
        let options = options(&format!("v{number}"));
        ops::backup(&test_repo.project, &mut *source, &options, &host.context()).unwrap();
    }
    host.check_clean(&test_repo, "empty backups");
}
