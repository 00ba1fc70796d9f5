//! Tables of backups, keys and extents.

use jiff::tz::TimeZone;

use crate::app::attachment_message::AttachmentEntry;
use crate::app::check_message::Extent;
use crate::app::human::{short_id, time};
use crate::app::message::{BackupEntry, KeyEntry};
use crate::app::table::{Column, table};
use crate::base::ByteSize;

use super::common::{labels, named, state};

/// Returns the names and sizes of files that are attached to a backup.
pub(crate) fn attachments(entries: &[AttachmentEntry]) -> String {
    if entries.is_empty() {
        return "no attachments\n".to_owned();
    }
    let header = vec![Column::name("Attachment"), Column::right("Size")];
    let row = |entry: &AttachmentEntry| vec![entry.name.clone(), ByteSize(entry.size).to_string()];
    table(&header, &entries.iter().map(row).collect::<Vec<_>>(), None)
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
        header.push(Column::words("Labels"));
    }
    let with_state = entries.iter().any(|entry| state(entry).is_some());
    if with_state {
        header.push(Column::left("State"));
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
        if with_state {
            row.push(state(entry).unwrap_or_default().to_owned());
        }
        row
    };
    table(
        &header,
        &entries.iter().map(row).collect::<Vec<_>>(),
        columns,
    )
}

pub(crate) fn keys(entries: &[KeyEntry], zone: &TimeZone, columns: Option<usize>) -> String {
    let limited = entries.iter().any(|entry| !entry.volumes.is_empty());
    let mut header = vec![
        Column::left(" "),
        Column::left("ID"),
        Column::left("Role"),
        Column::name("Opens"),
        Column::left("Created"),
        Column::name("By"),
        Column::name("Label"),
    ];
    if limited {
        header.push(Column::name("Volumes"));
    }
    let row = |entry: &KeyEntry| {
        let by = [entry.user.as_deref(), entry.host.as_deref()];
        let mut row = vec![
            if entry.current { "*" } else { " " }.to_owned(),
            short_id(&entry.key_id).to_owned(),
            entry.role.to_owned(),
            match &entry.project {
                Some(project) => format!("project {project}"),
                None => "repository".to_owned(),
            },
            entry
                .created
                .map_or_else(String::new, |created| time(created, zone)),
            by.into_iter().flatten().collect::<Vec<_>>().join("@"),
            if entry.foreign {
                "(foreign)".to_owned()
            } else {
                entry.label.clone().unwrap_or_default()
            },
        ];
        if limited {
            row.push(entry.volumes.join(", "));
        }
        row
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
