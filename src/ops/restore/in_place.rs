//! Brings an existing image of a cluster back to the content of a backup, and writes only the parts
//! that differ.
//!
//! The order of the steps makes every interruption harmless. A restore refuses an image that does
//! not fit, finds the parts that differ, makes the safety snapshot, marks the image, writes, and
//! removes the mark. If it compares the whole image, it makes the safety snapshot before the
//! comparison, to find changes during the comparison.
//!
//! A run that is killed after it has marked the image leaves the mark. The next run searches for
//! the differing parts again, and keeps the safety snapshot of the first run. If the image may have
//! changed since that snapshot, the next run also makes another one. The cause of the change is
//! not known: the first run may have written parts of the backup, or a user may have rolled the
//! image back and used it.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::different::{changed_since, compare_image};
use super::holes::OnDamage;
use super::live::write_diff;
use super::task::{RestoreReport, RestoreTask};
use super::write::write_ranges;
use crate::base::{Cancel, ImageEvent, Notice, Phase, WholeCompare};
use crate::format::{ContentKind, ExtentList};
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::{backups_of_image, distrusted_by};
use crate::ops::image_mark::ImageMark;
use crate::repo::{Backup, LostChunks, Project, Records};
use crate::volume::{DiffTarget, ExportedSnapshot, ImageState, LiveImage, RbdErrorKind, Snapshot};

/// The longest time to wait until a client of an interrupted restore no longer counts as a user.
/// The cluster needs half a minute to forget a client that was killed.
const PATIENCE: Duration = Duration::from_secs(45);

/// How many more times to try if a snapshot with the name of the safety snapshot exists. Each
/// attempt waits for the next second, since the name contains the time in whole seconds.
const ATTEMPTS: usize = 5;

/// How to restore to an existing image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlaceOptions {
    /// Make a snapshot of the image before anything is written.
    pub safety_snapshot: bool,
    /// Resize the image if it has another size than the backup.
    pub resize: bool,
}

/// The result of a restore to an existing image.
#[derive(Debug)]
pub struct InPlaceReport {
    /// The bytes that were written and fetched.
    pub restored: RestoreReport,
    /// The length in bytes of the full diff that was read to compare the whole image; 0 if the
    /// image was not compared as a whole.
    pub compared: u64,
    /// The snapshot with the content that the image had before the restore, if there is one.
    pub safety_snapshot: Option<String>,
    /// The snapshots with the content that the image had before earlier restores, which were
    /// interrupted, oldest first.
    pub earlier_snapshots: Vec<String>,
}

/// Restores a backup to an existing image. Looks for a common snapshot: one that the image still
/// has, and of which there is a backup. Finds the changes of the image since this snapshot, and the
/// differences between its backup and `backup`. Without a common snapshot, or if Ceph's lists of
/// changes cannot be relied on, reads and compares the whole image. Writes only the parts that
/// differ.
///
/// Before it changes anything, refuses an image that is in use, or that mirrors an image of another
/// cluster. Also refuses an image of another size, unless it may be resized. If the restore fails
/// after it has marked the image as incomplete, the mark stays.
pub fn restore_image_in_place(
    project: &Project,
    records: &Records,
    backup: &Backup,
    image: &LiveImage<'_>,
    options: InPlaceOptions,
    context: &Context<'_>,
) -> Result<InPlaceReport, OpsError> {
    let cancel = context.cancel;
    let state = image.state(cancel)?;
    require_image(backup, image, &state)?;
    let notice = |event| {
        let image = image.name();
        context.observer.notice(Notice::Image { image, event });
    };
    let mut metadata = image.metadata(cancel)?.unwrap_or_default();
    let interrupted = ImageMark::take_from(&mut metadata);
    if let Some(mark) = &interrupted {
        notice(interrupted_event(mark));
    }
    let patience = interrupted.as_ref().map_or(Duration::ZERO, |_| PATIENCE);
    image.require_unused(patience, cancel)?;
    let size = require_size(image, &state, backup, options)?;
    let snapshots = image.snapshots(cancel)?;
    // If the cluster does not list all changes, only reading the whole image shows the differences.
    let distrusted = distrusted_by(project, records, &state.identity).is_some();
    let common = common_snapshot(project, records, backup, &state, &snapshots);
    let common = common.filter(|_| !distrusted);
    let mut earlier = interrupted.map_or_else(Vec::new, |mark| mark.safety_snapshots);
    earlier.retain(|name| snapshots.iter().any(|found| found.name == *name));
    let last = earlier.last();
    let last = last.and_then(|name| snapshots.iter().find(|found| found.name == *name));
    let unchanged = !distrusted && has_content_of(image, &state, last, cancel)?;
    let mut report = InPlaceReport {
        restored: RestoreReport::default(),
        compared: 0,
        safety_snapshot: earlier.pop_if(|_| unchanged),
        earlier_snapshots: earlier,
    };
    // The safety snapshot, if it was made before the comparison. It is removed again if nothing
    // is written.
    let mut early = None;
    let (phase, request) = (
        Phase::Restore,
        format!("restore to the image {}", image.name()),
    );
    let restored = RestoreTask::with(project, backup, context, phase, OnDamage::Stop, |task| {
        let known = common.as_ref().map(|(base, snapshot)| {
            notice(ImageEvent::RestoresSince {
                snapshot: snapshot.name.clone(),
            });
            let diverged = image.diverged(&snapshot.name, cancel)?;
            let changed = changed_since(task, base, &diverged, state.size);
            changed.map(|ranges| (ranges, Some(snapshot.name.clone())))
        });
        let (ranges, since) = match known {
            Some(Ok(found)) => found,
            Some(Err(error)) if !matches!(error, OpsError::Repo(_)) => return Err(error),
            // If the backup of the common snapshot is damaged, only reading the whole image shows
            // the differences.
            none => {
                let problem = none.and_then(Result::err);
                notice(ImageEvent::ComparesAll(why_all(
                    problem.as_ref(),
                    distrusted,
                )));
                if report.safety_snapshot.is_none() && options.safety_snapshot {
                    let made = make_safety_snapshot(image, context)?;
                    early = Some(made.clone());
                    report.safety_snapshot = Some(made);
                }
                // If there is none, a program that uses the image only during the comparison is
                // not noticed.
                let before = report.safety_snapshot.clone();
                let before = before.or(common.as_ref().map(|(_, used)| used.name.clone()));
                let (ranges, compared) = compare(task, image, &state, context)?;
                report.compared = compared;
                (ranges, before)
            }
        };
        if ranges.ranges().is_empty() && state.size == size {
            return Ok(());
        }
        examine_ranges(task, &ranges)?;
        if report.safety_snapshot.is_none() && options.safety_snapshot {
            report.safety_snapshot = Some(make_safety_snapshot(image, context)?);
        }
        // Test again that nobody uses the image: finding the differences can take long. Then add
        // the changes since a snapshot: a program may have used the image and closed it meanwhile.
        image.require_unused(Duration::ZERO, cancel)?;
        let ranges = match since {
            Some(since) => joined(&ranges, &image.diverged(&since, cancel)?, backup),
            None => ranges,
        };
        early = None;
        let used = common.as_ref().map(|(_, used)| exported(used));
        image.require_same(&state.identity, used.as_slice(), &request, cancel)?;
        mark(backup, &report).write(image, cancel)?;
        write_diff(image, context, |output| {
            let target = DiffTarget::over_data(output, image.name(), size)?;
            write_ranges(task, &ranges, state.size, &target)
        })?;
        image.require_same(&state.identity, used.as_slice(), &request, cancel)?;
        require_still_unused(image, cancel)
    });
    if let Some(unneeded) = early
        && remove_unneeded(image, unneeded, context)
    {
        report.safety_snapshot = None;
    }
    report.restored = restored?;
    ImageMark::remove(image, cancel)?;
    Ok(report)
}

/// Fails if a program uses the image after the restore has written to it.
fn require_still_unused(image: &LiveImage<'_>, cancel: &Cancel) -> Result<(), OpsError> {
    match image.require_unused(Duration::ZERO, cancel) {
        Err(error) if error.kind == RbdErrorKind::Busy => {
            Err(OpsError::ImageOpened { name: image.name() })
        }
        other => Ok(other?),
    }
}

/// Returns why the whole image is compared. `problem` is the damage of the common snapshot's
/// backup. `distrusted` says whether Ceph's lists of changes cannot be relied on.
fn why_all(problem: Option<&OpsError>, distrusted: bool) -> WholeCompare {
    match problem {
        Some(error) => WholeCompare::Damaged(error.to_string()),
        None if distrusted => WholeCompare::Distrusted,
        None => WholeCompare::NoSnapshot,
    }
}

/// Returns whether the image still has the content and the size that it had in this snapshot.
/// Returns false without a snapshot.
fn has_content_of(
    image: &LiveImage<'_>,
    state: &ImageState,
    snapshot: Option<&Snapshot>,
    cancel: &Cancel,
) -> Result<bool, OpsError> {
    let Some(snapshot) = snapshot else {
        return Ok(false);
    };
    let diverged = image.diverged(&snapshot.name, cancel)?;
    Ok(state.size == snapshot.size && diverged.ranges().is_empty())
}

/// Returns the mark of an image to which this backup is restored.
fn mark(backup: &Backup, report: &InPlaceReport) -> ImageMark {
    let snapshots = report.earlier_snapshots.iter();
    ImageMark {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        time: Timestamp::now().to_string(),
        safety_snapshots: snapshots.chain(&report.safety_snapshot).cloned().collect(),
    }
}

/// Fails if the backup is not of an image, or if the image mirrors an image of another cluster.
fn require_image(
    backup: &Backup,
    image: &LiveImage<'_>,
    state: &ImageState,
) -> Result<(), OpsError> {
    if backup.record.content.kind != ContentKind::Image {
        return Err(OpsError::NotAnImage {
            backup: backup.id.to_string(),
        });
    }
    if state.is_mirror {
        let name = image.name();
        return Err(OpsError::MirrorTarget { name });
    }
    Ok(())
}

/// Returns the size of the backup. Fails if the image has another size and may not be resized.
fn require_size(
    image: &LiveImage<'_>,
    state: &ImageState,
    backup: &Backup,
    options: InPlaceOptions,
) -> Result<u64, OpsError> {
    let size = backup.record.content.size;
    if state.size != size && !options.resize {
        return Err(OpsError::OtherImageSize {
            name: image.name(),
            found: state.size,
            expected: size,
        });
    }
    Ok(size)
}

/// Returns ranges joined with the parts that `diverged` names. These parts are widened to whole
/// chunks, and cut off at the end of the backup.
fn joined(ranges: &ExtentList, diverged: &ExtentList, backup: &Backup) -> ExtentList {
    let content = &backup.record.content;
    let diverged = diverged.widened(content.chunk_size.into());
    let within = |range: &Range<u64>| range.start.min(content.size)..range.end.min(content.size);
    let all = ranges.ranges().iter().chain(diverged.ranges());
    all.map(within).collect()
}

/// Returns the event that reports an interrupted restore.
fn interrupted_event(mark: &ImageMark) -> ImageEvent {
    ImageEvent::InterruptedRestore {
        backup: mark.backup_id.clone(),
        volume: mark.volume.clone(),
        time: mark.time.clone(),
    }
}

/// Makes a safety snapshot. Returns its name.
fn make_safety_snapshot(image: &LiveImage<'_>, context: &Context<'_>) -> Result<String, OpsError> {
    let mut attempts = 0;
    loop {
        let name = safety_name(Timestamp::now());
        match image.create_snapshot(&name, context.cancel) {
            // A run that was interrupted in the same second has made a snapshot of this name.
            Err(error) if error.kind == RbdErrorKind::Exists && attempts < ATTEMPTS => {
                attempts += 1;
                context.cancel.sleep(Duration::from_secs(1))?;
            }
            made => {
                made?;
                return Ok(name);
            }
        }
    }
}

/// Removes a snapshot that was made for the comparison. Reports a failure only as a notice, since
/// the result of the restore matters more. Returns whether the snapshot is gone.
fn remove_unneeded(image: &LiveImage<'_>, snapshot: String, context: &Context<'_>) -> bool {
    match image.remove_snapshot(&snapshot, &Cancel::default()) {
        Err(error) if error.kind != RbdErrorKind::NotFound => {
            let (image, problem) = (image.name(), error.to_string());
            let event = ImageEvent::SnapshotStays { snapshot, problem };
            context.observer.notice(Notice::Image { image, event });
            false
        }
        _ => true,
    }
}

/// Returns the name of a safety snapshot. Backups remove only their own snapshots, which have other
/// names.
fn safety_name(time: Timestamp) -> String {
    format!("before-restore-{}", time.strftime("%Y%m%dT%H%M%SZ"))
}

fn exported(snapshot: &Snapshot) -> ExportedSnapshot {
    ExportedSnapshot {
        id: snapshot.id,
        name: snapshot.name.clone(),
    }
}

/// Returns a backup of a snapshot that still exists, together with this snapshot. The backup must
/// have the size of the snapshot, and chunks of the same size as those of `backup`. Prefers
/// `backup` itself. Otherwise, takes the newest snapshot, which is likely to differ least from the
/// image. `None` if there is no such backup.
fn common_snapshot<'a>(
    project: &Project,
    records: &'a Records,
    backup: &Backup,
    state: &ImageState,
    snapshots: &'a [Snapshot],
) -> Option<(&'a Backup, &'a Snapshot)> {
    let chunk_size = backup.record.content.chunk_size;
    let known = backups_of_image(project, records, &state.identity).filter_map(|(base, id)| {
        let content = &base.record.content;
        let snapshot = snapshots.iter().find(|snapshot| Some(snapshot.id) == id)?;
        let fits = content.chunk_size == chunk_size && content.size == snapshot.size;
        fits.then_some((base, snapshot))
    });
    known.max_by_key(|(base, snapshot)| (base.id == backup.id, snapshot.id))
}

/// Reads the whole image as a full diff. Returns the parts that differ from the backup, and the
/// length of the diff in bytes.
fn compare(
    task: &RestoreTask<'_>,
    image: &LiveImage<'_>,
    state: &ImageState,
    context: &Context<'_>,
) -> Result<(ExtentList, u64), OpsError> {
    let mut stream = image.export_head(&state.identity, context.cancel)?;
    let compared = {
        let stream = CancellableReader::new(&mut stream, context.cancel);
        compare_image(task, stream, &image.name())
    };
    match (compared, stream.take_failure()) {
        // The error of the program explains why the stream is not complete.
        (Err(OpsError::ReadDiff { .. } | OpsError::DamagedDiff { .. }), Some(failure)) => {
            Err(failure.into())
        }
        (compared, _) => compared,
    }
}

/// Fails if chunks to write are known to be lost. Called before anything is written.
fn examine_ranges(task: &RestoreTask<'_>, ranges: &ExtentList) -> Result<(), OpsError> {
    let lost = LostChunks::new(task.image.blobs().index())?;
    for range in ranges.ranges() {
        task.context.cancel.check()?;
        task.image.each_chunk_in(range.clone(), |chunk| {
            let found = lost.check(&chunk.id);
            found.or_else(|error| task.lose(chunk.range(), error))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safety_snapshot_is_named_by_its_time() {
        let time = "2026-11-28T22:15:00Z".parse().unwrap();
        assert_eq!(safety_name(time), "before-restore-20261128T221500Z");
    }
}
