//! Pieces of text that several messages share.

use std::fmt::Write as _;
use std::time::Duration;

use crate::app::diff_message::Metadata;
use crate::app::human::{duration, printable};
use crate::app::message::BackupEntry;
use crate::format::ByteString;

pub(super) fn took(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Returns the text that selects the newest backup of a volume; with a snapshot, the text that
/// selects the backup of this snapshot.
pub(super) fn named(volume: &str, snapshot: Option<&ByteString>) -> String {
    match snapshot {
        Some(snapshot) => format!("{volume}@{snapshot}"),
        None => volume.to_owned(),
    }
}

pub(super) fn labels(entry: &BackupEntry) -> String {
    let labels = entry.labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(", ")
}

/// Returns why a backup does not count like other backups; `None` if it counts.
pub(super) fn state(entry: &BackupEntry) -> Option<&'static str> {
    match (entry.withdrawn, entry.forgotten) {
        (false, false) => None,
        (true, false) => Some("withdrawn"),
        (false, true) => Some("forgotten"),
        (true, true) => Some("withdrawn, forgotten"),
    }
}

/// Returns a line for each entry of an image's metadata.
pub(super) fn metadata(entries: &[Metadata]) -> String {
    entries.iter().fold(String::new(), |mut text, entry| {
        let entry = format!("{} = {}", entry.key, entry.value);
        let _ = writeln!(text, "Metadata  {}", printable(&entry));
        text
    })
}

/// Returns a line for each field that has a value: its name, then its value. Aligns the values.
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
