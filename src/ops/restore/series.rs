//! Restores consecutive backups of a volume as snapshots of a new image.

use super::holes::OnDamage;
use super::live::{ImageTarget, prepare, restore_metadata, write_diff};
use super::task::{RestoreReport, RestoreTask};
use super::write::{write_all, write_changes};
use crate::base::{ImageEvent, Notice, Phase};
use crate::format::{ContentKind, DiffHeader};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::identity_of;
use crate::ops::snapshot_names::tracking_time;
use crate::repo::{Backup, Project, Records};
use crate::volume::{DiffTarget, LiveImage};

/// Returns consecutive backups of a volume, oldest first. The last one is `to`. The first one is
/// `from`, or without it, the oldest backup of the volume. Leaves out backups that their writer
/// withdrew or that another one replaced. Fails if `from` or `to` is one of these. Also fails if
/// `from` is newer than `to`, or of another volume. All backups must be images with chunks of the
/// same size.
pub fn series<'a>(
    records: &'a Records,
    from: Option<&'a Backup>,
    to: &'a Backup,
) -> Result<Vec<&'a Backup>, OpsError> {
    let all: Vec<_> = records.of_volume(&to.record.volume.name).collect();
    let place = |wanted: &Backup| all.iter().position(|found| found.id == wanted.id);
    let first = from.map_or(Some(0), place);
    let (Some(first), Some(last)) = (first, place(to)) else {
        let is_same = |from: &Backup| from.record.volume.name == to.record.volume.name;
        let why = if from.is_none_or(is_same) {
            "one of them was withdrawn or replaced"
        } else {
            "they are of different volumes"
        };
        return Err(no_series(from, to, why));
    };
    if first > last {
        return Err(no_series(
            from,
            to,
            "the first one is newer than the last one",
        ));
    }
    let chosen = all[first..=last].to_vec();
    let of = |backup: &Backup| (backup.record.content.kind, backup.record.content.chunk_size);
    for backup in &chosen {
        if backup.record.content.kind != ContentKind::Image {
            return Err(OpsError::NotAnImage {
                backup: backup.id.to_string(),
            });
        }
        if of(backup) != of(to) {
            return Err(no_series(
                Some(backup),
                to,
                "their chunks have different sizes",
            ));
        }
    }
    Ok(chosen)
}

fn no_series(from: Option<&Backup>, to: &Backup, why: &'static str) -> OpsError {
    let id = |backup: &Backup| format!("backup {} of “{}”", backup.id, backup.record.volume.name);
    OpsError::NoSeries {
        from: from.map_or_else(|| "the oldest backup".to_owned(), id),
        to: id(to),
        why,
    }
}

/// Restores backups, oldest first, to a new or empty image, and makes a snapshot of the image after
/// each. After the first backup, writes only the differences from the previous one. Of several
/// backups of the same snapshot, restores only the newest one. Returns the totals, and the names of
/// the snapshots.
///
/// Refuses an existing image that has data, snapshots or users, before anything is changed. If the
/// restore fails later, the incomplete image stays.
pub fn restore_series(
    project: &Project,
    backups: &[&Backup],
    image: &LiveImage<'_>,
    target: &ImageTarget,
    context: &Context<'_>,
) -> Result<(RestoreReport, Vec<String>), OpsError> {
    let backups = without_repeated(backups, image, context);
    let Some(last) = backups.last() else {
        return Err(OpsError::Internal("no backup to restore"));
    };
    let mut names: Vec<Vec<u8>> = Vec::new();
    for backup in &backups {
        let name = snapshot_name(backup);
        if names.contains(&name) {
            return Err(OpsError::SeriesNameTwice {
                snapshot: String::from_utf8_lossy(&name).into_owned(),
            });
        }
        names.push(name);
    }
    let metadata = prepare(project, last, image, target, &names, context)?;
    let mut report = RestoreReport::default();
    let mut before: Option<(&Backup, &Vec<u8>)> = None;
    for (backup, name) in backups.iter().zip(&names) {
        let header = DiffHeader {
            from: before.map(|(_, name)| name.clone()),
            to: Some(name.clone()),
            size: backup.record.content.size,
            protected: None,
        };
        let (phase, on_damage) = (Phase::Restore, OnDamage::Stop);
        let written = write_diff(image, context, |output| {
            let target = DiffTarget::new(output, image.name(), &header)?;
            RestoreTask::with(
                project,
                backup,
                context,
                phase,
                on_damage,
                |task| match before {
                    None => write_all(task, &target),
                    Some((base, _)) => {
                        let chunk_size = backup.record.content.chunk_size;
                        write_changes(task, base, chunk_size, &target)
                    }
                },
            )
        })?;
        report.written += written.written;
        report.fetched += written.fetched;
        before = Some((backup, name));
    }
    restore_metadata(image, &metadata, context);
    let names = names.into_iter();
    let names = names.map(|name| String::from_utf8_lossy(&name).into_owned());
    Ok((report, names.collect()))
}

/// Leaves out backups of a snapshot that has a later backup among these. Sends a notice for each.
fn without_repeated<'a>(
    backups: &[&'a Backup],
    image: &LiveImage<'_>,
    context: &Context<'_>,
) -> Vec<&'a Backup> {
    let is_same = |a: &Backup, b: &Backup| match (identity_of(a), identity_of(b)) {
        (Some(a), Some(b)) => {
            a.snapshot_id.is_some() && a.snapshot_id == b.snapshot_id && a.same_image(b)
        }
        _ => false,
    };
    let mut kept = Vec::new();
    for (number, backup) in backups.iter().enumerate() {
        let later = backups[number + 1..].iter().rev();
        let Some(newest) = later.copied().find(|later| is_same(later, backup)) else {
            kept.push(*backup);
            continue;
        };
        let event = ImageEvent::SnapshotTwice {
            snapshot: backup
                .snapshot()
                .map(ToString::to_string)
                .unwrap_or_default(),
            left_out: backup.id,
            restored: newest.id,
        };
        let image = image.name();
        context.observer.notice(Notice::Image { image, event });
    }
    kept
}

/// Returns the name of the snapshot for a backup. This is the name of the snapshot that was backed
/// up. If this program had made that snapshot, the name differs, because backups would remove a
/// snapshot of that name. In that case, and if no snapshot was backed up, the name is
/// `backup-TIME`.
fn snapshot_name(backup: &Backup) -> Vec<u8> {
    let source = backup.record.source.as_ref();
    let recorded = source.and_then(|source| source.snapshot.as_ref()?.bytes());
    let time = || backup.time.strftime("%Y%m%dT%H%M%SZ").to_string();
    renamed(recorded, time)
}

fn renamed(recorded: Option<Vec<u8>>, time: impl FnOnce() -> String) -> Vec<u8> {
    match recorded {
        Some(name) => match std::str::from_utf8(&name).ok().and_then(tracking_time) {
            Some(time) => format!("backup-{time}").into_bytes(),
            None => name,
        },
        None => format!("backup-{}", time()).into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_that_backups_made_get_other_names() {
        let now = || "20270101T000000Z".to_owned();
        for (recorded, expected) in [
            (None, "backup-20270101T000000Z"),
            (Some("monday"), "monday"),
            (Some("cuttlebone-of-mine"), "cuttlebone-of-mine"),
            (
                Some("cuttlebone-20261128T221500Z-12121212"),
                "backup-20261128T221500Z",
            ),
        ] {
            let recorded = recorded.map(|name: &str| name.as_bytes().to_vec());
            assert_eq!(renamed(recorded, now), expected.as_bytes());
        }
    }
}
