//! A backup's content, read from its tree: for restore, check and whatever else looks into a backup.

use std::ops::Range;

use super::backup::Backup;
use super::blobs::BlobReader;
use super::error::RepoError;
use super::tree::{NodeReader, Top, children, entries, misplaced};
use crate::base::{BlobId, LEAF_SIZE, to_usize};
use crate::format::{ContentKind, Node};

/// A chunk in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Where it begins in the content, in bytes.
    pub offset: u64,
    /// Bytes of the content that it covers.
    pub len: u32,
    /// Bytes that it has itself: more than `len` only at the end of an image.
    pub plain_len: u32,
    /// What is there.
    pub id: BlobId,
}

impl ChunkRef {
    /// A chunk of an image at `offset`, behind which the image has `left` bytes.
    #[must_use]
    pub fn new(offset: u64, left: u64, chunk_size: u32, id: BlobId) -> Self {
        Self {
            offset,
            len: u32::try_from(left).unwrap_or(u32::MAX).min(chunk_size),
            plain_len: chunk_size,
            id,
        }
    }

    /// What of the content it covers, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.len)
    }
}

/// Reads one backup.
#[derive(Clone)]
pub struct ImageReader {
    blobs: BlobReader,
    top: Option<BlobId>,
    kind: ContentKind,
    size: u64,
    chunk_size: u32,
}

impl ImageReader {
    /// Reads this backup.
    #[must_use]
    pub fn new(blobs: &BlobReader, backup: &Backup) -> Self {
        let content = &backup.record.content;
        Self {
            blobs: blobs.clone(),
            top: backup.top,
            kind: content.kind,
            size: content.size,
            chunk_size: content.chunk_size,
        }
    }

    /// The content's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where its tree begins, if it is an image's.
    #[must_use]
    pub fn top(&self) -> Top {
        Top::new(self.top, self.size)
    }

    /// Where its blobs are.
    #[must_use]
    pub fn blobs(&self) -> &BlobReader {
        &self.blobs
    }

    /// Calls `each` with every chunk that is not zero, in ascending order.
    pub fn each_chunk<E: From<RepoError>>(
        &self,
        mut each: impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_chunk_but(|_| true, &mut each)
    }

    /// As [`each_chunk`](Self::each_chunk), but asks `enter` before each node; what lies below one that
    /// it refuses is left out.
    pub fn each_chunk_but<E: From<RepoError>>(
        &self,
        mut enter: impl FnMut(&BlobId) -> bool,
        each: &mut impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(top) = self.top else {
            return Ok(());
        };
        match self.kind {
            ContentKind::Image => self.image(&self.top(), 0, &mut enter, each),
            ContentKind::Stream => {
                let len = self.stream(&top, None, 0, self.size, &mut enter, each)?;
                if len == self.size {
                    Ok(())
                } else {
                    Err(misplaced().into())
                }
            }
        }
    }

    /// Fails if anything of an image's tree stands behind the image's end. Reads the nodes at the end only.
    pub fn check_end(&self) -> Result<(), RepoError> {
        let (ContentKind::Image, Some(last)) = (self.kind, self.size.checked_sub(1)) else {
            return if self.top.is_none() || self.kind == ContentKind::Stream {
                Ok(())
            } else {
                Err(misplaced())
            };
        };
        let mut node = self.top();
        while let Some(id) = node.id {
            let read = self.blobs.read(&id)?;
            let ids = &children(&read, node.level)?.ids;
            let span = match node.level {
                0 => self.chunk_size.into(),
                level => LEAF_SIZE * 64u64.pow(u32::from(level) - 1),
            };
            let number = to_usize(last / span) % ids.len();
            if ids[number + 1..].iter().any(Option::is_some) {
                return Err(misplaced());
            }
            if node.level == 0 {
                break;
            }
            node = Top {
                id: ids[number],
                level: node.level - 1,
            };
        }
        Ok(())
    }

    /// Walks an image's subtree whose first leaf is `first`.
    fn image<E: From<RepoError>>(
        &self,
        node: &Top,
        first: u64,
        enter: &mut impl FnMut(&BlobId) -> bool,
        each: &mut impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(id) = node.id.filter(|id| enter(id)) else {
            return Ok(());
        };
        let read = self.blobs.read(&id)?;
        let ids = &children(&read, node.level)?.ids;
        if node.level == 0 {
            let chunk_size = self.chunk_size;
            if ids.len() as u64 * u64::from(chunk_size) != LEAF_SIZE {
                return Err(misplaced().into());
            }
            for (number, id) in (0..).zip(ids) {
                let Some(id) = *id else { continue };
                let offset = first * LEAF_SIZE + number * u64::from(chunk_size);
                let left = self.size.checked_sub(offset).filter(|left| *left > 0);
                let left = left.ok_or_else(misplaced)?;
                each(ChunkRef::new(offset, left, chunk_size, id))?;
            }
            return Ok(());
        }
        let span = 64u64.pow(u32::from(node.level) - 1);
        for (number, id) in (0..).zip(ids) {
            let first = first + number * span;
            if id.is_some() && first * LEAF_SIZE >= self.size {
                return Err(misplaced().into());
            }
            self.image(
                &Top {
                    id: *id,
                    level: node.level - 1,
                },
                first,
                enter,
                each,
            )?;
        }
        Ok(())
    }

    /// Walks a stream's subtree that begins at `offset`; the bytes that it spans.
    fn stream<E: From<RepoError>>(
        &self,
        id: &BlobId,
        level: Option<u8>,
        offset: u64,
        len: u64,
        enter: &mut impl FnMut(&BlobId) -> bool,
        each: &mut impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<u64, E> {
        if !enter(id) {
            return Ok(len);
        }
        let node = self.blobs.read(id)?;
        let stream = entries(&node)?;
        if level.is_some_and(|level| level != stream.level) {
            return Err(misplaced().into());
        }
        let mut at = offset;
        for entry in &stream.entries {
            // The lengths of a node do not overflow, but a faulty writer's need not fit the stream.
            let left = (offset + len)
                .checked_sub(at)
                .filter(|left| entry.len <= *left);
            left.ok_or_else(misplaced)?;
            match (stream.level, entry.id) {
                (0, None) => {}
                #[expect(clippy::cast_possible_truncation, reason = "a chunk has 4 MiB at most")]
                (0, Some(id)) => each(ChunkRef {
                    offset: at,
                    len: entry.len as u32,
                    plain_len: entry.len as u32,
                    id,
                })?,
                (above, Some(id)) => {
                    let spanned = self.stream(&id, Some(above - 1), at, entry.len, enter, each)?;
                    if spanned != entry.len {
                        return Err(misplaced().into());
                    }
                }
                (_, None) => return Err(misplaced().into()),
            }
            at += entry.len;
        }
        Ok(at - offset)
    }
}

/// The chunks of one leaf of an image, without a walk over the others; all zeros if the tree ends before.
pub fn leaf_chunks(
    nodes: &impl NodeReader,
    top: Top,
    leaf: u64,
    width: usize,
) -> Result<Vec<Option<BlobId>>, RepoError> {
    let mut node = top;
    if leaf >> (6 * u32::from(top.level)) > 0 {
        node.id = None;
    }
    while let (Some(id), 1..) = (node.id, node.level) {
        let read = nodes.read(&id)?;
        let below = node.level - 1;
        let number = (leaf >> (6 * u32::from(below))) % 64;
        node = Top {
            id: children(&read, node.level)?.ids[number as usize],
            level: below,
        };
    }
    let Some(id) = node.id else {
        return Ok(vec![None; width]);
    };
    match &*nodes.read(&id)? {
        Node::Children(leaf) if leaf.level == 0 && leaf.ids.len() == width => Ok(leaf.ids.clone()),
        _ => Err(misplaced()),
    }
}

/// How many chunks of an image that are not zero lie in these leaves. Only subtrees with such chunks are entered.
pub fn count_chunks(
    nodes: &impl NodeReader,
    top: Top,
    leaves: &Range<u64>,
) -> Result<u64, RepoError> {
    count_below(nodes, top, 0, leaves)
}

/// The same of a subtree whose first leaf is `first`.
fn count_below(
    nodes: &impl NodeReader,
    top: Top,
    first: u64,
    leaves: &Range<u64>,
) -> Result<u64, RepoError> {
    let span = 64u64.pow(u32::from(top.level));
    let (Some(id), true) = (top.id, first < leaves.end && leaves.start < first + span) else {
        return Ok(0);
    };
    let read = nodes.read(&id)?;
    let ids = &children(&read, top.level)?.ids;
    let Some(level) = top.level.checked_sub(1) else {
        return Ok(ids.iter().flatten().count() as u64);
    };
    let mut count = 0;
    for (number, id) in (0..).zip(ids) {
        let child = Top { id: *id, level };
        count += count_below(nodes, child, first + number * (span / 64), leaves)?;
    }
    Ok(count)
}

/// A chunk of an image that is not zero, as its leaf and its number there; none if all are zeros. At each
/// node `pick` is given the number of children that are there, at least one, and says which to take.
pub fn any_chunk(
    nodes: &impl NodeReader,
    top: Top,
    mut pick: impl FnMut(usize) -> Result<usize, RepoError>,
) -> Result<Option<(u64, usize)>, RepoError> {
    let (mut node, mut leaf) = (top, 0);
    while let Some(id) = node.id {
        let read = nodes.read(&id)?;
        let children = children(&read, node.level)?;
        let there = children.ids.iter().enumerate();
        let there: Vec<_> = there.filter(|(_, id)| id.is_some()).collect();
        let picked = pick(there.len())?;
        let (number, id) = *there.get(picked).ok_or_else(misplaced)?;
        if node.level == 0 {
            return Ok(Some((leaf, number)));
        }
        leaf = leaf * 64 + number as u64;
        node = Top {
            id: *id,
            level: node.level - 1,
        };
    }
    Ok(None)
}
