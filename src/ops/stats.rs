//! Statistics of a project.

use std::collections::HashSet;

use super::context::Context;
use super::error::OpsError;
use crate::format::BlobKind;
use crate::repo::{Project, Records};

/// Counts of a project. In bytes unless stated otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatsReport {
    /// Volumes with a backup.
    pub volumes: u64,
    /// Backups.
    pub backups: u64,
    /// The sizes of all backups together.
    pub backed_up: u64,
    /// The number of stored chunks.
    pub chunks: u64,
    /// The plain size of all stored chunks together.
    pub unique: u64,
    /// The size of all packs in the store.
    pub stored: u64,
    /// Packs.
    pub packs: u64,
}

/// Computes the counts from the index and the records.
pub fn stats(project: &Project, context: &Context<'_>) -> Result<StatsReport, OpsError> {
    let records = Records::load(project)?;
    let index = context.index(project)?;
    let mut report = StatsReport {
        volumes: records
            .all()
            .iter()
            .map(|b| b.volume)
            .collect::<HashSet<_>>()
            .len() as u64,
        backups: records.all().len() as u64,
        backed_up: records.all().iter().map(|b| b.record.content.size).sum(),
        ..StatsReport::default()
    };
    index.each_pack(|pack| {
        context.cancel.check()?;
        report.packs += 1;
        report.stored += pack.contents.pack_size();
        if pack.contents.kind == BlobKind::Chunk {
            for blob in pack.contents.blobs() {
                report.chunks += 1;
                report.unique += u64::from(blob.plain_len);
            }
        }
        Ok(())
    })?;
    index.close();
    Ok(report)
}
