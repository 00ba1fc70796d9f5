//! The state that all steps and threads of one backup share.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{BlobId, Phase, Progress};
use crate::format::ContentKind;
use crate::ops::context::Context;
use crate::repo::{BlobReader, Packer, Pending, Project};

/// Counters of a backup. `verified`, `same` and `data` count chunks, all others count bytes.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) changed: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) verified: AtomicU64,
    /// Chunks of the source that are not zeros, and that the base has at the same place.
    pub(super) same: AtomicU64,
    /// Chunks of the source that are not zeros.
    pub(super) data: AtomicU64,
    /// The bytes of the source that were processed, for progress.
    pub(super) done: AtomicU64,
    /// The size of the source, or 0 if it is not known.
    pub(super) total: AtomicU64,
}

/// The description of a content that was stored.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) kind: ContentKind,
    /// In bytes.
    pub(super) size: u64,
    /// The top node of the tree. `None` if the content is empty, or if it is an image of zeros.
    pub(super) top: Option<BlobId>,
}

/// The state that all steps of one backup share.
pub(super) struct BackupTask<'a> {
    pub(super) project: &'a Project,
    pub(super) context: &'a Context<'a>,
    pub(super) blobs: &'a BlobReader,
    pub(super) packer: &'a Packer<'a>,
    pub(super) tally: &'a Tally,
    pub(super) reread: bool,
}

impl Tally {
    /// Reports how much of the source is stored: the bytes that were processed, less the bytes that
    /// wait to be stored.
    pub(super) fn show(&self, pending: &Pending<'_>, context: &Context<'_>) {
        let total = self.total.load(Ordering::Relaxed);
        // Load `done` before `pending` counts the waiting bytes. Otherwise waiting bytes could be
        // reported as stored.
        let done = self.done.load(Ordering::Acquire);
        context.observer.progress(Progress {
            phase: Phase::Backup,
            done: done.saturating_sub(pending()),
            total: (total > 0).then_some(total),
        });
    }
}

impl BackupTask<'_> {
    /// Reports that `done` bytes of the source were processed, of `total` bytes if that is known.
    pub(super) fn worked(&self, done: u64, total: Option<u64>) {
        let total = total.unwrap_or_default();
        self.tally.total.store(total, Ordering::Relaxed);
        self.tally.done.store(done, Ordering::Release);
        let pending = || self.packer.bytes_pending();
        self.tally.show(&pending, self.context);
    }
}
