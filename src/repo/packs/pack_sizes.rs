//! The maximum length of runs, and the sizes at which packs and segments are full.

use crate::format::{BlobKind, RUN_PLAIN_MAX};

/// A pack of chunks (a data pack) is full at this many bytes. With 32 MiB, the packer's budget and
/// the memory of Argon2id together fit into the memory that a backup may use.
const DATA: usize = 32 << 20;
/// A node pack is full at this many bytes. While it is stored, memory holds both of its copies.
const NODES: usize = 4 << 20;
/// A pack is full at this many blobs, so that its listing stays small.
pub(super) const BLOBS_TARGET: usize = 8192;
/// A pack with less than a quarter of a full pack is small: less than 8 MiB of chunks, or less than
/// 1 MiB of nodes.
const SMALL_PART: usize = 4;
/// A segment is stored after this many packs, so that a killed process loses little work.
const SEGMENT_PACKS: usize = 16;

/// The maximum number of bytes that are compressed and sealed together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunLen {
    /// 4 MiB, for data that is read completely. Compresses best.
    #[default]
    Leaf,
    /// 512 KiB, for data from which a later backup reads single chunks. If a diff changes only a
    /// part of a chunk, the backup of the diff reads the rest of the chunk from the base. Takes 1 %
    /// more space and halves the time of such reads.
    Part,
}

impl RunLen {
    /// Returns the maximum plain length of a run, in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Leaf => RUN_PLAIN_MAX,
            Self::Part => 512 << 10,
        }
    }
}

/// The sizes at which packs and segments are full. The default suits most stores. With smaller
/// packs, a killed process loses less work, and the store has more objects. Larger packs would not
/// fit into the memory of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSizes {
    data: usize,
    nodes: usize,
    segment_packs: usize,
}

impl Default for PackSizes {
    fn default() -> Self {
        Self {
            data: DATA,
            nodes: NODES,
            segment_packs: SEGMENT_PACKS,
        }
    }
}

impl PackSizes {
    /// A data pack is full at `data` bytes, a node pack at `nodes` bytes, a segment at
    /// `segment_packs` packs. Values below 1 become 1, and values above the default become the
    /// default.
    #[must_use]
    pub fn new(data: usize, nodes: usize, segment_packs: usize) -> Self {
        Self {
            data: data.clamp(1, DATA),
            nodes: nodes.clamp(1, NODES),
            segment_packs: segment_packs.clamp(1, SEGMENT_PACKS),
        }
    }

    /// Returns the number of bytes at which a data pack is full.
    #[must_use]
    pub fn data(self) -> usize {
        self.data
    }

    /// Returns the number of bytes at which a node pack is full.
    #[must_use]
    pub fn nodes(self) -> usize {
        self.nodes
    }

    /// Returns how much of a pack is filled, in bytes. `BLOBS_TARGET` blobs fill a pack, however
    /// short they are. Half as many blobs fill at least half of it.
    #[must_use]
    pub fn filled(self, kind: BlobKind, bytes: u64, blobs: u64) -> u64 {
        let share = blobs.saturating_mul(self.full(kind)) / BLOBS_TARGET as u64;
        bytes.max(share)
    }

    /// Returns the number of filled bytes below which a pack is small.
    #[must_use]
    pub fn small(self, kind: BlobKind) -> u64 {
        self.full(kind) / SMALL_PART as u64
    }

    /// Returns the number of bytes at which a pack is full.
    fn full(self, kind: BlobKind) -> u64 {
        let full = match kind {
            BlobKind::Chunk => self.data,
            BlobKind::Node => self.nodes,
        };
        full as u64
    }

    /// Returns the number of packs at which a segment is full.
    #[must_use]
    pub fn segment_packs(self) -> usize {
        self.segment_packs
    }
}
