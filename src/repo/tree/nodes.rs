//! Interfaces to read and store nodes.

use std::sync::Arc;

use crate::base::BlobId;
use crate::crypto::ProjectKeys;
use crate::format::{Children, Node, StreamEntries};
use crate::repo::blobs::{BlobReader, fetch_nodes};
use crate::repo::error::RepoError;
use crate::repo::packs::Packer;

/// Reads nodes by their id.
pub trait NodeReader {
    /// Reads the node with this id.
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError>;

    /// Reads many nodes, in the order of `ids`.
    fn read_many(&self, ids: &[BlobId]) -> Result<Vec<Arc<Node>>, RepoError> {
        ids.iter().map(|id| self.read(id)).collect()
    }
}

/// Stores nodes.
pub trait NodeStore: NodeReader {
    /// Stores a node's plain bytes, unless the project has the node. Returns the node's id.
    fn store(&self, plain: &[u8]) -> Result<BlobId, RepoError>;
}

impl NodeReader for BlobReader {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        self.node(id)
    }

    /// Runs in the threads of the current rayon pool.
    fn read_many(&self, ids: &[BlobId]) -> Result<Vec<Arc<Node>>, RepoError> {
        match ids {
            [id] => Ok(vec![self.node(id)?]),
            ids => fetch_nodes(self, ids),
        }
    }
}

/// Reads nodes through a [`BlobReader`], and stores nodes through a [`Packer`].
pub struct PackedNodes<'a> {
    /// Reads the nodes of base trees.
    pub reader: &'a BlobReader,
    /// Stores new nodes.
    pub packer: &'a Packer<'a>,
    /// The keys that determine the ids of nodes.
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

/// Returns the children of an image's node. Fails unless the node has this level.
pub(super) fn image_children(node: &Node, level: u8) -> Result<&Children, RepoError> {
    match node {
        Node::Children(children) if children.level == level => Ok(children),
        _ => Err(misplaced()),
    }
}

/// Returns the entries of a stream's node. Fails for a node of an image.
pub(super) fn entries(node: &Node) -> Result<&StreamEntries, RepoError> {
    match node {
        Node::Stream(stream) => Ok(stream),
        Node::Children(_) => Err(misplaced()),
    }
}

/// Returns the error for an authentic node in the wrong place. Only a faulty program writes such a
/// tree.
pub(super) fn misplaced() -> RepoError {
    RepoError::Tree
}
