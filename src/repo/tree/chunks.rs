//! The chunks of a content, read from its tree.

use std::ops::{ControlFlow, Range};

use super::image::Top;
use super::nodes::{NodeReader, entries, image_children, misplaced};
use super::walk::{Visitor, walk};
use crate::base::{BlobId, LEAF_SIZE};
use crate::format::{Children, Content, ContentKind, Node, StreamEntries};
use crate::repo::error::RepoError;

/// A chunk and its place in the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The offset in the content, in bytes.
    pub offset: u64,
    /// The number of bytes of the content that the chunk covers.
    pub len: u32,
    /// The length of the chunk in bytes. It exceeds `len` only at the end of an image.
    pub plain_len: u32,
    /// The id of the chunk.
    pub id: BlobId,
}

impl ChunkRef {
    /// Returns a chunk of an image at `offset`. The image has `left` bytes from there on.
    #[must_use]
    pub fn new(offset: u64, left: u64, chunk_size: u32, id: BlobId) -> Self {
        Self {
            offset,
            len: u32::try_from(left).unwrap_or(u32::MAX).min(chunk_size),
            plain_len: chunk_size,
            id,
        }
    }

    /// Returns the range of the content that the chunk covers, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.len)
    }
}

/// A part of a content that a walk over its tree finds.
#[derive(Debug)]
pub enum ContentPart {
    /// A chunk.
    Chunk(ChunkRef),
    /// A part of the content that cannot be read, because a node of the tree cannot be read.
    Lost {
        /// The range of the content that cannot be read, in bytes.
        range: Range<u64>,
        /// The node that cannot be read.
        node: BlobId,
        /// The error from reading the node.
        error: RepoError,
    },
}

/// The tree of a content, and the properties that its nodes must have.
#[derive(Debug, Clone, Copy)]
pub struct ContentTree {
    /// The top node. `None` if an image has only zeros, or if a stream is empty.
    pub top: Option<BlobId>,
    /// Whether the content is an image or a stream.
    pub kind: ContentKind,
    /// The size of the content in bytes.
    pub size: u64,
    /// The length of each chunk of an image, in bytes; 0 for a stream.
    pub chunk_size: u32,
    /// Makes the error for a node that cannot be read, given the offset of its subtree in the
    /// content.
    node_error: fn(u64, RepoError) -> RepoError,
}

/// The place of a subtree in the content.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The level of the top node of the subtree. `None` for the top of a stream, whose level is not
    /// known.
    level: Option<u8>,
    /// The offset in the content, in bytes.
    offset: u64,
    /// The number of bytes that the subtree spans. It may reach beyond the end of an image.
    len: u64,
}

impl ContentTree {
    /// Returns the tree of a content that a record describes. `top` is the top node of the tree.
    #[must_use]
    pub fn new(top: Option<BlobId>, content: &Content) -> Self {
        Self {
            top,
            kind: content.kind,
            size: content.size,
            chunk_size: content.chunk_size,
            node_error: |_, error| error,
        }
    }

    /// Returns this tree, but with `node_error`, which makes the errors for nodes that cannot be
    /// read. `node_error` gets the offset of the subtree in the content, and the error from reading
    /// the node.
    #[must_use]
    pub(crate) fn naming_offsets(self, node_error: fn(u64, RepoError) -> RepoError) -> Self {
        Self { node_error, ..self }
    }

    /// Returns the top node and its level. Call this only for the tree of an image.
    #[must_use]
    pub fn image_top(&self) -> Top {
        Top::new(self.top, self.size)
    }

    /// Calls `each` with every nonzero chunk in a range of the content, in ascending order, until
    /// `each` returns `Break`. Enters only subtrees that reach into the range and for whose top
    /// node `enter` returns true. Fails at the first node that cannot be read.
    pub fn chunks<E: From<RepoError>>(
        &self,
        nodes: &impl NodeReader,
        range: Range<u64>,
        enter: impl FnMut(&BlobId) -> bool,
        mut each: impl FnMut(ChunkRef) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.parts(nodes, range, enter, |part| match part {
            ContentPart::Chunk(chunk) => each(chunk),
            ContentPart::Lost { range, error, .. } => {
                Err((self.node_error)(range.start, error).into())
            }
        })
    }

    /// Like [`chunks`](Self::chunks), but calls `each` also with the parts that cannot be read, and
    /// continues after them.
    pub fn parts<E: From<RepoError>>(
        &self,
        nodes: &impl NodeReader,
        range: Range<u64>,
        enter: impl FnMut(&BlobId) -> bool,
        each: impl FnMut(ContentPart) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let Some(top) = self.top else {
            return Ok(());
        };
        let (level, len) = match self.kind {
            ContentKind::Image => {
                let level = self.image_top().level;
                (Some(level), span(level))
            }
            ContentKind::Stream => (None, self.size),
        };
        let place = Place {
            level,
            offset: 0,
            len,
        };
        let mut chunks = Chunks {
            tree: self,
            range,
            enter,
            each,
        };
        walk(nodes, top, place, 1, &mut chunks)
    }

    /// Fails if an image's tree has nodes or chunks after the end of the image. Reads only the
    /// nodes at the end.
    pub fn check_end(&self, nodes: &impl NodeReader) -> Result<(), RepoError> {
        let Some(last) = self.size.checked_sub(1) else {
            return match (self.top, self.kind) {
                (Some(_), ContentKind::Image) => Err(misplaced()),
                _ => Ok(()),
            };
        };
        match self.kind {
            ContentKind::Stream => Ok(()),
            ContentKind::Image => self.chunks(
                nodes,
                last..u64::MAX,
                |_| true,
                |_| Ok(ControlFlow::Continue(())),
            ),
        }
    }
}

/// Returns the number of bytes that a node of this level spans in an image.
fn span(level: u8) -> u64 {
    64u64.saturating_pow(level.into()).saturating_mul(LEAF_SIZE)
}

/// Returns whether a node of a stream has the level and spans the length that the node above
/// states. The top may have any level, and must span the whole stream.
fn fits(node: &StreamEntries, place: &Place) -> bool {
    // The decoder has checked that this sum does not overflow. Compare the sum with the length that
    // the node above states, since a faulty writer may have stored wrong lengths.
    let spanned: u64 = node.entries.iter().map(|entry| entry.len).sum();
    place.level.is_none_or(|level| level == node.level) && spanned == place.len
}

/// Walks over the chunks of a range.
struct Chunks<'a, N, F> {
    tree: &'a ContentTree,
    range: Range<u64>,
    enter: N,
    each: F,
}

impl<E, N, F> Visitor for Chunks<'_, N, F>
where
    E: From<RepoError>,
    N: FnMut(&BlobId) -> bool,
    F: FnMut(ContentPart) -> Result<ControlFlow<()>, E>,
{
    type Place = Place;
    type Error = E;

    fn enter(&mut self, id: &BlobId, _: &Place) -> Result<bool, E> {
        Ok((self.enter)(id))
    }

    fn visit(
        &mut self,
        id: &BlobId,
        node: &Node,
        place: &Place,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<ControlFlow<()>, E> {
        match (self.tree.kind, place.level) {
            (ContentKind::Image, Some(level)) => match image_children(node, level) {
                Ok(node) if self.fills_leaf(node) => self.image(node, place.offset, below),
                Ok(_) => self.lost(id, place, misplaced()),
                Err(error) => self.lost(id, place, error),
            },
            _ => match entries(node) {
                Ok(node) if fits(node, place) => self.stream(node, place, below),
                Ok(_) => self.lost(id, place, misplaced()),
                Err(error) => self.lost(id, place, error),
            },
        }
    }

    fn unreadable(&mut self, id: &BlobId, place: &Place, error: RepoError) -> Result<(), E> {
        self.lost(id, place, error).map(drop)
    }
}

impl<E, N, F> Chunks<'_, N, F>
where
    E: From<RepoError>,
    F: FnMut(ContentPart) -> Result<ControlFlow<()>, E>,
{
    /// Reports that a whole subtree cannot be read.
    fn lost(
        &mut self,
        node: &BlobId,
        place: &Place,
        error: RepoError,
    ) -> Result<ControlFlow<()>, E> {
        let end = place.offset.saturating_add(place.len).min(self.tree.size);
        (self.each)(ContentPart::Lost {
            range: place.offset..end,
            node: *node,
            error,
        })
    }

    fn reaches(&self, offset: u64, len: u64) -> bool {
        offset < self.range.end && self.range.start < offset.saturating_add(len)
    }

    /// Returns whether a leaf lists chunks, or zeros, for all of its 4 MiB. Always true for a
    /// branch.
    fn fills_leaf(&self, node: &Children) -> bool {
        node.level > 0 || node.ids.len() as u64 * u64::from(self.tree.chunk_size) == LEAF_SIZE
    }

    fn image(
        &mut self,
        node: &Children,
        first: u64,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<ControlFlow<()>, E> {
        let chunk_size = self.tree.chunk_size;
        let level = node.level.checked_sub(1);
        let len = level.map_or(chunk_size.into(), span);
        for (number, id) in (0..).zip(&node.ids) {
            let Some(id) = *id else { continue };
            let offset = first.saturating_add(len.saturating_mul(number));
            let left = self.tree.size.checked_sub(offset);
            let left = left.filter(|left| *left > 0).ok_or_else(misplaced)?;
            if !self.reaches(offset, len) {
                continue;
            }
            if level.is_some() {
                below.push((id, Place { level, offset, len }));
                continue;
            }
            let chunk = ChunkRef::new(offset, left, chunk_size, id);
            let flow = (self.each)(ContentPart::Chunk(chunk))?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn stream(
        &mut self,
        node: &StreamEntries,
        place: &Place,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<ControlFlow<()>, E> {
        let level = node.level.checked_sub(1);
        let mut offset = place.offset;
        for entry in &node.entries {
            let len = entry.len;
            match (entry.id, level) {
                (None, None) => {}
                (None, Some(_)) => return Err(misplaced().into()),
                (Some(_), _) if !self.reaches(offset, len) => {}
                (Some(id), Some(_)) => below.push((id, Place { level, offset, len })),
                (Some(id), None) => {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a chunk has 4 MiB at most"
                    )]
                    let len = len as u32;
                    let flow = (self.each)(ContentPart::Chunk(ChunkRef {
                        offset,
                        len,
                        plain_len: len,
                        id,
                    }))?;
                    if flow.is_break() {
                        return Ok(flow);
                    }
                }
            }
            offset += len;
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Returns the chunks of one leaf of an image; `None` for each chunk of zeros, and for all chunks
/// if the tree has no such leaf. `width` is the number of chunks in a leaf. Reads only this leaf
/// and the nodes above it.
pub fn leaf_chunks(
    nodes: &impl NodeReader,
    top: Top,
    leaf: u64,
    width: usize,
) -> Result<Vec<Option<BlobId>>, RepoError> {
    let mut chunks = vec![None; width];
    each_leaf(nodes, top, leaf..leaf.saturating_add(1), |ids| {
        if ids.len() != width {
            return Err(misplaced());
        }
        chunks.copy_from_slice(ids);
        Ok(())
    })?;
    Ok(chunks)
}

/// Counts the nonzero chunks in these leaves of an image. Enters only subtrees that reach into this
/// range of leaves.
pub fn count_chunks(
    nodes: &impl NodeReader,
    top: Top,
    leaves: &Range<u64>,
) -> Result<u64, RepoError> {
    let mut count = 0;
    each_leaf(nodes, top, leaves.clone(), |ids| {
        count += ids.iter().flatten().count() as u64;
        Ok(())
    })?;
    Ok(count)
}

/// Calls `each` with the ids of the chunks of every leaf node of an image in a range of leaves.
fn each_leaf(
    nodes: &impl NodeReader,
    top: Top,
    leaves: Range<u64>,
    each: impl FnMut(&[Option<BlobId>]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let Some(id) = top.id else {
        return Ok(());
    };
    let whole = 64u64.saturating_pow(top.level.into());
    if leaves.start >= whole {
        return Ok(());
    }
    walk(nodes, id, (top.level, 0), 1, &mut Leaves { leaves, each })
}

/// Walks over leaf nodes. The place of a node is its level, and the number of its first leaf.
struct Leaves<F> {
    leaves: Range<u64>,
    each: F,
}

impl<F: FnMut(&[Option<BlobId>]) -> Result<(), RepoError>> Visitor for Leaves<F> {
    type Place = (u8, u64);
    type Error = RepoError;

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        &(level, first): &Self::Place,
        below: &mut Vec<(BlobId, Self::Place)>,
    ) -> Result<ControlFlow<()>, RepoError> {
        let node = image_children(node, level)?;
        let Some(level) = level.checked_sub(1) else {
            (self.each)(&node.ids)?;
            return Ok(ControlFlow::Continue(()));
        };
        let span = 64u64.pow(level.into());
        for (number, id) in (0..).zip(&node.ids) {
            let first = first + number * span;
            if let Some(id) = *id
                && first < self.leaves.end
                && self.leaves.start < first + span
            {
                below.push((id, (level, first)));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Picks a nonzero chunk of an image. Returns the number of its leaf, and its number in the leaf.
/// `None` if the whole image is zero. At each node, `pick` gets the number of children, at least
/// one, and returns the number of the child to enter.
pub fn any_chunk(
    nodes: &impl NodeReader,
    top: Top,
    pick: impl FnMut(usize) -> Result<usize, RepoError>,
) -> Result<Option<(u64, usize)>, RepoError> {
    let Some(id) = top.id else {
        return Ok(None);
    };
    let mut picked = Pick { pick, found: None };
    walk(nodes, id, (top.level, 0), 1, &mut picked)?;
    Ok(picked.found)
}

/// Walks down one child of each node. The place of a node is its level, and its number in this
/// level.
struct Pick<F> {
    pick: F,
    found: Option<(u64, usize)>,
}

impl<F: FnMut(usize) -> Result<usize, RepoError>> Visitor for Pick<F> {
    type Place = (u8, u64);
    type Error = RepoError;

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        &(level, index): &Self::Place,
        below: &mut Vec<(BlobId, Self::Place)>,
    ) -> Result<ControlFlow<()>, RepoError> {
        let node = image_children(node, level)?;
        let there = (0..).zip(&node.ids);
        let there: Vec<_> = there.filter_map(|(n, id)| Some((n, (*id)?))).collect();
        let picked = (self.pick)(there.len())?;
        let (number, id) = *there.get(picked).ok_or_else(misplaced)?;
        match level.checked_sub(1) {
            Some(level) => below.push((id, (level, index * 64 + number as u64))),
            None => self.found = Some((index, number)),
        }
        Ok(ControlFlow::Continue(()))
    }
}
