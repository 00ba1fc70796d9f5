//! Brings an existing image of a cluster back to the content of a backup, and writes only the parts
//! that differ.
//!
//! The order of the steps makes every interruption harmless: refuse what does not fit, make the
//! safety snapshot, find the parts that differ, mark the image, write, and remove the mark. A run
//! that is killed leaves the mark. The next run finds the parts that differ again, and keeps the
//! first safety snapshot, since the image holds a mixture now.

use std::time::Duration;

use jiff::Timestamp;

use super::different::{changed_since, compare_image};
use super::holes::OnDamage;
use super::live::write_diff;
use super::task::{RestoreReport, RestoreTask};
use super::write::write_ranges;
use crate::base::{ImageEvent, Notice, Phase};
use crate::format::{ContentKind, ExtentList};
use crate::ops::cancellable_reader::CancellableReader;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::backups_of_image;
use crate::ops::image_mark::ImageMark;
use crate::repo::{Backup, LostChunks, Project, Records};
use crate::volume::{DiffTarget, ExportedSnapshot, ImageState, LiveImage, RbdErrorKind, Snapshot};

/// The time to wait until a client of an interrupted restore no longer counts as a user. The
/// cluster forgets a client that was killed after half a minute.
const PATIENCE: Duration = Duration::from_secs(45);

/// How many more names to try for the safety snapshot if one exists. A name has whole seconds.
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
    /// Bytes of data that were read from the image to compare it.
    pub compared: u64,
    /// The snapshot with the content of the image before.
    pub safety_snapshot: Option<String>,
}

/// Restores a backup to an existing image. If a snapshot of the image still exists, and there is a
/// backup of it, only the changes since then are written, and the differences between that backup
/// and this one. Otherwise, the whole image is read and compared.
///
/// Refuses an image that is in use, that mirrors an image of another cluster, or that has another
/// size, before anything is done. If it fails after that, the image is marked as incomplete.
pub fn restore_image_in_place(
    project: &Project,
    records: &Records,
    backup: &Backup,
    image: &LiveImage<'_>,
    options: InPlaceOptions,
    context: &Context<'_>,
) -> Result<InPlaceReport, OpsError> {
    if backup.record.content.kind != ContentKind::Image {
        return Err(OpsError::NotAnImage {
            backup: backup.id.to_string(),
        });
    }
    let cancel = context.cancel;
    let state = image.state(cancel)?;
    let notice = |event| {
        let image = image.name();
        context.observer.notice(Notice::Image { image, event });
    };
    if state.is_mirror {
        let name = image.name();
        return Err(OpsError::MirrorTarget { name });
    }
    let mut metadata = image.metadata(cancel)?.unwrap_or_default();
    let interrupted = ImageMark::take_from(&mut metadata);
    let patience = match &interrupted {
        Some(mark) => {
            notice(interrupted_event(mark));
            PATIENCE
        }
        None => Duration::ZERO,
    };
    image.require_unused(patience, cancel)?;
    let size = backup.record.content.size;
    if state.size != size && !options.resize {
        return Err(OpsError::OtherImageSize {
            name: image.name(),
            found: state.size,
            expected: size,
        });
    }
    let snapshots = image.snapshots(cancel)?;
    let common = common_snapshot(project, records, backup, &state, &snapshots);
    // A mixture is worth no snapshot.
    let earlier = interrupted.and_then(|mark| mark.safety_snapshot);
    let earlier = earlier.filter(|name| snapshots.iter().any(|found| found.name == *name));
    let mut report = InPlaceReport {
        restored: RestoreReport::default(),
        compared: 0,
        safety_snapshot: earlier,
    };
    let phase = Phase::Restore;
    let restored = RestoreTask::with(project, backup, context, phase, OnDamage::Stop, |task| {
        let known = common.as_ref().map(|(base, snapshot)| {
            notice(ImageEvent::RestoresSince {
                snapshot: snapshot.name.clone(),
            });
            let diverged = image.diverged(&snapshot.name, cancel)?;
            changed_since(task, base, &diverged, state.size)
        });
        let ranges = match known {
            Some(Ok(ranges)) => ranges,
            Some(Err(error)) if !matches!(error, OpsError::Repo(_)) => return Err(error),
            // If the other backup is damaged, only the image itself shows what differs.
            none => {
                let problem = none.and_then(Result::err).map(|error| error.to_string());
                notice(ImageEvent::ComparesAll { problem });
                let (ranges, compared) = compare(task, image, &state, context)?;
                report.compared = compared;
                ranges
            }
        };
        if ranges.ranges().is_empty() && state.size == size {
            return Ok(());
        }
        examine_ranges(task, &ranges)?;
        if report.safety_snapshot.is_none() && options.safety_snapshot {
            report.safety_snapshot = Some(make_safety_snapshot(image, context)?);
        }
        // Look again: finding the differences can take long.
        image.require_unused(Duration::ZERO, cancel)?;
        let request = format!("restore to the image {}", image.name());
        let used = common.as_ref().map(|(_, used)| exported(used));
        image.require_same(&state.identity, used.as_slice(), &request, cancel)?;
        let mark = ImageMark {
            backup_id: backup.id.to_string(),
            volume: backup.record.volume.name.clone(),
            time: Timestamp::now().to_string(),
            safety_snapshot: report.safety_snapshot.clone(),
        };
        mark.write(image, cancel)?;
        write_diff(image, context, |output| {
            let target = DiffTarget::over_data(output, image.name(), size)?;
            write_ranges(task, &ranges, state.size, &target)
        })?;
        image.require_same(&state.identity, used.as_slice(), &request, cancel)?;
        match image.require_unused(Duration::ZERO, cancel) {
            Err(error) if error.kind == RbdErrorKind::Busy => {
                Err(OpsError::ImageOpened { name: image.name() })
            }
            other => Ok(other?),
        }
    });
    report.restored = restored?;
    ImageMark::remove(image, cancel)?;
    Ok(report)
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

/// Returns the backup of a snapshot that still exists, with this snapshot: that of `backup`, or
/// else the newest one, which is likely to differ least from the image.
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

/// Reads the whole image. Returns the parts that differ from the backup, and the number of bytes
/// that were read.
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

/// Fails if chunks to write are known to be lost. So nothing is written then.
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
