//! The text of `show`: a backup in full.

use jiff::tz::TimeZone;

use crate::app::attachment_message::AttachmentEntry;
use crate::app::human::time;
use crate::app::message::BackupDetail;
use crate::base::ByteSize;

use super::common::{fields, labels, metadata, state};

pub(super) fn detail(detail: &BackupDetail, zone: &TimeZone) -> String {
    let entry = &detail.entry;
    let bytes = |size: Option<u64>| size.map(|size| ByteSize(size).to_string());
    let lines = [
        ("Backup", Some(entry.backup_id.clone())),
        ("State", state(entry).map(str::to_owned)),
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
        ("Original", detail.original.clone()),
        ("Host", entry.host.clone()),
        ("Base", detail.base.clone()),
        ("Labels", Some(labels(entry)).filter(|all| !all.is_empty())),
        ("Source", source(&detail.source)),
        ("Attachment", attachments(detail)),
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
    fields(&lines) + &metadata(detail.metadata.as_deref().unwrap_or_default())
}

/// Returns the names and sizes of the attachments of a backup; `None` if it has none.
fn attachments(detail: &BackupDetail) -> Option<String> {
    let describe = |a: &AttachmentEntry| format!("{} ({})", a.name, ByteSize(a.size));
    let all: Vec<_> = detail.attachments.iter().map(describe).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Returns the source of a backup, as its record describes it. `None` if the record does not state
/// the kind of the source.
fn source(source: &serde_json::Value) -> Option<String> {
    let kind = source.get("kind")?.as_str()?;
    if let Some(rbd) = source.get("rbd").filter(|rbd| rbd.is_object()) {
        let names = ["pool", "namespace", "image"]
            .iter()
            .filter_map(|name| rbd.get(name));
        let names: Vec<_> = names.filter_map(|name| name.as_str()).collect();
        return Some(format!("{kind} {}", names.join("/")));
    }
    let path = source.get("path").unwrap_or_default();
    Some(match (path.as_str(), path.get("hex")) {
        (Some(path), _) => format!("{kind} {path}"),
        (None, Some(hex)) => format!("{kind}, its path in hexadecimal {hex}"),
        (None, None) => kind.to_owned(),
    })
}
