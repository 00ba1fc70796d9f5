//! A walk over a tree that reports the ids of its blobs, but not their places.

use std::ops::ControlFlow;

use super::context::Context;
use super::error::OpsError;
use crate::base::BlobId;
use crate::format::Node;
use crate::repo::{NodeReader, RepoError, Visitor, children, walk};

/// Decides which nodes a walk enters, and receives the chunks that it finds.
pub(super) trait BlobVisitor {
    /// Decides whether to enter the subtree of a node. The walk calls this for the top node, and
    /// for each child node of a node that it entered.
    fn enter(&mut self, node: &BlobId) -> Result<bool, OpsError>;

    /// Predicts whether the walk will enter a node. Only such nodes are read ahead.
    fn is_wanted(&self, _node: &BlobId) -> bool {
        true
    }

    /// Takes a chunk. The walk calls this once for each place of the chunk in a node that it
    /// entered.
    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError>;

    /// The walk calls this for a node that was read, after everything below the node.
    fn leave(&mut self, _node: &BlobId) -> Result<(), OpsError> {
        Ok(())
    }

    /// Called for a node that cannot be read. The walk continues if this returns `Ok`. The default
    /// returns the error.
    fn unreadable(&mut self, _node: &BlobId, error: RepoError) -> Result<(), OpsError> {
        Err(error.into())
    }
}

/// Walks over the tree below `top`, as [`walk`] does. Reads up to `ahead` nodes ahead at once.
pub(super) fn walk_blobs(
    nodes: &impl NodeReader,
    top: BlobId,
    ahead: usize,
    context: &Context<'_>,
    visitor: &mut impl BlobVisitor,
) -> Result<(), OpsError> {
    walk(nodes, top, (), ahead, &mut Blobs { visitor, context })
}

struct Blobs<'a, V> {
    visitor: &'a mut V,
    context: &'a Context<'a>,
}

impl<V: BlobVisitor> Visitor for Blobs<'_, V> {
    type Place = ();
    type Error = OpsError;

    fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, OpsError> {
        self.visitor.enter(id)
    }

    fn is_wanted(&self, id: &BlobId, _: u8) -> bool {
        self.visitor.is_wanted(id)
    }

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        (): &(),
        below: &mut Vec<(BlobId, ())>,
    ) -> Result<ControlFlow<()>, OpsError> {
        self.context.cancel.check()?;
        for child in children(node) {
            if node.level() > 0 {
                below.push((child, ()));
            } else {
                self.visitor.chunk(&child)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn leave(&mut self, id: &BlobId, (): &()) -> Result<(), OpsError> {
        self.visitor.leave(id)
    }

    fn unreadable(&mut self, id: &BlobId, (): &(), error: RepoError) -> Result<(), OpsError> {
        self.visitor.unreadable(id, error)
    }
}
