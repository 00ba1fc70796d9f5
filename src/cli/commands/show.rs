//! The command `show`.

use crate::app::{
    AttachmentEntry, Attempt, BackupDetail, Failure, Message, Metadata, RepositorySettings,
    open_records,
};
use crate::base::Role;
use crate::cli::console::Console;
use crate::format::{ContentKind, ImageMetadata};
use crate::ops;

use super::list::entry;

pub(super) fn show(
    console: &Console,
    settings: &RepositorySettings,
    selector: &str,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Show)?;
    let backup = records.select(selector)?;
    let record = &backup.record;
    let counts = &record.counts;
    // The metadata is in an attachment, which only a full key can decrypt. Other keys see only the
    // name and the size of the attachment.
    let metadata = match project.role() {
        Role::Full => {
            let context = console.session.context(Some(&settings.cache_dir));
            ops::image_metadata(&project, backup, &context)
        }
        Role::Write | Role::Verify => Ok(None),
    };
    let (metadata, damage) = match metadata {
        Ok(metadata) => (metadata, Ok(())),
        // Show the record even if the metadata cannot be read.
        Err(error) => (None, Err(error)),
    };
    let attachments = record.attachments.iter().map(|attachment| AttachmentEntry {
        name: attachment.name.clone(),
        size: attachment.size,
    });
    console.meter.finish();
    console
        .output
        .show(&Message::Detail(Box::new(BackupDetail {
            entry: entry(&records, backup),
            project: project.settings.name.clone(),
            volume_id: record.volume.id.to_string(),
            kind: match record.content.kind {
                ContentKind::Image => "image",
                ContentKind::Stream => "stream",
            },
            chunk_size: record.content.chunk_size,
            root: backup.root.to_string(),
            finished: record.finished.at(),
            original: record.original.map(|id| id.to_string()),
            base: record.base.map(|id| id.to_string()),
            source: serde_json::to_value(&record.source).unwrap_or_default(),
            attachments: attachments.collect(),
            metadata: metadata.map(entries),
            bytes_changed: Some(counts.changed),
            bytes_read: Some(counts.read),
            bytes_new: Some(counts.new),
            chunks_new: Some(counts.chunks_new),
            tool: record.tool.clone(),
        })))?;
    Ok(damage?)
}

fn entries(metadata: ImageMetadata) -> Vec<Metadata> {
    let entries = metadata.0.into_iter();
    entries
        .map(|(key, value)| Metadata { key, value })
        .collect()
}
