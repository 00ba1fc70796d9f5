//! Stores the content of a backup: everything but the record.

use std::sync::Arc;

use super::attachment::store_attachment;
use super::options::BackupOptions;
use super::protect::Protection;
use super::task::{BackupTask, Stored, Tally};
use crate::base::BlobId;
use crate::format::{Attachment, Counts};
use crate::ops::context::{Context, unindexed_packs};
use crate::ops::error::OpsError;
use crate::repo::{
    BlobReader, Index, IndexStored, Packer, PackerOptions, Pending, Project, RunLen,
};

/// The stored contents of a backup. In a dry run, they are neither durable nor indexed.
pub(super) struct Packed {
    pub(super) stored: Stored,
    pub(super) attachments: Vec<Attachment>,
    pub(super) counts: Counts,
    /// The number of chunks that were compared with the base to test a list of extents.
    pub(super) verified: u64,
    /// Proves that the index segments were stored; `None` after a dry run.
    receipt: Option<IndexStored>,
}

impl Packed {
    /// Returns the proof that a commit requires. Fails after a dry run.
    pub(super) fn receipt(&self) -> Result<&IndexStored, OpsError> {
        let none = OpsError::Internal("a dry run has stored nothing to commit");
        self.receipt.as_ref().ok_or(none)
    }

    /// Returns the ids of the top nodes of all trees.
    pub(super) fn tops(&self) -> impl Iterator<Item = BlobId> {
        let attachments = self.attachments.iter().map(|attachment| attachment.top);
        std::iter::once(self.stored.top)
            .chain(attachments)
            .flatten()
    }
}

/// Calls `work`, which stores the chunks that the project does not have, the tree of the content,
/// and the metadata of an image. Then stores the files that the user attaches.
pub(super) fn pack(
    project: &Project,
    index: &Arc<Index>,
    protection: &Protection<'_>,
    options: &BackupOptions,
    run_len: RunLen,
    context: &Context<'_>,
    work: impl FnOnce(&BackupTask<'_>) -> Result<(Stored, Vec<Attachment>), OpsError>,
) -> Result<Packed, OpsError> {
    let (unindexed, left_over) = unindexed_packs(index);
    let unindexed = protection.with_lease(unindexed);
    let left_over = protection.adopt(index, left_over)?;
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let tally = Tally::default();
    let packing = PackerOptions {
        compression: options.compression,
        run_len,
        sizes: options.pack_sizes,
        name_unnamed: true,
        verify: options.verify_writes,
        dry_run: options.dry_run,
    };
    let show = |pending: &Pending<'_>| tally.show(pending, context);
    let ((stored, attachments), receipt, report) =
        Packer::scope_shown(index, unindexed, packing, &show, |packer| {
            packer.adopt(&left_over, &context.observer)?;
            let task = BackupTask {
                project,
                context,
                blobs: &blobs,
                packer,
                tally: &tally,
                reread: options.reread,
            };
            let (stored, mut attachments) = work(&task)?;
            for file in &options.attached {
                attachments.push(store_attachment(&task, &file.name, &file.bytes)?);
            }
            Ok::<_, OpsError>((stored, attachments))
        })?;
    tally.show(&|| 0, context);
    let counts = Counts {
        changed: tally.changed.into_inner(),
        read: tally.read.into_inner(),
        new: report.bytes_new,
        stored: report.bytes_stored,
        chunks_new: report.chunks_new,
    };
    Ok(Packed {
        stored,
        attachments,
        counts,
        verified: tally.verified.into_inner(),
        receipt,
    })
}
