//! The nodes of trees: section 10 (Trees) of `docs/format.md`.

use super::error::FormatError;
use super::record::ContentKind;
use super::wire::Reader;
use crate::base::{BlobId, LEAF_SIZE};

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
const STREAM_LEAF: u8 = 3;
const STREAM_BRANCH: u8 = 4;

const BRANCH_WIDTH: u16 = 64;
const LEAF_WIDTH_MAX: u16 = 1024;
const LEVEL_MAX: u8 = 7;
const STREAM_LEVEL_MAX: u8 = 15;
const STREAM_CHUNK_MAX: u64 = 4 << 20;

/// A node of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A node of an image: a leaf (level 0) or a branch.
    Children(Children),
    /// A node of a stream: a leaf (level 0) or a branch.
    Stream(StreamEntries),
}

/// The children of a leaf or branch of an image, by position. A missing child is all zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Children {
    /// 0 for a leaf, whose children are chunks.
    pub level: u8,
    /// The ids of the children. There are as many elements as a full node has children, and at
    /// least one of them is an id.
    pub ids: Vec<Option<BlobId>>,
}

/// A node of a stream. It names consecutive chunks, or nodes of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntries {
    /// 0 for a leaf, whose entries are chunks.
    pub level: u8,
    /// Between 1 and [`MAX`](Self::MAX) entries.
    pub entries: Vec<StreamEntry>,
}

impl StreamEntries {
    /// The maximum number of entries in a node.
    pub const MAX: usize = 256;
}

/// An entry of a node of a stream: a chunk, or a node of the level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEntry {
    /// The number of bytes of the stream that the entry covers.
    pub len: u64,
    /// The id; `None` for a run of zeros, which is allowed in a leaf only.
    pub id: Option<BlobId>,
}

impl Children {
    /// Appends the node's plain bytes to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a node has 1024 children at most"
        )]
        let width = self.ids.len() as u16;
        out.extend_from_slice(&[if self.level == 0 { LEAF } else { BRANCH }, self.level]);
        out.extend_from_slice(&width.to_le_bytes());
        for eight in self.ids.chunks(8) {
            let bits = eight
                .iter()
                .enumerate()
                .map(|(i, id)| u8::from(id.is_some()) << i);
            out.push(bits.sum());
        }
        for id in self.ids.iter().flatten() {
            out.extend_from_slice(id.as_bytes());
        }
    }
}

impl StreamEntries {
    /// Appends the node's plain bytes to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a node has 256 entries at most"
        )]
        let count = self.entries.len() as u16;
        out.extend_from_slice(&[if self.level == 0 {
            STREAM_LEAF
        } else {
            STREAM_BRANCH
        }]);
        out.push(self.level);
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.len.to_le_bytes());
            out.extend_from_slice(id_or_zeros(entry.id.as_ref()));
        }
    }
}

impl Node {
    /// Returns the level of the node: 0 for a leaf, whose children are chunks.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self {
            Self::Children(node) => node.level,
            Self::Stream(node) => node.level,
        }
    }

    /// The maximum length of a node, in bytes.
    pub const LEN_MAX: usize = 4 + 1024 / 8 + 1024 * 32;

    /// Decodes a node's plain bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let level = reader.u8()?;
        let count = reader.u16()?;
        let levels = match kind {
            LEAF | STREAM_LEAF => 0..=0,
            BRANCH => 1..=LEVEL_MAX,
            STREAM_BRANCH => 1..=STREAM_LEVEL_MAX,
            _ => return Err(FormatError::BadValue("type of a node")),
        };
        if !levels.contains(&level) {
            return Err(FormatError::BadValue("level of a node"));
        }
        let node = match kind {
            LEAF | BRANCH => Self::Children(read_children(&mut reader, level, count)?),
            _ => Self::Stream(read_stream(&mut reader, level, count)?),
        };
        reader.end()?;
        Ok(node)
    }
}

fn read_children(reader: &mut Reader<'_>, level: u8, width: u16) -> Result<Children, FormatError> {
    let fits = match level {
        0 => width.is_power_of_two() && width <= LEAF_WIDTH_MAX,
        _ => width == BRANCH_WIDTH,
    };
    if !fits {
        return Err(FormatError::BadValue("width of a node"));
    }
    let width = usize::from(width);
    let bitmap = reader.bytes(width.div_ceil(8))?;
    let has = |i: usize| bitmap[i / 8] >> (i % 8) & 1 == 1;
    if (width..bitmap.len() * 8).any(has) {
        return Err(FormatError::ReservedNotZero);
    }
    if !(0..width).any(has) {
        return Err(FormatError::BadValue("children of a node"));
    }
    let ids = (0..width)
        .map(|i| {
            if has(i) {
                reader.array().map(|id| Some(BlobId::from_bytes(id)))
            } else {
                Ok(None)
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Children { level, ids })
}

fn read_stream(
    reader: &mut Reader<'_>,
    level: u8,
    count: u16,
) -> Result<StreamEntries, FormatError> {
    if !(1..=StreamEntries::MAX).contains(&usize::from(count)) {
        return Err(FormatError::BadValue("entries of a node"));
    }
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut total = 0u64;
    for _ in 0..count {
        let len = reader.u64()?;
        let id = match reader.array::<32>()? {
            zeros if zeros == [0; 32] => None,
            id => Some(BlobId::from_bytes(id)),
        };
        if len == 0 || (level == 0 && len > STREAM_CHUNK_MAX) {
            return Err(FormatError::BadValue("length of an entry"));
        }
        if level > 0 && id.is_none() {
            return Err(FormatError::BadValue("id of an entry"));
        }
        total = total
            .checked_add(len)
            .ok_or(FormatError::LimitExceeded("length of an entry"))?;
        entries.push(StreamEntry { len, id });
    }
    Ok(StreamEntries { level, entries })
}

/// Returns the level of the top node of an image of `size` bytes: the smallest `l` for which 64^l
/// leaves cover the image.
#[must_use]
pub fn image_levels(size: u64) -> u8 {
    let leaves = size.div_ceil(LEAF_SIZE).max(1);
    let mut level = 0;
    let mut span = 1u64;
    while span < leaves {
        span *= u64::from(BRANCH_WIDTH);
        level += 1;
    }
    level
}

/// Returns the kind, size, chunk size and top node of a content as 45 bytes. The root of the
/// content is a MAC of these bytes.
#[must_use]
pub fn root_description(
    kind: ContentKind,
    size: u64,
    chunk_size: u32,
    top: Option<&BlobId>,
) -> [u8; 45] {
    let mut out = [0; 45];
    out[0] = match kind {
        ContentKind::Image => 1,
        ContentKind::Stream => 2,
    };
    out[1..9].copy_from_slice(&size.to_le_bytes());
    out[9..13].copy_from_slice(&chunk_size.to_le_bytes());
    out[13..].copy_from_slice(id_or_zeros(top));
    out
}

fn id_or_zeros(id: Option<&BlobId>) -> &[u8; 32] {
    id.map_or(&[0; 32], |id| id.as_bytes())
}
