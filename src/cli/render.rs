//! Text for people out of what a command tells.

mod diff;
mod prune;

pub(crate) use diff::{diff, diffs};

use std::fmt::Write as _;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::base::{ByteSize, Notice, RebuildReason};
use crate::ops::ByteString;

use super::human::{count, duration, printable, short_id, shortened, time, width};
use super::message::{
    BackupDetail, BackupEntry, BackupSummary, CheckSummary, CompareSummary, Extent, ForgetSummary,
    ForgetVolume, KeptBackup, KeyEntry, Message, RemovedBackup, RestoreSummary, Stats, Status,
};
use super::table::{Column, table};

/// The text of one message, each line ended.
pub(crate) fn message(message: &Message, zone: &TimeZone) -> String {
    match message {
        Message::Status(status) => self::status(status) + "\n",
        Message::Init(init) => format!(
            "made the repository {} with the project {}\n\
             Nothing in it can be read without the password: keep that safe.\n",
            init.repository,
            printable(&init.project)
        ),
        Message::Backup(summary) => backup(summary),
        Message::Restore(summary) => restore(summary),
        Message::Compare(summary) => compare(summary),
        Message::Detail(detail) => self::detail(detail, zone),
        Message::Error(damage) => format!("damaged: {}: {}\n", damage.item, damage.message),
        Message::Check(summary) => check(summary),
        Message::Stats(stats) => self::stats(stats),
        Message::KeyChange(change) => match change.action {
            "opens" => format!("the password opens the key {}\n", short_id(&change.key_id)),
            "exported" => format!(
                "exported the key {}; if it is ever lost, copy the file into keys/ of the\n\
                 repository (a project's key: of the project) under the name\n  {}\n",
                short_id(&change.key_id),
                change.key_id
            ),
            action => format!("{action} the key {}\n", short_id(&change.key_id)),
        },
        Message::Cache(cache) => {
            let held = match cache.chunks {
                Some(chunks) => format!("{}, {}", ByteSize(cache.bytes), count(chunks, "chunk")),
                None => "nothing cached".to_owned(),
            };
            format!("{}: {held}\n", cache.path)
        }
        Message::DiffImage(image) => diff::diff_image(image),
        Message::DiffStream(stream) => diff::diff_stream(stream),
        Message::Merge(summary) => diff::merge(summary),
        Message::Export(summary) => diff::export(summary),
        Message::Forget(summary) => forgotten(summary),
        Message::Prune(summary) => prune::pruned(summary),
    }
}

/// How far the work is, in one line of at most 80 columns.
pub(crate) fn status(status: &Status) -> String {
    let done = ByteSize(status.bytes_done);
    let mut text = match (status.percent_done, status.total_bytes) {
        (Some(part), Some(total)) => {
            format!(
                "{}: {:.0} % ({done} of {})",
                phase(status.phase),
                part * 100.0,
                ByteSize(total)
            )
        }
        _ => format!("{}: {done}", phase(status.phase)),
    };
    if let Some(rate) = status.bytes_done.checked_div(status.seconds_elapsed) {
        let _ = write!(text, ", {}/s", ByteSize(rate));
    }
    if let Some(seconds) = status.seconds_remaining {
        let _ = write!(text, ", {} left", duration(Duration::from_secs(seconds)));
    }
    text
}

/// The name of a phase in words.
pub(crate) fn phase(name: &str) -> String {
    name.replace('_', " ")
}

/// The text of a notice.
pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::IndexRebuilt(reason) => {
            format!("rebuilding the local index: {}", rebuild_reason(reason))
        }
        Notice::CopyDamaged { problem } => {
            format!("{problem}; using its other copy (“cuttlebone check” shows details)")
        }
        Notice::Resumed { packs } => format!(
            "an earlier run was interrupted; using the {} that it stored",
            count(*packs, "pack")
        ),
        Notice::PacksUnindexed { packs } => format!(
            "the index does not list {}: reading the listings in the packs themselves",
            count(*packs, "pack")
        ),
        Notice::SegmentDamaged { problem } => {
            format!("{problem}; reading the listings of its packs instead")
        }
        Notice::ListingDamaged { problem } => problem.clone(),
        Notice::KeySlotDamaged { problem } => format!("{problem}; ignoring this key"),
        Notice::RecordDamaged { problem } => {
            format!("{problem}; “cuttlebone check” shows details")
        }
        Notice::SourceUnchanged => {
            "the file was not written to since the last backup: its content \
            was taken from there (--reread reads the file anyway)"
                .to_owned()
        }
        Notice::NoBaseForExtents => "there is no backup to build on: everything that the list of \
            extents leaves out is taken for zeros"
            .to_owned(),
        Notice::ConcurrentPrune => "a prune is running at the same time: storing again what it \
            marked and this backup needs"
            .to_owned(),
        Notice::LabelsKept { backup } => {
            format!("backup {backup} exists already and keeps its own labels")
        }
        Notice::PasswordFileReadable { file } => {
            format!("other users of this host can read {file}; run “chmod 600” on it")
        }
    }
}

fn rebuild_reason(reason: &RebuildReason) -> String {
    match reason {
        RebuildReason::Directory { path, problem } => format!("{}: {problem}", path.display()),
        RebuildReason::Unusable { problem } => problem.clone(),
        RebuildReason::Stale => "it names packs that no longer exist".to_owned(),
    }
}

fn took(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A volume's backup as it can be asked for again.
fn named(volume: &str, snapshot: Option<&ByteString>) -> String {
    match snapshot {
        Some(snapshot) => format!("{volume}@{snapshot}"),
        None => volume.to_owned(),
    }
}

fn backup(summary: &BackupSummary) -> String {
    let volume = printable(&named(&summary.volume, summary.snapshot.as_ref()));
    let (first, stored) = match &summary.backup_id {
        Some(id) if summary.existing => {
            let id = short_id(id);
            return format!("backup {id} of {volume} is there already, and is the same\n");
        }
        Some(id) => (format!("backup {} of {volume}", short_id(id)), "stored"),
        None => (
            format!("dry run of {volume}; nothing was stored"),
            "would be stored",
        ),
    };
    let base = match &summary.base {
        Some(base) => format!("compared with {}", short_id(base)),
        None => "compared with nothing".to_owned(),
    };
    let verified = match summary.chunks_verified {
        Some(chunks) => format!(
            "  {} outside the list compared with the base\n",
            count(chunks, "chunk")
        ),
        None => String::new(),
    };
    format!(
        "{first}\n  {}, {base}, read {}, changed {}\n  new {} ({}), {stored} {}, in {}\n{verified}",
        ByteSize(summary.size),
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_changed),
        ByteSize(summary.bytes_new),
        count(summary.chunks_new, "chunk"),
        ByteSize(summary.bytes_stored),
        took(summary.duration)
    )
}

fn restore(summary: &RestoreSummary) -> String {
    format!(
        "restored {} of {} to {}\n  {}, written {}, fetched {}, in {}\n",
        short_id(&summary.backup_id),
        printable(&summary.volume),
        summary.target,
        ByteSize(summary.size),
        ByteSize(summary.bytes_written),
        ByteSize(summary.bytes_fetched),
        took(summary.duration)
    )
}

fn compare(summary: &CompareSummary) -> String {
    let (a, b) = (short_id(&summary.a), short_id(&summary.b));
    if summary.identical {
        return format!("{a} and {b} have the same content\n");
    }
    format!(
        "{a} and {b} differ in {}, {}\n",
        count(summary.extents, "extent"),
        ByteSize(summary.bytes_different)
    )
}

fn check(summary: &CheckSummary) -> String {
    let looked = format!(
        "{}, {}, read {}, in {}",
        count(summary.backups, "backup"),
        count(summary.packs, "pack"),
        ByteSize(summary.bytes_read),
        took(summary.duration)
    );
    if summary.errors == 0 {
        return format!("no damage found ({looked})\n");
    }
    let mut text = format!(
        "{}, {} damaged ({looked})\n",
        count(summary.errors, "error"),
        count(summary.packs_damaged, "pack")
    );
    for id in &summary.backups_affected {
        let _ = writeln!(text, "  affected: {}", short_id(id));
    }
    text
}

fn stats(stats: &Stats) -> String {
    fields(&[
        ("Volumes", Some(stats.volumes.to_string())),
        (
            "Backups",
            Some(format!(
                "{}, {} in all",
                stats.backups,
                ByteSize(stats.bytes_backed_up)
            )),
        ),
        (
            "Unique",
            Some(format!(
                "{}, {}",
                ByteSize(stats.bytes_unique),
                count(stats.chunks, "chunk")
            )),
        ),
        (
            "Stored",
            Some(format!(
                "{}, {}",
                ByteSize(stats.bytes_stored),
                count(stats.packs, "pack")
            )),
        ),
    ])
}

fn detail(detail: &BackupDetail, zone: &TimeZone) -> String {
    let entry = &detail.entry;
    let bytes = |size: Option<u64>| size.map(|size| ByteSize(size).to_string());
    let lines = [
        ("Backup", Some(entry.backup_id.clone())),
        ("Volume", Some(entry.volume.clone())),
        ("Snapshot", entry.snapshot.as_ref().map(ToString::to_string)),
        ("Volume id", Some(detail.volume_id.clone())),
        ("Project", Some(detail.project.clone())),
        ("Kind", Some(detail.kind.to_owned())),
        (
            "Size",
            Some(format!("{} ({} bytes)", ByteSize(entry.size), entry.size)),
        ),
        (
            "Chunk size",
            (detail.chunk_size > 0).then(|| ByteSize(detail.chunk_size.into()).to_string()),
        ),
        ("Root", Some(detail.root.clone())),
        ("Begun", Some(time(entry.time, zone))),
        ("Finished", Some(time(detail.finished, zone))),
        ("Host", entry.host.clone()),
        ("Base", detail.base.clone()),
        ("Labels", Some(labels(entry)).filter(|all| !all.is_empty())),
        ("Source", source(&detail.source)),
        ("Changed", bytes(detail.bytes_changed)),
        ("Read", bytes(detail.bytes_read)),
        ("New", bytes(detail.bytes_new)),
        (
            "New chunks",
            detail.chunks_new.map(|chunks| chunks.to_string()),
        ),
        ("Stored", bytes(entry.bytes_stored)),
        ("Tool", detail.tool.clone()),
    ];
    fields(&lines)
}

fn labels(entry: &BackupEntry) -> String {
    let labels = entry.labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(", ")
}

/// Where a backup came from, as its record says it.
fn source(source: &serde_json::Value) -> Option<String> {
    let kind = source.get("kind")?.as_str()?;
    let path = source.get("path").unwrap_or_default();
    Some(match (path.as_str(), path.get("hex")) {
        (Some(path), _) => format!("{kind} {path}"),
        (None, Some(hex)) => format!("{kind}, its path in hexadecimal {hex}"),
        (None, None) => kind.to_owned(),
    })
}

/// A line each for those that have a value: a name, and the value below those of the others.
pub(crate) fn fields(fields: &[(&str, Option<String>)]) -> String {
    let present = || {
        let given = fields.iter();
        given.filter_map(|(name, value)| value.as_ref().map(|value| (name, value)))
    };
    let longest = present().map(|(name, _)| name.len()).max().unwrap_or(0);
    present().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:longest$}  {}", printable(value));
        text
    })
}

pub(crate) fn backups(entries: &[BackupEntry], zone: &TimeZone, columns: Option<usize>) -> String {
    if entries.is_empty() {
        return "no backups\n".to_owned();
    }
    let mut header = vec![
        Column::left("ID"),
        Column::left("Time"),
        Column::name("Volume"),
        Column::right("Size"),
        Column::right("Stored"),
    ];
    let labelled = entries.iter().any(|entry| !entry.labels.is_empty());
    if labelled {
        header.push(Column::name("Labels"));
    }
    let row = |entry: &BackupEntry| {
        let mut row = vec![
            short_id(&entry.backup_id).to_owned(),
            time(entry.time, zone),
            named(&entry.volume, entry.snapshot.as_ref()),
            ByteSize(entry.size).to_string(),
            entry
                .bytes_stored
                .map_or_else(String::new, |bytes| ByteSize(bytes).to_string()),
        ];
        if labelled {
            row.push(labels(entry));
        }
        row
    };
    table(
        &header,
        &entries.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}

/// What stays and what goes of each volume.
pub(crate) fn forget(volumes: &[ForgetVolume], zone: &TimeZone, columns: Option<usize>) -> String {
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
            (remove, volume.remove.len(), "", gone(&volume.remove, zone)),
        ] {
            if number > 0 {
                let backups = count(number as u64, "backup");
                let table = table(&header(last), &rows, columns);
                let title = format!(": {verb} {backups}");
                let room = columns.map_or(usize::MAX, |all| all.saturating_sub(width(&title)));
                let name = shortened(&name, room);
                let _ = write!(text, "{name}{title}\n{table}\n");
            }
        }
    }
    text
}

/// Columns for reasons: with the others it makes 80.
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

fn gone(backups: &[RemovedBackup], zone: &TimeZone) -> Vec<Vec<String>> {
    let row = |backup: &RemovedBackup| {
        vec![
            short_id(&backup.backup_id).to_owned(),
            time(backup.time, zone),
            if backup.unfinished {
                "begun by an earlier run"
            } else {
                ""
            }
            .to_owned(),
        ]
    };
    backups.iter().map(row).collect()
}

fn forgotten(summary: &ForgetSummary) -> String {
    let backups = count(summary.backups_removed, "backup");
    match (summary.dry_run, summary.backups_removed) {
        (_, 0) => "nothing to remove\n".to_owned(),
        (true, _) => format!("dry run: {backups} would be removed; nothing was\n"),
        (false, _) => format!("removed {backups}; what nothing else uses stays until a prune\n"),
    }
}

pub(crate) fn keys(entries: &[KeyEntry], zone: &TimeZone, columns: Option<usize>) -> String {
    let header = [
        Column::left(" "),
        Column::left("ID"),
        Column::left("Scope"),
        Column::left("Created"),
        Column::name("By"),
        Column::name("Label"),
    ];
    let row = |entry: &KeyEntry| {
        let by = [entry.user.as_deref(), entry.host.as_deref()];
        vec![
            if entry.current { "*" } else { " " }.to_owned(),
            short_id(&entry.key_id).to_owned(),
            entry.scope.to_owned(),
            entry
                .created
                .map_or_else(String::new, |created| time(created, zone)),
            by.into_iter().flatten().collect::<Vec<_>>().join("@"),
            entry.label.clone().unwrap_or_default(),
        ]
    };
    table(
        &header,
        &entries.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}

pub(crate) fn extents(extents: &[Extent]) -> String {
    let header = [
        Column::right("Offset"),
        Column::right("Length"),
        Column::right("Size"),
    ];
    let row = |extent: &Extent| {
        vec![
            extent.offset.to_string(),
            extent.length.to_string(),
            ByteSize(extent.length).to_string(),
        ]
    };
    if extents.is_empty() {
        return String::new();
    }
    table(&header, &extents.iter().map(row).collect::<Vec<_>>(), None)
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
