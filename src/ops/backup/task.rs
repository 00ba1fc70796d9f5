//! The state that all threads of one backup share.

use std::sync::atomic::AtomicU64;

use crate::base::BlobId;
use crate::format::ContentKind;
use crate::ops::context::Context;
use crate::repo::{BlobReader, Packer, Project};

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
}

/// A content that is stored.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) kind: ContentKind,
    pub(super) size: u64,
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
