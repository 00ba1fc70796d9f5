//! The commands `diff export` and `restore --format rbd-diff`.

use std::time::Instant;

use crate::app::{
    Attempt, ExportRequest, ExportSummary, Failure, Message, RepositorySettings, notice_state,
    open_records, refuse_if_lost,
};
use crate::cli::console::Console;
use crate::format::ByteString;
use crate::ops::{self, SnapshotNames};

use super::diff_files::write_diff;

pub(super) fn export_diff(
    console: &Console,
    settings: &RepositorySettings,
    request: ExportRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (project, records) = open_records(&console.session, settings, Attempt::ExportDiff)?;
    let from = request
        .from
        .map(|from| records.select_surely(&from))
        .transpose()?;
    let backup = records.select_surely(&request.backup)?;
    let (session, selector) = (&console.session, &request.backup);
    refuse_if_lost(session, settings, &project, selector, backup)?;
    for read in from.into_iter().chain([backup]) {
        notice_state(&console.session, &project, &records, read);
    }
    let names = SnapshotNames {
        from: request.from_snapshot,
        to: request.to_snapshot,
    };
    let report = write_diff(&request.target, request.force, |to| {
        let context = console.session.context(Some(&settings.cache_dir));
        ops::export_diff(&project, from, backup, names, to, &context)
    })?;
    console.meter.finish();
    console.output.show(&Message::Export(ExportSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        from_backup_id: from.map(|from| from.id.to_string()),
        target: request.target.to_string(),
        from: report.header.from.as_deref().map(ByteString::from),
        to: report.header.to.as_deref().map(ByteString::from),
        size: report.header.size,
        extents: report.totals.extents,
        bytes_data: report.totals.data,
        bytes_zero: report.totals.zeros,
        bytes_written: report.totals.written,
        bytes_fetched: report.fetched,
        duration: started.elapsed().as_secs_f64(),
    }))
}
