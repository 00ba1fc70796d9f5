//! The text of `status` and `snapshots`.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::app::human::{count, duration, printable, short_id, time};
use crate::app::table::{Column, table};
use crate::app::volume_status::{
    ImageStateName, ImageStatusEntry, SnapshotEntry, SnapshotsSummary, StatusSummary,
    VolumeStatusEntry,
};
use crate::base::ByteSize;

/// Returns a table of volumes and their newest backups.
pub(crate) fn volume_statuses(
    entries: &[VolumeStatusEntry],
    zone: &TimeZone,
    columns: Option<usize>,
) -> String {
    if entries.is_empty() {
        return "no volumes\n".to_owned();
    }
    let mut header = vec![
        Column::name("Volume"),
        Column::left("Last backup"),
        Column::right("Age"),
        Column::right("Size"),
    ];
    let with_state = entries.iter().any(|entry| state(entry).is_some());
    if with_state {
        header.push(Column::left("State"));
    }
    let with_next = entries.iter().any(|entry| entry.image.is_some());
    if with_next {
        header.push(Column::words("Next backup"));
    }
    let row = |entry: &VolumeStatusEntry| {
        let age = entry.age.map(|age| duration(Duration::from_secs(age)));
        let mut row = vec![
            entry.volume.clone(),
            entry
                .time
                .map_or_else(String::new, |begun| time(begun, zone)),
            age.unwrap_or_default(),
            entry
                .size
                .map_or_else(String::new, |size| ByteSize(size).to_string()),
        ];
        if with_state {
            row.push(state(entry).unwrap_or_default().to_owned());
        }
        if with_next {
            row.push(entry.image.as_ref().map(next).unwrap_or_default());
        }
        row
    };
    table(
        &header,
        &entries.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}

fn state(entry: &VolumeStatusEntry) -> Option<&'static str> {
    match (entry.overdue, entry.backups_from_future) {
        (Some(true), _) => Some("overdue"),
        _ if entry.retired => Some("retired"),
        (_, 1..) => Some("times in the future"),
        _ => None,
    }
}

fn next(image: &ImageStatusEntry) -> String {
    match (image.state, &image.reason, &image.base_snapshot) {
        (ImageStateName::Missing, ..) => "none: the image no longer exists".to_owned(),
        (ImageStateName::InTrash, ..) => "none: the image is in the trash".to_owned(),
        (ImageStateName::OtherCluster, ..) => "not known: in another cluster".to_owned(),
        (ImageStateName::Unknown, ..) => "not known".to_owned(),
        (ImageStateName::Present, Some(reason), _) => format!("all data: {reason}"),
        (ImageStateName::Present, None, Some(snapshot)) => format!("changes since {snapshot}"),
        (ImageStateName::Present, None, None) => String::new(),
    }
}

/// Returns the end of `status`: problems, and snapshots that nothing needs.
pub(super) fn status_summary(summary: &StatusSummary) -> String {
    let mut text = String::new();
    if let Some(problem) = &summary.cluster_problem {
        // Writing into a string does not fail.
        let _ = writeln!(
            text,
            "The next backups of images in a cluster are not known: {}",
            printable(problem)
        );
    }
    if !summary.unneeded_snapshots.is_empty() {
        let number = count(summary.unneeded_snapshots.len() as u64, "snapshot");
        let _ = writeln!(
            text,
            "{number} that cuttlebone made and that nothing needs (remove with “{}”):",
            printable(&summary.removal)
        );
        for snapshot in &summary.unneeded_snapshots {
            let _ = writeln!(text, "  {}", printable(snapshot));
        }
    }
    text
}

/// Returns a table of snapshots.
pub(crate) fn snapshots(entries: &[SnapshotEntry], columns: Option<usize>) -> String {
    if entries.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let header = [
        Column::name("Image"),
        Column::left("Snapshot"),
        Column::left("Backup"),
        Column::words("State"),
    ];
    let row = |entry: &SnapshotEntry| {
        let backup = entry.backup_id.as_deref();
        vec![
            entry.image.clone(),
            entry.snapshot.clone(),
            backup.map(short_id).unwrap_or_default().to_owned(),
            snapshot_state(entry),
        ]
    };
    table(
        &header,
        &entries.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}

fn snapshot_state(entry: &SnapshotEntry) -> String {
    let need = match entry.need {
        "next_backup" => "needed: the next backup builds on it",
        "older_backup" if entry.own => {
            "kept: the next backup removes it, unless --keep-snapshots keeps it"
        }
        "older_backup" => "not made by cuttlebone; it has a backup",
        "maybe_running" => "maybe in use: a backup is running",
        "image_in_trash" if entry.own => "unneeded: the image is in the trash",
        "image_in_trash" => "not made by cuttlebone; the image is in the trash",
        "other_project" => "of another project",
        _ => "unneeded: it has no backup",
    };
    match (&entry.problem, entry.removed) {
        (_, true) => format!("removed ({need})"),
        (Some(problem), false) => format!("{need}; {problem}"),
        (None, false) if entry.protected => format!("{need}; protected"),
        (None, false) => need.to_owned(),
    }
}

/// Returns the end of `snapshots`.
pub(super) fn snapshots_summary(summary: &SnapshotsSummary) -> String {
    let looked = format!(
        "{} on {}",
        count(summary.snapshots as u64, "snapshot"),
        count(summary.images as u64, "image")
    );
    match (summary.removed, summary.unneeded) {
        (0, 0) => format!("{looked}; nothing to remove\n"),
        (removed, 0) => format!("{looked}; {removed} removed\n"),
        (0, unneeded) => {
            format!(
                "{looked}; {unneeded} unneeded: “--remove-unneeded” removes what is not protected\n"
            )
        }
        (removed, unneeded) => {
            format!("{looked}; {removed} removed, {unneeded} unneeded ones stay\n")
        }
    }
}
