//! A backup of RBD diffs, in which the store crashes at each call or fails at each write in turn.
//! The test backs up a diff between two snapshots, and the stream of an image with its snapshot.
//! After each fault, another backup runs. Then the content must be right, and no chunk may be
//! stored twice.

use cuttlebone::ops::{self, Accept, BackupOptions, OpsError};
use cuttlebone::repo::Backup;

use super::ingest::{Extents, apply, diff, ingest};
use super::sweep::{Work, deaths, failures, lose_each_write, sweep};
use super::{Host, Image, LEAF, TestRepo, options, reread};
use crate::rbd;

/// The streams that the test backs up, and the images that result from them.
struct Streams {
    full: Vec<u8>,
    step: Vec<u8>,
    line: Vec<u8>,
    /// The images by volume and snapshot. The snapshot is `None` for the head.
    images: Vec<(&'static str, Option<&'static str>, Image)>,
}

/// The metadata of the image `line`. Its backups hold it as an attachment.
const METADATA: [(&[u8], &[u8]); 2] = [(b"colour", b"\xff"), (b"conf_rbd_cache", b"false")];

impl Streams {
    fn new() -> Self {
        let mut images = Vec::new();
        let mut lead = |volume, from: Option<&'static str>, to, size, extents: &Extents| {
            let base = images
                .iter()
                .find(|(of, name, _)| *of == volume && from.is_some() && *name == from);
            let mut image = base.map_or_else(
                || Image::new(0),
                |(.., image): &(_, _, Image)| image.clone(),
            );
            apply(&mut image, size, extents);
            images.push((volume, to, image));
            diff(from, to, size, extents)
        };
        let full = lead(
            "disk",
            None,
            Some("a"),
            LEAF + 200_000,
            &vec![(5, 9000, Some(1)), (LEAF + 100_000, 9000, Some(2))],
        );
        // This step changes parts of chunks, zeroes a chunk, and ends the image within old data.
        let step = lead(
            "disk",
            Some("a"),
            Some("b"),
            LEAF + 104_000,
            &vec![(4000, 3000, Some(3)), (8192, 4096, None)],
        );
        let line = [
            lead(
                "line",
                None,
                Some("x"),
                2 * LEAF,
                &vec![(LEAF - 3000, 6000, Some(4))],
            ),
            // This step zeroes a whole leaf, and ends the image within another leaf.
            lead(
                "line",
                Some("x"),
                None,
                LEAF + 1500,
                &vec![(0, 4 << 20, None), (LEAF, 300, Some(5))],
            ),
        ];
        let line = line.map(|diff| rbd::read(&diff).unwrap().remove(0));
        Self {
            full,
            step,
            line: rbd::stream_v2_with(&METADATA, &line),
            images,
        }
    }

    /// Backs up the streams `step` and `line`. Returns the number of new chunks.
    fn ingest(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        options: impl Fn(&str) -> BackupOptions,
    ) -> Result<u64, OpsError> {
        let step = ingest(host, test_repo, &self.step, &options("disk"))?;
        let line = ingest(host, test_repo, &self.line, &options("line"))?;
        Ok(step
            .iter()
            .chain(&line)
            .map(|made| made.counts.chunks_new)
            .sum())
    }
}

impl Work for Streams {
    const CHUNK: usize = 4 << 10;
    const BEFORE: usize = 1;
    const MADE: usize = 3;
    const AGAIN: bool = false;

    fn prepare(&self, host: &Host, test_repo: &TestRepo) {
        ingest(host, test_repo, &self.full, &options("disk")).unwrap();
    }

    fn run(&self, host: &Host, test_repo: &TestRepo) -> Result<u64, OpsError> {
        self.ingest(host, test_repo, options)
    }

    fn run_reread(&self, host: &Host, test_repo: &TestRepo) -> Result<(), OpsError> {
        // A crash can lose the record of “x” alone. Then the newest backup is of the later state of
        // the image, which was zeroed after “x”. The full diff up to “x” shares no data with this
        // backup. The program cannot find out whether the diff is of the same image, so the user
        // must accept the diff.
        let options = |volume: &str| BackupOptions {
            accept: Accept {
                new_content: true,
                ..reread(volume).accept
            },
            ..reread(volume)
        };
        self.ingest(host, test_repo, options).map(drop)
    }

    fn restores(
        &self,
        host: &Host,
        test_repo: &TestRepo,
        backup: &Backup,
    ) -> Result<bool, OpsError> {
        let found = host.restore_image(test_repo, backup)?;
        let snapshot = backup.snapshot().map(ToString::to_string);
        let is_of = |(volume, name, _): &&(&str, Option<&str>, Image)| {
            *volume == backup.record.volume.name && *name == snapshot.as_deref()
        };
        let metadata = ops::image_metadata(&test_repo.project, backup, &host.context())?;
        let entries = METADATA.map(|(key, value)| (key.to_vec(), value.to_vec()));
        let expected = (backup.record.volume.name == "line").then(|| entries.iter().collect());
        let mut images = self.images.iter();
        let right = images
            .find(is_of)
            .is_some_and(|(.., image)| *image == found);
        Ok(right && metadata == expected)
    }
}

#[test]
fn a_backup_of_diffs_survives_a_crash_at_any_call_of_the_store() {
    let calls = sweep(&Streams::new(), false, deaths);
    assert!(
        calls > 30,
        "{calls} calls are too few for a meaningful test"
    );
}

#[test]
fn a_backup_of_diffs_with_a_cache_survives_a_crash_at_any_call_of_the_store() {
    let calls = sweep(&Streams::new(), true, deaths);
    assert!(
        calls > 30,
        "{calls} calls are too few for a meaningful test"
    );
}

#[test]
fn a_backup_of_diffs_survives_a_failure_of_any_write() {
    for with_cache in [false, true] {
        let writes = sweep(&Streams::new(), with_cache, failures);
        assert!(
            writes > 15,
            "{writes} writes are too few for a meaningful test"
        );
    }
}

#[test]
fn check_reports_each_write_of_a_diff_that_a_crash_loses_and_only_chunks_are_lost() {
    let damaged = lose_each_write(&Streams::new());
    assert!(damaged > 0, "the loss of a chunk must affect a backup");
}
