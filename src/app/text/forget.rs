//! The text of `forget`.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::app::human::{count, printable, short_id, shortened, time, width};
use crate::app::message::{ForgetSummary, ForgetVolume, KeptBackup, RemovedBackup};
use crate::app::table::{Column, table};
use crate::base::ByteSize;

/// Returns for each volume a table of the backups to keep, and a table of the backups to remove.
/// Adds a note if the rules do not count some of its backups. Adds another note if the volume has
/// several lines of backups that do not follow each other.
pub(crate) fn forget_plan(
    volumes: &[ForgetVolume],
    zone: &TimeZone,
    columns: Option<usize>,
) -> String {
    let header = |last| [Column::left("ID"), Column::left("Time"), Column::name(last)];
    let mut text = String::new();
    for volume in volumes {
        let name = printable(&volume.volume);
        let (keep, remove) = if volume.dry_run {
            ("would keep", "would remove")
        } else {
            ("keep", "remove")
        };
        for (verb, number, last, rows) in [
            (keep, volume.keep.len(), "Why", kept(&volume.keep, zone)),
            (
                remove,
                volume.remove.len(),
                "",
                removed(&volume.remove, zone),
            ),
        ] {
            if number > 0 {
                let backups = count(number as u64, "backup");
                let table = table(&header(last), &rows, columns);
                let title = format!(": {verb} {backups}");
                let available = columns.map_or(usize::MAX, |all| all.saturating_sub(width(&title)));
                let name = shortened(&name, available);
                let _ = write!(text, "{name}{title}\n{table}\n");
            }
        }
        if !volume.uncounted.is_empty() {
            let backups = count(volume.uncounted.len() as u64, "backup");
            let ids = short_ids(&volume.uncounted);
            let _ = write!(
                text,
                "{name}: {backups} kept and not counted: {ids}\n\
                 Do not rely on the time or the content of these backups. To remove one, run \
                 “cuttlebone forget ID”.\n\n"
            );
        }
        if volume.newest.len() > 1 {
            let ids = short_ids(&volume.newest);
            let _ = write!(
                text,
                "{name}: {} separate lines of backups, the newest: {ids}\n\
                 The rules apply to each line separately, until a backup joins the lines.\n\n",
                volume.newest.len()
            );
        }
    }
    text
}

fn short_ids(ids: &[String]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| short_id(id)).collect();
    ids.join(", ")
}

/// The width of the column with the reasons. With the other columns, the table is 80 columns wide.
const REASONS_WIDTH: usize = 49;

fn kept(backups: &[KeptBackup], zone: &TimeZone) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for backup in backups {
        let mut row = vec![
            short_id(&backup.backup_id).to_owned(),
            time(backup.time, zone),
            String::new(),
        ];
        for (number, reason) in backup.reasons.iter().enumerate() {
            let comma = if number + 1 < backup.reasons.len() {
                ","
            } else {
                ""
            };
            let reason = format!("{}{comma}", printable(reason));
            if row[2].is_empty() {
                row[2] = reason;
            } else if width(&row[2]) + 1 + width(&reason) <= REASONS_WIDTH {
                let _ = write!(row[2], " {reason}");
            } else {
                rows.push(row);
                row = vec![String::new(), String::new(), reason];
            }
        }
        rows.push(row);
    }
    rows
}

fn removed(backups: &[RemovedBackup], zone: &TimeZone) -> Vec<Vec<String>> {
    let row = |backup: &RemovedBackup| {
        vec![
            short_id(&backup.backup_id).to_owned(),
            time(backup.time, zone),
            if backup.unfinished {
                "removal started by an earlier run"
            } else {
                ""
            }
            .to_owned(),
        ]
    };
    backups.iter().map(row).collect()
}

pub(super) fn forgotten(summary: &ForgetSummary) -> String {
    let backups = count(summary.backups_removed, "backup");
    match (summary.dry_run, summary.backups_removed) {
        (_, 0) => "nothing to remove\n".to_owned(),
        (true, _) => {
            let freed = summary.bytes_freed.map(ByteSize);
            let freed = freed.map(|bytes| format!("; a prune would then free about {bytes}"));
            let freed = freed.unwrap_or_default();
            format!("dry run: would remove {backups}{freed}\n")
        }
        (false, _) if summary.prunes => format!("removed {backups}\n"),
        (false, _) => format!("removed {backups}; run “cuttlebone prune” to free their space\n"),
    }
}
