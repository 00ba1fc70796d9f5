//! Stores a content: everything of a backup but its record.

use std::sync::Arc;

use super::options::BackupOptions;
use super::protect::Protection;
use super::task::{BackupTask, Stored, Tally};
use crate::format::Counts;
use crate::ops::context::{Context, unindexed_packs};
use crate::ops::error::OpsError;
use crate::repo::{BlobReader, Index, IndexStored, Packer, PackerOptions, Project, RunLen};

/// A content that is durable and indexed, and what that took.
pub(super) struct Packed {
    pub(super) stored: Stored,
    pub(super) counts: Counts,
    pub(super) verified: u64,
    pub(super) receipt: IndexStored,
}

/// Lets `work` store what the project does not hold yet, and the tree over all of it.
pub(super) fn pack(
    project: &Project,
    index: &Arc<Index>,
    protection: &Protection<'_>,
    options: &BackupOptions,
    run_len: RunLen,
    context: &Context<'_>,
    work: impl FnOnce(&BackupTask<'_>) -> Result<Stored, OpsError>,
) -> Result<Packed, OpsError> {
    let (journal, left_over) = unindexed_packs(index);
    let journal = protection.told(journal);
    let left_over = protection.adopt(index, left_over)?;
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let tally = Tally::default();
    let packing = PackerOptions {
        compression: options.compression,
        run_len,
        sizes: options.pack_sizes,
        name_unnamed: true,
        dry_run: options.dry_run,
    };
    let (stored, receipt, report) = Packer::scope(index, journal, packing, |packer| {
        packer.adopt(&left_over, &context.observer)?;
        work(&BackupTask {
            project,
            context,
            blobs: &blobs,
            packer,
            tally: &tally,
            reread: options.reread,
        })
    })?;
    let counts = Counts {
        changed: tally.changed.into_inner(),
        read: tally.read.into_inner(),
        new: report.bytes_new,
        stored: report.bytes_stored,
        chunks_new: report.chunks_new,
    };
    Ok(Packed {
        stored,
        counts,
        verified: tally.verified.into_inner(),
        receipt,
    })
}

/// Whoever mistrusts what is there wants lost packs and segments to be made good, too.
pub(super) fn believe(index: &Index, options: &BackupOptions) -> Result<(), OpsError> {
    if options.reread {
        index.require_present()?;
        index.scan_unindexed()?;
    }
    Ok(())
}
