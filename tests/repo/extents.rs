//! Backups of images with a correct or wrong list of changed extents. The results are compared with
//! a plain model.

use std::sync::Arc;

use cuttlebone::base::{Notice, Phase};
use cuttlebone::format::ExtentList;
use cuttlebone::ops::{BackupOptions, BackupReport, Context, OpsError};
use cuttlebone::storage::{Backend, MemoryBackend};
use cuttlebone::volume::{ListedImage, RawImage};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{CHUNK, Host, Image, Input, LEAF, TestRepo, Watch, back_up, noise, options};

const STEP: u64 = CHUNK as u64;
const ALL: u64 = u64::MAX;

fn test_repo() -> (TestRepo, Host) {
    let test_repo = TestRepo::init(MemoryBackend::new(), CHUNK).unwrap();
    (test_repo, Host::without_cache())
}

/// Returns `options` with the base that the list of extents refers to. This is the base that
/// `options` already names, or otherwise the newest backup of the volume. A list for a new volume
/// has no base.
fn from_newest(test_repo: &TestRepo, options: &BackupOptions) -> BackupOptions {
    let volume = &options.volume;
    let is_first = !test_repo
        .backups()
        .iter()
        .any(|b| b.record.volume.name == *volume);
    let mut options = options.clone();
    if is_first {
        options.stated.from_nothing = true;
    } else {
        options.base.get_or_insert_with(|| volume.clone());
    }
    options
}

/// A source with a list of extents, and the number of unlisted chunks to compare with the base.
struct Sampled(Input, u64);

fn listed(host: &Host, image: &Image, extents: &[(u64, u64)], samples: u64) -> Sampled {
    let path = host.path("listed");
    image.write_to(&path);
    let image = RawImage::open(&path).unwrap();
    let extents = extents.iter().map(|(at, len)| *at..at + len).collect();
    Sampled(Box::new(ListedImage::new(image, extents)), samples)
}

fn run(
    host: &Host,
    test_repo: &TestRepo,
    Sampled(input, verify_sample): Sampled,
    options: &BackupOptions,
) -> Result<BackupReport, OpsError> {
    let options = BackupOptions {
        verify_sample,
        ..from_newest(test_repo, options)
    };
    back_up(&test_repo.project, input, &options, &host.context())
}

/// Asserts that a backup made with a list has the same content and root as one that reads
/// everything.
fn assert_same(host: &Host, test_repo: &TestRepo, report: &BackupReport, image: &Image) {
    let full = host.back_up(test_repo, "full", image).unwrap();
    let (full, made) = (
        test_repo.backup(full.id),
        test_repo.backup(report.id.unwrap()),
    );
    assert_eq!(made.record.content, full.record.content);
    assert_eq!(&host.restore_image(test_repo, &made).unwrap(), image);
}

/// Returns the offset in bytes of the unlisted change for which a list was refused.
fn refused_at(result: Result<BackupReport, OpsError>) -> u64 {
    match result {
        Err(OpsError::ListIncomplete { offset, .. }) => offset,
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone)]
struct Change {
    at: u64,
    len: usize,
    /// The seed of the noise, or `None` for zeros.
    seed: Option<u64>,
}

fn changes(size: u64) -> impl Strategy<Value = Vec<Change>> {
    let change = (
        0..size,
        1usize..200_000,
        prop::option::weighted(0.7, 1u64..50),
    );
    vec(
        change.prop_map(|(at, len, seed)| Change { at, len, seed }),
        0..6,
    )
}

fn apply(image: &mut Image, changes: &[Change]) -> Vec<(u64, u64)> {
    for Change { at, len, seed } in changes {
        match seed {
            Some(seed) => image.write(*at, &noise(*seed, *len)),
            None => image.write(*at, &vec![0; *len]),
        }
    }
    let end = |change: &Change| (change.at + change.len as u64).min(image.size);
    let inside = changes.iter().filter(|change| change.at < image.size);
    inside.map(|c| (c.at, end(c) - c.at)).collect()
}

/// Generates image sizes in bytes: near the size of a chunk or of a few leaves, or any size below
/// three leaves.
fn size() -> impl Strategy<Value = u64> {
    let around = prop::sample::select(vec![STEP, LEAF, 2 * LEAF, 3 * LEAF]);
    prop_oneof![
        (around, -3i64..4).prop_map(|(size, by)| size.saturating_add_signed(by * 4096)),
        1..3 * LEAF,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_correct_list_of_extents_gives_the_same_backup_as_a_full_read(
        sizes in vec(size(), 2..4),
        steps in vec(changes(3 * LEAF), 3),
    ) {
        let (test_repo, host) = test_repo();
        let mut image = Image::new(0);
        for (number, (size, changes)) in sizes.iter().zip(&steps).enumerate() {
            image.resize(*size);
            let extents = apply(&mut image, changes);
            let input = listed(&host, &image, &extents, ALL);
            let report = run(&host, &test_repo, input, &options("v")).unwrap();
            assert_same(&host, &test_repo, &report, &image);
            prop_assert_eq!(report.base.is_some(), number > 0);
            let read = size.div_ceil(STEP) - report.verified.unwrap();
            prop_assert!(read * STEP >= extents.iter().map(|(_, len)| *len).max().unwrap_or(0));
        }
        host.check_clean(&test_repo, "all lists");
    }

    #[test]
    fn a_list_that_misses_a_change_is_refused_and_nothing_is_stored(
        before in changes(2 * LEAF),
        after in changes(2 * LEAF),
        at in 0..2 * LEAF,
    ) {
        let (test_repo, host) = test_repo();
        let mut image = Image::new(2 * LEAF);
        apply(&mut image, &before);
        let base = host.back_up(&test_repo, "v", &image).unwrap();
        let extents = apply(&mut image, &after);
        let mut byte = image.read(at, 1);
        byte[0] ^= 0x55;
        image.write(at, &byte);
        let chunk = at / STEP;
        let listed_extents: ExtentList = extents.iter().map(|(at, len)| *at..at + len).collect();
        let listed_extents = listed_extents.widened(STEP);
        prop_assume!(!listed_extents.ranges().iter().any(|range| range.contains(&at)));

        let result = run(&host, &test_repo, listed(&host, &image, &extents, ALL), &options("v"));
        prop_assert_eq!(refused_at(result), chunk * STEP);
        prop_assert_eq!(test_repo.backups().len(), 1);
        prop_assert_eq!(test_repo.backups()[0].id, base.id);
    }
}

#[test]
fn only_listed_extents_are_read_and_the_rest_is_taken_from_the_base() {
    let (test_repo, host) = test_repo();
    let size = 4 * LEAF;
    let base = Image::new(size)
        .with(0, &noise(1, 300_000))
        .with(3 * LEAF, &noise(2, 300_000));
    let before = host.back_up(&test_repo, "v", &base).unwrap();
    let image = base.clone().with(70_000, &noise(3, 10));
    let input = listed(&host, &image, &[(70_000, 10)], 0);
    let report = run(&host, &test_repo, input, &options("v")).unwrap();
    assert_eq!(report.counts.read, STEP);
    assert_eq!((report.counts.changed, report.counts.chunks_new), (STEP, 1));
    assert_eq!((report.base, report.verified), (Some(before.id), Some(0)));
    assert_same(&host, &test_repo, &report, &image);

    // Without samples, a change that the list misses is not noticed.
    let lied = image.clone().with(3 * LEAF, &noise(4, 10));
    let input = listed(&host, &lied, &[], 0);
    let report = run(&host, &test_repo, input, &options("v")).unwrap();
    assert_same(&host, &test_repo, &report, &image);
}

#[test]
fn samples_cover_data_and_holes_and_do_not_exceed_the_requested_number() {
    let (test_repo, host) = test_repo();
    // One chunk of data in 16 leaves: 8 samples of 1024 chunks would rarely include it by chance.
    let base = Image::new(16 * LEAF).with(9 * LEAF + 5, &noise(1, 10));
    host.back_up(&test_repo, "v", &base).unwrap();
    let discarded = Image::new(16 * LEAF);
    let result = run(
        &host,
        &test_repo,
        listed(&host, &discarded, &[], 8),
        &options("v"),
    );
    assert_eq!(refused_at(result), 9 * LEAF);

    // All holes are overwritten, but the list names only the chunk that already had data.
    let mut written = base.clone();
    for leaf in 0..16 {
        written.write(leaf * LEAF, &noise(2, usize::try_from(LEAF).unwrap()));
    }
    let listing = [(9 * LEAF, STEP)];
    let result = run(
        &host,
        &test_repo,
        listed(&host, &written, &listing, 1),
        &options("v"),
    );
    refused_at(result);

    let report = run(
        &host,
        &test_repo,
        listed(&host, &base, &listing, 8),
        &options("v"),
    )
    .unwrap();
    assert_eq!(report.verified, Some(8));
    assert_eq!(report.counts.read, 9 * STEP);
    assert_eq!(test_repo.backups().len(), 2);
}

#[test]
fn without_a_base_unlisted_extents_are_zeros_with_a_notice_and_samples() {
    let (test_repo, host) = test_repo();
    let image = Image::new(2 * LEAF + 5000).with(LEAF, &noise(1, 100_000));
    let extents = [(LEAF + STEP, 34_464), (LEAF, STEP)];
    let report = run(
        &host,
        &test_repo,
        listed(&host, &image, &extents, ALL),
        &options("v"),
    )
    .unwrap();
    assert_same(&host, &test_repo, &report, &image);
    let notices = host.notices.take();
    let is_expected = |notice: &Notice| matches!(notice, Notice::NoBaseForExtents);
    assert!(notices.iter().any(is_expected), "{notices:?}");

    let result = run(
        &host,
        &test_repo,
        listed(&host, &image, &extents[..1], ALL),
        &options("w"),
    );
    assert_eq!(refused_at(result), LEAF);
    host.notices.take();
    let with_base = run(
        &host,
        &test_repo,
        listed(&host, &image, &[], ALL),
        &options("v"),
    );
    assert!(with_base.is_ok());
    assert!(host.notices.take().is_empty());
}

#[test]
fn a_backup_with_a_list_can_build_on_a_named_base() {
    let (test_repo, host) = test_repo();
    let first = Image::new(LEAF).with(0, &noise(1, 100_000));
    let old = host.back_up(&test_repo, "v", &first).unwrap();
    host.back_up(
        &test_repo,
        "v",
        &Image::new(LEAF).with(0, &noise(2, 4 << 20)),
    )
    .unwrap();
    let image = first.with(LEAF - 1, &[1]);
    let named = BackupOptions {
        base: Some(old.id.to_string()),
        ..options("v")
    };
    let input = || listed(&host, &image, &[(LEAF - 1, 1)], ALL);
    refused_at(run(&host, &test_repo, input(), &options("v")));
    let report = run(&host, &test_repo, input(), &named).unwrap();
    assert_eq!(report.base, Some(old.id));
    assert_same(&host, &test_repo, &report, &image);
}

#[test]
fn a_list_that_reaches_beyond_the_image_is_refused_at_once() {
    let (test_repo, host) = test_repo();
    let input = listed(&host, &Image::new(5000), &[(4999, 2)], ALL);
    let result = run(&host, &test_repo, input, &options("v"));
    assert!(
        matches!(
            result,
            Err(OpsError::ListBeyondEnd {
                end: 5001,
                size: 5000,
                ..
            })
        ),
        "{result:?}"
    );
    assert!(test_repo.backups().is_empty());
}

#[test]
fn a_file_backed_up_by_a_list_is_read_in_full_by_the_next_backup() {
    let (test_repo, host) = test_repo();
    let on_host = BackupOptions {
        host: Some("host".to_owned()),
        ..options("v")
    };
    let path = host.path("listed");
    let image = Image::new(LEAF).with(0, &noise(1, 100_000));
    image.write_to(&path);
    // Make the times of the file so old that a later change of the file would change them.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(old).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let open = || RawImage::open(&path).unwrap();
    let list = ListedImage::new(open(), ExtentList::default());
    let input = Sampled(Box::new(list), 0);
    run(&host, &test_repo, input, &on_host).unwrap();
    let full = run(&host, &test_repo, Sampled(Box::new(open()), 0), &on_host).unwrap();
    let backup = test_repo.backup(full.id.unwrap());
    assert_eq!(host.restore_image(&test_repo, &backup).unwrap(), image);
    // After a backup that read the whole file, the unchanged file is not read again.
    let again = run(&host, &test_repo, Sampled(Box::new(open()), 0), &on_host).unwrap();
    assert_eq!(again.counts.read, 0);
}

#[test]
fn a_refused_list_leaves_the_store_unchanged() {
    let backend = MemoryBackend::new();
    let test_repo = TestRepo::init(backend.clone(), CHUNK).unwrap();
    let host = Host::without_cache();
    host.back_up(&test_repo, "v", &Image::new(LEAF)).unwrap();
    let stored = || backend.list("").unwrap().len();
    let before = stored();
    let image = Image::new(LEAF)
        .with(0, &noise(1, 1 << 20))
        .with(2 << 20, &noise(2, 10));
    let result = run(
        &host,
        &test_repo,
        listed(&host, &image, &[(0, 1 << 20)], ALL),
        &options("v"),
    );
    assert_eq!(refused_at(result), 2 << 20);
    assert_eq!(stored(), before);
}

#[test]
fn the_comparison_of_samples_reports_its_progress() {
    let (test_repo, host) = test_repo();
    let image = Image::new(3 * LEAF).with(LEAF, &noise(1, CHUNK));
    host.back_up(&test_repo, "v", &image).unwrap();
    let watch = Arc::new(Watch::default());
    let context = Context {
        observer: watch.clone(),
        ..host.context()
    };
    // One of 192 chunks is listed.
    for (samples, compared) in [(30, 30), (ALL, 191)] {
        let Sampled(input, verify_sample) = listed(&host, &image, &[(0, 1)], samples);
        let options = BackupOptions {
            verify_sample,
            ..from_newest(&test_repo, &options("v"))
        };
        back_up(&test_repo.project, input, &options, &context).unwrap();
        let seen = watch.of(Phase::VerifySample);
        let last = seen.last().unwrap();
        assert_eq!(
            (last.done, last.total),
            (compared * STEP, Some(compared * STEP))
        );
    }
}
