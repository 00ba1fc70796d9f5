//! The text of RBD diffs: summaries and tables.

use crate::app::diff_message::{DiffEntry, DiffImage, DiffStream, ExportSummary, MergeSummary};
use crate::app::human::{count, printable, short_id};
use crate::app::table::{Column, table};
use crate::base::ByteSize;
use crate::format::ByteString;

use super::common::{fields, metadata, took};

/// Formats a size with a unit. From 1024 bytes on, adds the exact number of bytes.
fn exact(bytes: u64) -> String {
    match ByteSize(bytes) {
        size if bytes < 1024 => size.to_string(),
        size => format!("{size} ({bytes} bytes)"),
    }
}

/// Returns the name of the snapshot that a diff leads to. `None` stands for the head of the image.
fn snapshot(name: Option<&ByteString>) -> String {
    name.map_or_else(|| "(head)".to_owned(), ToString::to_string)
}

pub(crate) fn diff(diff: &DiffEntry) -> String {
    let from = |name: &ByteString| name.to_string();
    let touched = diff.first.zip(diff.last).map(|(first, last)| {
        format!(
            "{} of 4 MiB, {} of 64 KiB; bytes {first} to {last}",
            leaves(diff.leaves),
            count(diff.chunks, "chunk")
        )
    });
    fields(&[
        (
            "From",
            Some(diff.from.as_ref().map_or("(empty image)".to_owned(), from)),
        ),
        ("To", Some(snapshot(diff.to.as_ref()))),
        ("Size", Some(exact(diff.size))),
        (
            "Data",
            Some(format!(
                "{}, {}",
                exact(diff.bytes_data),
                count(diff.extents_data, "extent")
            )),
        ),
        (
            "Zeros in data",
            (diff.bytes_zero_in_data > 0).then(|| exact(diff.bytes_zero_in_data)),
        ),
        (
            "Zeros",
            Some(format!(
                "{}, {}",
                exact(diff.bytes_zero),
                count(diff.extents_zero, "extent")
            )),
        ),
        ("Touches", touched),
    ]) + "\n"
}

pub(crate) fn diffs(diffs: &[DiffEntry], columns: Option<usize>) -> String {
    let header = [
        Column::name("Snapshot"),
        Column::right("Size"),
        Column::right("Extents"),
        Column::right("Data"),
        Column::right("Zeros"),
        Column::right("Chunks"),
        Column::left("Protected"),
    ];
    let row = |diff: &DiffEntry| {
        vec![
            snapshot(diff.to.as_ref()),
            ByteSize(diff.size).to_string(),
            diff.extents.to_string(),
            ByteSize(diff.bytes_data).to_string(),
            ByteSize(diff.bytes_zero).to_string(),
            diff.chunks.to_string(),
            match (diff.whole, diff.protected) {
                (false, _) => "damaged",
                (_, Some(true)) => "yes",
                _ => "",
            }
            .to_owned(),
        ]
    };
    let rows: Vec<_> = diffs.iter().map(row).collect();
    table(&header, &rows, columns) + "\n"
}

pub(super) fn diff_image(image: &DiffImage) -> String {
    let striping = image.stripe_unit.zip(image.stripe_count);
    let text = fields(&[
        (
            "Objects",
            image.order.map(|order| ByteSize(1 << order).to_string()),
        ),
        (
            "Features",
            image.features.map(|_| image.feature_names.join(", ")),
        ),
        (
            "Striping",
            striping.map(|(unit, count)| format!("{} by {count}", ByteSize(unit))),
        ),
        ("Diffs", Some(image.diffs.to_string())),
    ]);
    text + &metadata(&image.metadata) + "\n"
}

pub(super) fn diff_stream(stream: &DiffStream) -> String {
    let version = match stream.version {
        Some(version) => format!("RBD diff, version {version}"),
        None => "RBD diff of an unknown version".to_owned(),
    };
    let state = match &stream.damage {
        None => "whole".to_owned(),
        Some(damage) => format!("damaged: {damage}"),
    };
    let source = printable(&stream.source);
    let bytes = exact(stream.bytes);
    format!("{source}\n  {version}, {bytes}\n  {state}\n")
}

pub(super) fn merge(summary: &MergeSummary) -> String {
    format!(
        "merged {} into {}\n  {}, {}\n  {}: data {}, zeros {}; written {}, in {}\n",
        count(summary.diffs, "diff"),
        printable(&summary.target),
        direction(summary.from.as_ref(), summary.to.as_ref()),
        ByteSize(summary.size),
        count(summary.extents, "extent"),
        ByteSize(summary.bytes_data),
        ByteSize(summary.bytes_zero),
        ByteSize(summary.bytes_written),
        took(summary.duration)
    )
}

pub(super) fn export(summary: &ExportSummary) -> String {
    let base = match &summary.from_backup_id {
        Some(id) => format!("changes since {}", short_id(id)),
        None => "everything".to_owned(),
    };
    format!(
        "exported {base} of {} ({}) to {}\n  {}, {}\n  \
         {}: data {}, zeros {}; written {}, fetched {}, in {}\n",
        printable(&summary.volume),
        short_id(&summary.backup_id),
        printable(&summary.target),
        direction(summary.from.as_ref(), summary.to.as_ref()),
        ByteSize(summary.size),
        count(summary.extents, "extent"),
        ByteSize(summary.bytes_data),
        ByteSize(summary.bytes_zero),
        ByteSize(summary.bytes_written),
        ByteSize(summary.bytes_fetched),
        took(summary.duration)
    )
}

/// Returns which snapshot a diff starts from and which one it leads to.
fn direction(from: Option<&ByteString>, to: Option<&ByteString>) -> String {
    let from = from.map_or_else(String::new, |name| format!("from {name} "));
    printable(&format!("{from}to {}", snapshot(to)))
}

fn leaves(number: u64) -> String {
    format!("{number} {}", if number == 1 { "leaf" } else { "leaves" })
}
