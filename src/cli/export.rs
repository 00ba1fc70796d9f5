//! `diff export`, and `restore --format rbd-diff`, which is the same from nothing.

use std::time::Instant;

use super::Session;
use super::access::Access;
use super::commands::{context, open_project, records};
use super::diff::{into, name, no_terminal};
use super::failure::Failure;
use super::message::{ExportSummary, Message};
use super::request::ExportDiff;
use crate::ops::{self, SnapshotNames};

pub(super) fn export(
    session: &Session,
    access: &Access,
    request: ExportDiff,
) -> Result<(), Failure> {
    no_terminal(&request.target)?;
    let started = Instant::now();
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let from = request.from.map(|from| records.select(&from)).transpose()?;
    let backup = records.select(&request.backup)?;
    let names = SnapshotNames {
        from: request.from_snapshot,
        to: request.to_snapshot,
    };
    let (report, target) = into(&request.target, request.force, |to| {
        let context = context(session, access);
        ops::export_diff(&project, from, backup, names, to, &context)
    })?;
    session.meter.finish();
    session.output.show(&Message::Export(ExportSummary {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        from_backup_id: from.map(|from| from.id.to_string()),
        target,
        from: report.header.from.as_deref().map(name),
        to: report.header.to.as_deref().map(name),
        size: report.header.size,
        extents: report.totals.extents,
        bytes_data: report.totals.data,
        bytes_zero: report.totals.zeros,
        bytes_written: report.totals.written,
        bytes_fetched: report.fetched,
        duration: started.elapsed().as_secs_f64(),
    }))
}
