//! A walk over a tree of any kind. It begins at the top, and visits children in ascending order.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::nodes::NodeReader;
use crate::base::BlobId;
use crate::format::Node;
use crate::repo::error::{RepoError, RepoErrorKind};

/// Decides which subtrees a walk enters, and receives the nodes.
pub trait Visitor {
    /// The position of a node, which is known before the node is read: its level, its place in the
    /// content, or nothing.
    type Place;
    /// The error of the visitor, which ends the walk.
    type Error: From<RepoError>;

    /// Decides whether to enter the subtree of a node. Called once for each place of the node, in
    /// order.
    fn enter(&mut self, _: &BlobId, _: &Self::Place) -> Result<bool, Self::Error> {
        Ok(true)
    }

    /// Predicts whether a node of this level will be entered. Only such nodes are read ahead.
    fn is_wanted(&self, _: &BlobId, _level: u8) -> bool {
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

    /// Called after all nodes below a visited node were visited.
    fn leave(&mut self, _: &BlobId, _: &Self::Place) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called for a node that cannot be read. The walk continues if this method returns no error.
    fn unreadable(
        &mut self,
        _: &BlobId,
        _: &Self::Place,
        error: RepoError,
    ) -> Result<(), Self::Error> {
        Err(error.into())
    }
}

/// A walk reads this many times fewer branches at once than leaves, rounded up. A branch has up to
/// 64 children, so these branches name enough leaves.
const LEAVES_PER_BRANCH: usize = 8;

/// A node in the queue of a walk.
struct Step<P> {
    id: BlobId,
    place: P,
    /// The level that the node above it implies; unknown for the top.
    level: Option<u8>,
    /// Whether the node was visited. Such a step leaves the queue after all nodes below the node
    /// were visited, too.
    done: bool,
}

/// Walks over the tree below `top`, parents before children.
///
/// A node that is not read yet is read together with the next nodes of its level. A walk reads up
/// to `ahead` leaves at once, or an eighth as many branches. At most 2 × `ahead` nodes wait in
/// memory. If `ahead` is 1, nodes are read one by one.
pub fn walk<V: Visitor>(
    nodes: &impl NodeReader,
    top: BlobId,
    place: V::Place,
    ahead: usize,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let mut ready: HashMap<BlobId, Arc<Node>> = HashMap::new();
    let mut below = Vec::new();
    // The number of nodes to read one by one, since one of the next nodes is damaged.
    let mut alone = 0;
    let mut path = vec![Step {
        id: top,
        place,
        level: None,
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
            } else if let Some(level) = step.level {
                if ready.len() >= ahead {
                    // This many nodes remain unvisited only if the tree has misplaced nodes.
                    ready.clear();
                }
                let ids = follow(&step.id, level, &path, ahead, visitor, &ready);
                match nodes.read_many(&ids) {
                    Ok(read) => ready.extend(ids.into_iter().zip(read)),
                    Err(error) if error.kind() == RepoErrorKind::Damaged => alone = ids.len() - 1,
                    Err(error) => return Err(error.into()),
                }
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
            level: node.level().checked_sub(1),
            done: false,
        });
        path.extend(following);
    }
    Ok(())
}

/// Returns a node, and the next nodes of its level that the walk will visit and that are not read
/// yet, sorted by id. Finds only nodes that other nodes in memory name.
fn follow<V: Visitor>(
    first: &BlobId,
    level: u8,
    path: &[Step<V::Place>],
    ahead: usize,
    visitor: &V,
    ready: &HashMap<BlobId, Arc<Node>>,
) -> Vec<BlobId> {
    let mut search = Search {
        level,
        most: match level {
            0 => ahead,
            _ => ahead.div_ceil(LEAVES_PER_BRANCH),
        },
        visitor,
        ready,
        expanded: HashSet::new(),
        found: BTreeSet::from([*first]),
    };
    for step in path.iter().rev().filter(|step| !step.done) {
        if let Some(level) = step.level {
            search.look_below(&step.id, level);
        }
    }
    search.found.into_iter().collect()
}

/// A search for nodes of one level, to read them together.
struct Search<'a, V> {
    level: u8,
    most: usize,
    visitor: &'a V,
    ready: &'a HashMap<BlobId, Arc<Node>>,
    /// Branches that were searched. A tree may name a branch many times.
    expanded: HashSet<BlobId>,
    found: BTreeSet<BlobId>,
}

impl<V: Visitor> Search<'_, V> {
    fn look_below(&mut self, id: &BlobId, level: u8) {
        if level < self.level || self.found.len() >= self.most || !self.visitor.is_wanted(id, level)
        {
            return;
        }
        match self.ready.get(id) {
            None if level == self.level => {
                self.found.insert(*id);
            }
            Some(node)
                if level > self.level && node.level() == level && self.expanded.insert(*id) =>
            {
                for child in children(node) {
                    self.look_below(&child, level - 1);
                }
            }
            _ => {}
        }
    }
}

/// Returns the ids that a node names, in the order of the content: the chunks of a leaf, or the
/// nodes below a branch.
pub fn children(node: &Node) -> impl Iterator<Item = BlobId> {
    let (image, stream) = match node {
        Node::Children(node) => (&node.ids[..], &[][..]),
        Node::Stream(node) => (&[][..], &node.entries[..]),
    };
    let stream = stream.iter().filter_map(|entry| entry.id);
    image.iter().flatten().copied().chain(stream)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::format::Children;

    /// A tree of an image with 64 children in each branch. The first five bytes of an id hold the
    /// node's level and number.
    #[derive(Default)]
    struct Tree {
        requests: Cell<usize>,
        nodes_read: Cell<usize>,
        most_at_once: Cell<usize>,
        damaged: Option<BlobId>,
        /// The number of children of each branch, at most 64.
        width: u32,
    }

    fn id(level: u8, number: u32) -> BlobId {
        let mut bytes = [0; 32];
        bytes[0] = level;
        bytes[1..5].copy_from_slice(&number.to_be_bytes());
        BlobId::from_bytes(bytes)
    }

    impl Tree {
        fn node(&self, of: &BlobId) -> Result<Arc<Node>, RepoError> {
            if self.damaged == Some(*of) {
                return Err(RepoError::Tree);
            }
            let bytes = of.as_bytes();
            let level = bytes[0];
            let number = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            let ids = match level {
                0 => vec![Some(id(u8::MAX, number))],
                level => (0..self.width)
                    .map(|child| Some(id(level - 1, number * self.width + child)))
                    .collect(),
            };
            Ok(Arc::new(Node::Children(Children { level, ids })))
        }

        fn count(&self, nodes: usize) {
            self.requests.set(self.requests.get() + 1);
            self.nodes_read.set(self.nodes_read.get() + nodes);
            self.most_at_once.set(self.most_at_once.get().max(nodes));
        }
    }

    impl NodeReader for Tree {
        fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
            self.count(1);
            self.node(id)
        }

        fn read_many(&self, ids: &[BlobId]) -> Result<Vec<Arc<Node>>, RepoError> {
            self.count(ids.len());
            ids.iter().map(|id| self.node(id)).collect()
        }
    }

    /// Visits all nodes, or those that `wanted` selects by level and number, and counts the leaves.
    #[derive(Default)]
    struct All {
        leaves: u32,
        unreadable: RefCell<Vec<BlobId>>,
        wanted: Option<fn(u8, u32) -> bool>,
    }

    impl All {
        fn wants(&self, id: &BlobId) -> bool {
            let bytes = id.as_bytes();
            let number = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            self.wanted.is_none_or(|wanted| wanted(bytes[0], number))
        }
    }

    impl Visitor for All {
        type Place = ();
        type Error = RepoError;

        fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, RepoError> {
            Ok(self.wants(id))
        }

        fn is_wanted(&self, id: &BlobId, level: u8) -> bool {
            assert_eq!(id.as_bytes()[0], level, "the level of a node in this tree");
            self.wants(id)
        }

        fn visit(
            &mut self,
            of: &BlobId,
            node: &Node,
            (): &(),
            below: &mut Vec<(BlobId, ())>,
        ) -> Result<ControlFlow<()>, RepoError> {
            if node.level() > 0 {
                below.extend(children(node).map(|child| (child, ())));
            } else {
                if self.wanted.is_none() && self.unreadable.borrow().is_empty() {
                    assert_eq!(*of, id(0, self.leaves), "leaves come in ascending order");
                }
                self.leaves += 1;
            }
            Ok(ControlFlow::Continue(()))
        }

        fn unreadable(&mut self, id: &BlobId, (): &(), _: RepoError) -> Result<(), RepoError> {
            self.unreadable.borrow_mut().push(*id);
            Ok(())
        }
    }

    fn tree() -> Tree {
        Tree {
            width: 64,
            ..Tree::default()
        }
    }

    #[test]
    fn a_tree_of_1_tib_is_read_in_large_batches() {
        let (tree, mut all) = (tree(), All::default());
        walk(&tree, id(3, 0), (), 4096, &mut all).unwrap();
        assert_eq!(all.leaves, 1 << 18);
        let nodes = (1 << 18) + (1 << 12) + (1 << 6) + 1;
        assert_eq!(tree.nodes_read.get(), nodes, "each node is read once");
        assert!(tree.most_at_once.get() <= 4096);
        let requests = tree.requests.get();
        assert!(requests <= 80, "{requests} requests for 64 × 4096 leaves");
    }

    #[test]
    fn scattered_changes_of_a_large_tree_are_read_in_few_batches() {
        let tree = tree();
        let mut all = All {
            // Visit only one leaf below each branch.
            wanted: Some(|level, number| level > 0 || number.is_multiple_of(64)),
            ..All::default()
        };
        walk(&tree, id(3, 0), (), 4096, &mut all).unwrap();
        assert_eq!(all.leaves, 1 << 12);
        let requests = tree.requests.get();
        assert!(requests <= 20, "{requests} requests for 4096 leaves");
    }

    #[test]
    fn without_reading_ahead_nodes_are_read_one_by_one() {
        let (tree, mut all) = (tree(), All::default());
        walk(&tree, id(1, 0), (), 1, &mut all).unwrap();
        assert_eq!((tree.requests.get(), tree.most_at_once.get()), (65, 1));
    }

    #[test]
    fn a_damaged_node_does_not_affect_the_nodes_that_are_read_with_it() {
        let damaged = id(0, 100);
        let tree = Tree {
            damaged: Some(damaged),
            ..tree()
        };
        let mut all = All::default();
        walk(&tree, id(2, 0), (), 1024, &mut all).unwrap();
        assert_eq!(all.leaves, 4095);
        assert_eq!(*all.unreadable.borrow(), [damaged]);
    }
}
