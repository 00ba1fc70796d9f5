//! The packs that the packer sends to the writer, and the options of both.

use super::pack_sizes::{PackSizes, RunLen};
use super::part::Part;
use super::verify::VerifyWrites;
use crate::crypto::{PackCipher, PackRandom};
use crate::format::{Contents, PackListing};
use crate::repo::codec::Compression;

/// Options for packing and storing blobs.
#[derive(Debug, Clone, Copy)]
pub struct PackerOptions {
    /// The compression.
    pub compression: Compression,
    /// The maximum length of runs.
    pub run_len: RunLen,
    /// The sizes at which packs and segments are full.
    pub sizes: PackSizes,
    /// Whether to store a segment for packs that the local index has but no segment names. Needed
    /// if this process may rely on such packs.
    pub name_unnamed: bool,
    /// Which runs are opened again before their pack is stored.
    pub verify: VerifyWrites,
    /// Whether to do everything except storing.
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
    pub(super) parts: Vec<Part>,
    pub(super) contents: Contents,
}

/// A message from the packer to the writer.
pub(super) enum ToWriter {
    /// Packs that the same segment must name: the copies of a node pack, or a single pack of
    /// chunks.
    Full(Vec<FullPack>),
    /// A pack that an interrupted process stored and that no segment names.
    Adopted(PackListing),
}
