//! The command `show`.

use crate::app::{
    Attempt, BackupDetail, Failure, Message, RepositorySettings, load_records, open_project,
};
use crate::cli::console::Console;
use crate::format::ContentKind;

use super::list::entry;

pub(super) fn show(
    console: &Console,
    settings: &RepositorySettings,
    selector: &str,
) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::Show)?;
    let records = load_records(&console.session, &project)?;
    let backup = records.select(selector)?;
    let record = &backup.record;
    let counts = &record.counts;
    console.meter.finish();
    console.output.show(&Message::Detail(Box::new(BackupDetail {
        entry: entry(backup),
        project: project.settings.name.clone(),
        volume_id: record.volume.id.to_string(),
        kind: match record.content.kind {
            ContentKind::Image => "image",
            ContentKind::Stream => "stream",
        },
        chunk_size: record.content.chunk_size,
        root: backup.root.to_string(),
        finished: record.finished.at(),
        base: record.base.map(|id| id.to_string()),
        source: serde_json::to_value(&record.source).unwrap_or_default(),
        bytes_changed: Some(counts.changed),
        bytes_read: Some(counts.read),
        bytes_new: Some(counts.new),
        chunks_new: Some(counts.chunks_new),
        tool: record.tool.clone(),
    })))
}
