//! Trees: section 10 of `docs/format.md`. Written along changes, walked along differences.

mod compare;
mod image;
mod stream;

pub use compare::{Difference, compare_trees};
pub use image::{ImageTree, Top};
pub use stream::StreamTree;

use std::sync::Arc;

use super::blobs::BlobReader;
use super::error::RepoError;
use super::packs::Packer;
use crate::base::BlobId;
use crate::crypto::ProjectKeys;
use crate::format::{Children, Node, StreamEntries};

/// Gives nodes by their id.
pub trait NodeReader {
    /// The node with this id.
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError>;
}

/// Takes nodes and gives their ids.
pub trait NodeStore: NodeReader {
    /// Stores a node's plain bytes, if they are new.
    fn store(&self, plain: &[u8]) -> Result<BlobId, RepoError>;
}

impl NodeReader for BlobReader {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        self.node(id)
    }
}

/// Reads through a reader, stores through a packer.
pub struct PackedNodes<'a> {
    /// Where base trees are read.
    pub reader: &'a BlobReader,
    /// Where new nodes go.
    pub packer: &'a Packer<'a>,
    /// What gives them their ids.
    pub keys: &'a ProjectKeys,
}

impl NodeReader for PackedNodes<'_> {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        self.reader.node(id)
    }
}

impl NodeStore for PackedNodes<'_> {
    fn store(&self, plain: &[u8]) -> Result<BlobId, RepoError> {
        let id = self.keys.node_id(plain);
        self.packer.add_node(id, plain)?;
        Ok(id)
    }
}

/// The children of an image's node, which has this level.
pub(super) fn children(node: &Node, level: u8) -> Result<&Children, RepoError> {
    match node {
        Node::Children(children) if children.level == level => Ok(children),
        _ => Err(misplaced()),
    }
}

/// The entries of a stream's node.
pub(super) fn entries(node: &Node) -> Result<&StreamEntries, RepoError> {
    match node {
        Node::Stream(stream) => Ok(stream),
        Node::Children(_) => Err(misplaced()),
    }
}

/// An authentic node in the wrong place: no writer of ours makes one.
pub(super) fn misplaced() -> RepoError {
    RepoError::Tree
}
