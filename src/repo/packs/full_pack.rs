//! What the packer hands to the writer, and the options of both.

use super::pack_sizes::{PackSizes, RunLen};
use crate::crypto::{PackCipher, PackNonce};
use crate::format::{Contents, PackListing};
use crate::repo::codec::Compression;

/// How to pack.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackerOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// When runs are full.
    pub run_len: RunLen,
    /// When packs and segments are full.
    pub targets: PackSizes,
    /// Do not name packs that the index knows and no segment names: nothing that is stored relies on them.
    pub leave_unnamed: bool,
    /// Do everything but store.
    pub dry_run: bool,
}

/// A pack that is whole but for its trailer.
pub(super) struct FullPack {
    pub(super) nonce: PackNonce,
    pub(super) cipher: PackCipher,
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) contents: Contents,
}

/// What the writer is given.
pub(super) enum ToWriter {
    /// Packs that are named only together: the copies of a node pack, or a single data pack.
    Full(Vec<FullPack>),
    /// Stored by an earlier run that was interrupted, and in no segment.
    Adopted(PackListing),
}
