//! Finds the ranges of chunks in which two images differ. Equal subtrees are not read. If two
//! branches differ in every chunk, this pair is read only once, however often it occurs.

use std::collections::HashSet;
use std::ops::Range;

use super::compare::below;
use super::image::Top;
use super::nodes::NodeReader;
use crate::base::BlobId;
use crate::repo::error::RepoError;

/// The number of children of a branch.
const WIDTH: u64 = 64;

/// Calls `each` for every range of chunks that differ, in ascending order. Chunks are numbered from
/// the beginning of the image. One range may begin where another ends. `per_leaf` is the number of
/// chunks in a full leaf.
///
/// The work is bounded by the number of ranges. A pair of branches is read more than once only if
/// some of its chunks are equal. Such a pair, like any pair of leaves, gives at least one range of
/// its own each time.
pub fn different_ranges<E: From<RepoError>>(
    nodes: &impl NodeReader,
    (a, b): (Top, Top),
    per_leaf: u64,
    each: impl FnMut(Range<u64>) -> Result<(), E>,
) -> Result<(), E> {
    let mut search = Search {
        nodes,
        per_leaf,
        different: HashSet::new(),
        each,
    };
    search.compare((a, b), a.level.max(b.level), 0).map(drop)
}

/// Two subtrees at the same place.
type Pair = (Top, Top);

struct Search<'a, N, F> {
    nodes: &'a N,
    per_leaf: u64,
    /// Pairs of branches that differ in every chunk.
    different: HashSet<(Option<BlobId>, u8, Option<BlobId>, u8)>,
    each: F,
}

impl<N: NodeReader, F> Search<'_, N, F> {
    /// Compares two subtrees of this level that begin at the chunk with the number `first`. Returns
    /// whether all of their chunks differ.
    fn compare<E: From<RepoError>>(
        &mut self,
        (a, b): Pair,
        level: u8,
        first: u64,
    ) -> Result<bool, E>
    where
        F: FnMut(Range<u64>) -> Result<(), E>,
    {
        if a == b || (a.id.is_none() && b.id.is_none()) {
            return Ok(false);
        }
        let span = WIDTH
            .saturating_pow(level.into())
            .saturating_mul(self.per_leaf);
        let pair = (a.id, a.level, b.id, b.level);
        if self.different.contains(&pair) {
            (self.each)(first..first.saturating_add(span))?;
            return Ok(true);
        }
        // If a tree is lower than `level`, `below` returns the tree itself as the only child. So
        // this child has the level of the tree.
        let child_level = |top: Top| top.level.min(level.saturating_sub(1));
        let (level_a, level_b) = (child_level(a), child_level(b));
        let (a, b) = (below(self.nodes, a, level)?, below(self.nodes, b, level)?);
        let width = a.len().max(b.len());
        let at = |ids: &[Option<BlobId>], i| ids.get(i).copied().flatten();
        let mut found = 0;
        for (i, number) in (0..width).zip(0..) {
            let (a, b) = (at(&a, i), at(&b, i));
            let is_different = if level == 0 {
                if a != b {
                    (self.each)(first + number..first + number + 1)?;
                }
                a != b
            } else {
                let of = |id, level| Top { id, level };
                let children = (of(a, level_a), of(b, level_b));
                let first = first.saturating_add(number * (span / WIDTH));
                self.compare(children, level - 1, first)?
            };
            found += u64::from(is_different);
        }
        let all = if level == 0 { self.per_leaf } else { WIDTH };
        let differs = found == all;
        // Pairs of leaves are not remembered: there are many, and comparing them again is fast.
        if differs && level > 0 {
            self.different.insert(pair);
        }
        Ok(differs)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::format::{Children, Node};

    const PER_LEAF: u64 = 4;

    #[derive(Default)]
    struct Nodes {
        nodes: HashMap<BlobId, Arc<Node>>,
        read: Cell<u64>,
    }

    impl NodeReader for Nodes {
        fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
            self.read.set(self.read.get() + 1);
            Ok(Arc::clone(&self.nodes[id]))
        }
    }

    fn id(number: u64) -> BlobId {
        BlobId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    impl Nodes {
        /// Adds a tree in which all children of each branch are the same node. Returns its top.
        fn self_similar(&mut self, seed: u64, level: u8, leaf: Vec<Option<BlobId>>) -> Top {
            let mut ids = leaf;
            for level in 0..=level {
                let node = id(seed + u64::from(level));
                self.nodes
                    .insert(node, Arc::new(Node::Children(Children { level, ids })));
                ids = vec![Some(node); 64];
            }
            Top { id: ids[0], level }
        }

        fn ranges(&self, a: Top, b: Top) -> Vec<Range<u64>> {
            let mut found: Vec<Range<u64>> = Vec::new();
            let each = |range: Range<u64>| {
                match found.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => found.push(range),
                }
                Ok::<_, RepoError>(())
            };
            different_ranges(self, (a, b), PER_LEAF, each).unwrap();
            found
        }
    }

    #[test]
    fn two_huge_images_of_a_few_nodes_are_compared_quickly() {
        let mut nodes = Nodes::default();
        let a = nodes.self_similar(100, 7, vec![Some(id(1)); 4]);
        let b = nodes.self_similar(200, 7, vec![Some(id(2)); 4]);
        let all = 64_u64.pow(7) * PER_LEAF;
        assert_eq!(nodes.ranges(a, b), [Range { start: 0, end: all }]);
        let nothing = Top { id: None, level: 7 };
        assert_eq!(nodes.ranges(a, nothing), [Range { start: 0, end: all }]);
        assert!(nodes.read.get() < 10_000, "{}", nodes.read.get());
    }

    #[test]
    fn ranges_that_differ_are_found_in_trees_of_different_heights() {
        let mut nodes = Nodes::default();
        let half = vec![Some(id(1)), Some(id(3)), None, None];
        let low = nodes.self_similar(100, 0, half);
        let high = nodes.self_similar(200, 1, vec![Some(id(1)), Some(id(2)), None, Some(id(4))]);
        let found = nodes.ranges(low, high);
        assert_eq!(found[..3], [1..2, 3..6, 7..10]);
        assert_eq!(found.last(), Some(&(255..256)));
        assert_eq!(nodes.ranges(high, high), []);
    }
}
