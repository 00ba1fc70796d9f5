//! The packs that the packer sends to the writer, and the options of both.

use super::pack_sizes::{PackSizes, RunLen};
use super::verify::VerifyWrites;
use crate::crypto::{PackCipher, PackRandom};
use crate::format::{Contents, PackListing};
use crate::repo::codec::Compression;

/// How blobs are packed and stored.
#[derive(Debug, Clone, Copy)]
pub struct PackerOptions {
    /// How much to compress.
    pub compression: Compression,
    /// When runs are full.
    pub run_len: RunLen,
    /// When packs and segments are full.
    pub sizes: PackSizes,
    /// Whether to store a segment for the packs that the index knows and that no segment names.
    /// Needed unless the run relies on none of them.
    pub name_unnamed: bool,
    /// Which runs are opened again before their pack is stored.
    pub verify: VerifyWrites,
    /// Stores nothing, but does everything else.
    pub dry_run: bool,
}

impl Default for PackerOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            run_len: RunLen::default(),
            sizes: PackSizes::default(),
            name_unnamed: true,
            verify: VerifyWrites::default(),
            dry_run: false,
        }
    }
}

/// The runs of a full pack, without its head and its sealed contents.
pub(super) struct FullPack {
    pub(super) cipher: PackCipher,
    pub(super) random: PackRandom,
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) contents: Contents,
}

/// A message from the packer to the writer.
pub(super) enum ToWriter {
    /// Packs that the same segment has to name: the copies of a node pack, or a single data pack.
    Full(Vec<FullPack>),
    /// A pack that an interrupted run stored and that no segment names.
    Adopted(PackListing),
}
