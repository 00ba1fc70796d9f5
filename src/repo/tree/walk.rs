//! The walk over a tree, for every kind of node: from the top, children in ascending order.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::nodes::NodeReader;
use crate::base::BlobId;
use crate::format::Node;
use crate::repo::error::{RepoError, RepoErrorKind};

/// Decides where a walk goes, and takes what it comes upon.
pub trait Visitor {
    /// What is known of a node before it is read: its level, its place in the content, or nothing.
    type Place;
    /// The error of the visitor, which ends the walk.
    type Error: From<RepoError>;

    /// Decides whether to enter the subtree of a node. Asked once for each place that leads to it,
    /// in order.
    fn enter(&mut self, _: &BlobId, _: &Self::Place) -> Result<bool, Self::Error> {
        Ok(true)
    }

    /// Predicts whether a node will be entered, so that it is worth being read ahead.
    fn is_wanted(&self, _: &BlobId) -> bool {
        true
    }

    /// Visits a node: takes the chunks of a leaf, and appends the nodes below a branch to `below`,
    /// in ascending order. `Break` ends the walk.
    fn visit(
        &mut self,
        id: &BlobId,
        node: &Node,
        place: &Self::Place,
        below: &mut Vec<(BlobId, Self::Place)>,
    ) -> Result<ControlFlow<()>, Self::Error>;

    /// Called when all nodes below a visited one are done.
    fn leave(&mut self, _: &BlobId, _: &Self::Place) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called for a node that cannot be read. The walk goes on if this is no error.
    fn unreadable(
        &mut self,
        _: &BlobId,
        _: &Self::Place,
        error: RepoError,
    ) -> Result<(), Self::Error> {
        Err(error.into())
    }
}

/// A node on the way of a walk.
struct Step<P> {
    id: BlobId,
    place: P,
    /// It was visited, and all below it is done.
    done: bool,
}

/// Walks over the tree below `top`, parents before children.
///
/// Where a node is not read yet, it is read together with up to `ahead` - 1 others that follow, at
/// once: siblings first, then the nodes below them. With 1, nodes are read one by one.
pub fn walk<V: Visitor>(
    nodes: &impl NodeReader,
    top: BlobId,
    place: V::Place,
    ahead: usize,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut ready: HashMap<BlobId, Arc<Node>> = HashMap::new();
    let mut below = Vec::new();
    // Nodes to be read one by one, since one of those ahead is damaged.
    let mut alone = 0;
    let mut path = vec![Step {
        id: top,
        place,
        done: false,
    }];
    while let Some(step) = path.pop() {
        if step.done {
            visitor.leave(&step.id, &step.place)?;
            continue;
        }
        if !visitor.enter(&step.id, &step.place)? {
            ready.remove(&step.id);
            continue;
        }
        if ahead > 1 && !ready.contains_key(&step.id) {
            if alone > 0 {
                alone -= 1;
            } else if !read_ahead(nodes, &step.id, &path, ahead, visitor, &mut ready)? {
                alone = ahead;
            }
        }
        let read = match ready.remove(&step.id) {
            Some(node) => Ok(node),
            None => nodes.read(&step.id),
        };
        let node = match read {
            Ok(node) => node,
            Err(error) => {
                visitor.unreadable(&step.id, &step.place, error)?;
                continue;
            }
        };
        if visitor
            .visit(&step.id, &node, &step.place, &mut below)?
            .is_break()
        {
            return Ok(());
        }
        path.push(Step { done: true, ..step });
        let following = below.drain(..).rev().map(|(id, place)| Step {
            id,
            place,
            done: false,
        });
        path.extend(following);
    }
    Ok(())
}

/// Reads a node and those that will follow it. Returns whether that worked: a damaged one is left
/// to the walk, which reads it by itself.
fn read_ahead<V: Visitor>(
    nodes: &impl NodeReader,
    first: &BlobId,
    path: &[Step<V::Place>],
    ahead: usize,
    visitor: &V,
    ready: &mut HashMap<BlobId, Arc<Node>>,
) -> Result<bool, RepoError> {
    let mut ids = vec![*first];
    let pending = path.iter().rev().filter(|step| !step.done);
    let pending = pending.map(|step| step.id).take(ahead - 1);
    ids.extend(pending.filter(|id| visitor.is_wanted(id)));
    while !ids.is_empty() && ready.len() < ahead {
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| !ready.contains_key(id));
        ids.truncate(ahead - ready.len());
        let read = match nodes.read_many(&ids) {
            Ok(read) => read,
            Err(error) if error.kind() == RepoErrorKind::Damaged => return Ok(false),
            Err(error) => return Err(error),
        };
        let below = read.iter().filter(|node| node.level() > 0);
        let below: Vec<_> = below.flat_map(|node| children(node)).collect();
        ready.extend(ids.into_iter().zip(read));
        ids = below
            .into_iter()
            .filter(|id| visitor.is_wanted(id))
            .collect();
    }
    Ok(true)
}

/// Returns the ids of all that a node names, in ascending order: chunks of a leaf, nodes of a
/// branch.
pub fn children(node: &Node) -> impl Iterator<Item = BlobId> {
    let (image, stream) = match node {
        Node::Children(node) => (&node.ids[..], &[][..]),
        Node::Stream(node) => (&[][..], &node.entries[..]),
    };
    let stream = stream.iter().filter_map(|entry| entry.id);
    image.iter().flatten().copied().chain(stream)
}
