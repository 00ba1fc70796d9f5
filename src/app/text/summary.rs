//! The text of summaries.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::app::check_message::{CheckSummary, DataRead, KeylessSummary};
use crate::app::human::{count, printable, short_id};
use crate::app::key_change::{KeyChange, RevokedVolume};
use crate::app::message::{BackupSummary, CacheInfo, CompareSummary, InitSummary, LabelSummary};
use crate::app::replicate_message::ReplicateSummary;
use crate::app::restore_message::RestoreSummary;
use crate::app::stats::{Stats, VolumeStats};
use crate::base::ByteSize;

use super::common::{fields, named, took};
use super::consequences::consequences;

pub(super) fn init(summary: &InitSummary) -> String {
    format!(
        "created repository {} with project {}\n\
         Nothing in it can be read without the password: keep it safe.\n",
        summary.repository,
        printable(&summary.project)
    )
}

pub(super) fn backup(summary: &BackupSummary) -> String {
    let volume = printable(&named(&summary.volume, summary.snapshot.as_ref()));
    let (first, stored) = match &summary.backup_id {
        Some(id) if summary.existing => {
            let id = short_id(id);
            return format!("backup {id} of {volume} exists already and is identical\n");
        }
        Some(id) => (format!("backup {} of {volume}", short_id(id)), "stored"),
        None => (
            format!("dry run of {volume}; nothing was stored"),
            "would be stored",
        ),
    };
    let base = match &summary.base {
        Some(base) => format!("compared with {}", short_id(base)),
        None => "without a base".to_owned(),
    };
    let verified = match summary.chunks_verified {
        Some(chunks) => format!(
            "  {} outside the list compared with the base\n",
            count(chunks, "chunk")
        ),
        None => String::new(),
    };
    let missing = match &summary.damage {
        Some(damage) => format!(
            "  {} missing or damaged in the repository: the data that this backup needs was \
             {stored} again\n",
            count(damage.packs_missing + damage.packs_damaged, "pack")
        ),
        None => String::new(),
    };
    format!(
        "{first}\n  {}, {base}, read {}, changed {}\n  new {} ({}), {stored} {}, in {}\n\
         {verified}{missing}",
        ByteSize(summary.size),
        ByteSize(summary.bytes_read),
        ByteSize(summary.bytes_changed),
        ByteSize(summary.bytes_new),
        count(summary.chunks_new, "chunk"),
        ByteSize(summary.bytes_stored),
        took(summary.duration)
    )
}

pub(super) fn restore(summary: &RestoreSummary) -> String {
    let missing = match summary.bytes_missing {
        0 => String::new(),
        bytes => format!("all but {bytes} bytes of "),
    };
    let image = &summary.image;
    let mut snapshots = match (&image.snapshots, &image.safety_snapshot) {
        (Some(names), _) => format!("  made its snapshots {}\n", names.join(", ")),
        (None, Some(name)) => {
            format!(
                "  its earlier content is in its snapshot {name}: remove this snapshot when done\n"
            )
        }
        (None, None) => String::new(),
    };
    if !image.earlier_snapshots.is_empty() {
        let names = image.earlier_snapshots.join(", ");
        snapshots += "  its content before earlier, interrupted restores is in ";
        snapshots += &names;
        snapshots += "\n";
    }
    format!(
        "restored {missing}{} of {} to {}\n  {}, written {}, fetched {}, in {}\n{snapshots}",
        short_id(&summary.backup_id),
        printable(&summary.volume),
        summary.target,
        ByteSize(summary.size),
        ByteSize(summary.bytes_written),
        ByteSize(summary.bytes_fetched),
        took(summary.duration)
    )
}

pub(super) fn compare(summary: &CompareSummary) -> String {
    let (a, b) = (short_id(&summary.a), short_id(&summary.b));
    if summary.identical {
        return format!("{a} and {b} have the same content\n");
    }
    let sizes = match (summary.size_a, summary.size_b) {
        (a, b) if a == b => String::new(),
        (a, b) => format!(
            "  sizes differ: {} ({a} bytes), {} ({b} bytes)\n",
            ByteSize(a),
            ByteSize(b)
        ),
    };
    format!(
        "{a} and {b} differ in {}, {}\n{sizes}",
        count(summary.extents, "extent"),
        ByteSize(summary.bytes_different)
    )
}

pub(super) fn check(summary: &CheckSummary, zone: &TimeZone) -> String {
    let checked = format!(
        "{}, {}, read {}, in {}",
        count(summary.backups, "backup"),
        count(summary.packs, "pack"),
        ByteSize(summary.bytes_read),
        took(summary.duration)
    );
    let data = summary.data.as_ref().map_or_else(String::new, data_read);
    if summary.errors == 0 {
        return format!("no damage found ({checked})\n{data}");
    }
    let damage = summary.damage.as_ref();
    let damage = damage.map(|damage| consequences(damage, zone));
    format!(
        "{}, {} damaged, {} affected ({checked})\n{data}{}",
        count(summary.errors, "error"),
        count(summary.packs_damaged, "pack"),
        count(summary.backups_affected.len() as u64, "backup"),
        damage.unwrap_or_default()
    )
}

/// Describes the part of the data that the check did not read or did not decrypt. Returns an empty
/// text if there is none.
fn data_read(data: &DataRead) -> String {
    let mut text = String::new();
    if data.level != "opened" {
        text += "data was compared with its hashes; only a full key can decrypt it\n";
    }
    if data.complete && data.packs_chosen < data.packs_total {
        let _ = writeln!(
            text,
            "this was a part of the data: {} of {}; “cuttlebone audit list” shows when the rest \
             was verified",
            data.packs_chosen,
            count(data.packs_total, "pack")
        );
    }
    if !data.complete && data.packs_verified < data.packs_chosen {
        let _ = writeln!(
            text,
            "stopped early: {} of {} verified; run the command again to continue",
            data.packs_verified,
            count(data.packs_chosen, "pack")
        );
    } else if !data.complete {
        text += "not all data was read: the errors hide which packs backups use\n";
    }
    text
}

pub(super) fn keyless(summary: &KeylessSummary) -> String {
    let checked = format!(
        "{}, read {}, {} named by the log, in {}",
        count(summary.files, "file"),
        ByteSize(summary.bytes_read),
        count(summary.objects_required, "object"),
        took(summary.duration)
    );
    let result = match summary.errors {
        0 => "no damage found".to_owned(),
        errors => count(errors, "error"),
    };
    let statement = match summary.statement_holds {
        Some(true) => {
            "all objects that the statement covers exist, or the log says that they were removed\n"
        }
        Some(false) => "the statement does not hold\n",
        None => "",
    };
    format!("{result} ({checked})\n{statement}")
}

pub(super) fn replicate(summary: &ReplicateSummary) -> String {
    let removed = match summary.files_removed {
        0 => String::new(),
        files => format!(
            "  deleted {}, {}\n",
            count(files, "file"),
            ByteSize(summary.bytes_removed)
        ),
    };
    let verified = match (summary.files_verified, summary.bytes_verified) {
        (Some(files), Some(bytes)) => format!(
            "  read {} of the copy, {}\n",
            count(files, "file"),
            ByteSize(bytes)
        ),
        _ => String::new(),
    };
    format!(
        "copied {} to {}\n  {}, {}, in {}; {} existed before\n{removed}{verified}",
        printable(&summary.source),
        printable(&summary.target),
        count(summary.files_copied, "file"),
        ByteSize(summary.bytes_copied),
        took(summary.duration),
        count(summary.files_present, "file"),
    )
}

pub(super) fn stats(stats: &Stats) -> String {
    fields(&[
        ("Volumes", Some(stats.volumes.to_string())),
        (
            "Backups",
            Some(format!(
                "{}, {} in total",
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
        (
            "Used",
            Some(format!(
                "{}; prunes free the rest",
                ByteSize(stats.bytes_used)
            )),
        ),
    ])
}

pub(super) fn volume_stats(stats: &VolumeStats) -> String {
    fields(&[
        ("Volume", Some(stats.volume.clone())),
        (
            "Backups",
            Some(format!(
                "{}, {} in total",
                stats.backups,
                ByteSize(stats.bytes_backed_up)
            )),
        ),
        (
            "Exclusive",
            Some(format!(
                "{}: freed if all of its backups are removed",
                ByteSize(stats.bytes_exclusive)
            )),
        ),
        (
            "Shared",
            Some(format!(
                "{} with other volumes",
                ByteSize(stats.bytes_shared)
            )),
        ),
    ])
}

pub(super) fn label(summary: &LabelSummary) -> String {
    let (id, volume) = (short_id(&summary.backup_id), printable(&summary.volume));
    let Some(before) = &summary.replaces else {
        return format!("backup {id} of {volume} has these labels already\n");
    };
    let labels: Vec<_> = summary.labels.iter().collect();
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let labels = match &labels[..] {
        [] => "none".to_owned(),
        labels => printable(&labels.join(" ")),
    };
    let before = short_id(before);
    format!("backup {id} of {volume} replaces {before}\n  labels: {labels}\n")
}

pub(super) fn key_change(change: &KeyChange) -> String {
    let id = short_id(&change.key_id);
    match change.action {
        "opens" => format!("the password opens key {id}\n"),
        "exported" => format!(
            "exported key {id}; if it is ever lost, copy the file into keys/ of the\n\
             repository (of the project, if it is a project key) under the name\n  {}\n",
            change.key_id
        ),
        action => format!("{action} key {id}\n{}", revoked(&change.volumes)),
    }
}

/// Returns a line for each volume of a revoked key. If backups were not accepted, adds a line that
/// says when they are removed.
fn revoked(volumes: &[RevokedVolume]) -> String {
    let mut text = String::new();
    let mut dropped = 0;
    for volume in volumes {
        dropped += volume.backups_dropped;
        let _ = writeln!(
            text,
            "  {}: {} accepted, {} dropped",
            printable(&volume.volume),
            count(volume.backups_accepted, "backup"),
            volume.backups_dropped
        );
    }
    if dropped > 0 {
        text += "  the next “cuttlebone prune” removes dropped backups; their data is deleted by a \
            prune after its grace period\n";
    }
    text
}

pub(super) fn cache(cache: &CacheInfo) -> String {
    let content = match cache.chunks {
        Some(places) => {
            let places = count(places, "place");
            format!("{}, {places} of chunks and nodes", ByteSize(cache.bytes))
        }
        None => "empty".to_owned(),
    };
    format!("{}: {content}\n", cache.path)
}
