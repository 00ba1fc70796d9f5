//! Finds the differences between two trees. Does not read equal subtrees.

use std::ops::ControlFlow;

use super::image::Top;
use super::nodes::{NodeReader, image_children};
use crate::base::BlobId;
use crate::repo::error::RepoError;

/// A chunk that two images do not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The number of its leaf.
    pub leaf: u64,
    /// Its number in the leaf.
    pub chunk: usize,
    /// The chunk of the first image. `None` for zeros.
    pub a: Option<BlobId>,
    /// The chunk of the second image. `None` for zeros.
    pub b: Option<BlobId>,
}

/// Calls `each` for every chunk that differs, in ascending order, until `each` returns `Break`.
pub fn compare_trees<E: From<RepoError>>(
    nodes: &impl NodeReader,
    a: Top,
    b: Top,
    each: &mut impl FnMut(Difference) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let level = a.level.max(b.level);
    compare(nodes, a, b, level, 0, each).map(drop)
}

/// Compares two subtrees that begin at the same leaf; `index` is their number among the nodes of
/// their level.
fn compare<E: From<RepoError>>(
    nodes: &impl NodeReader,
    a: Top,
    b: Top,
    level: u8,
    index: u64,
    each: &mut impl FnMut(Difference) -> Result<ControlFlow<()>, E>,
) -> Result<ControlFlow<()>, E> {
    if a == b || (a.id.is_none() && b.id.is_none()) {
        return Ok(ControlFlow::Continue(()));
    }
    // If a tree is lower than `level`, `below` returns the tree itself as the only child. So this
    // child has the level of the tree.
    let child_level = |top: Top| top.level.min(level.saturating_sub(1));
    let (level_a, level_b) = (child_level(a), child_level(b));
    let (a, b) = (below(nodes, a, level)?, below(nodes, b, level)?);
    let width = a.len().max(b.len());
    let at = |ids: &[Option<BlobId>], i| ids.get(i).copied().flatten();
    for i in 0..width {
        let (a, b) = (at(&a, i), at(&b, i));
        if a == b {
            continue;
        }
        let flow = if level == 0 {
            each(Difference {
                leaf: index,
                chunk: i,
                a,
                b,
            })?
        } else {
            let (a, b) = (
                Top {
                    id: a,
                    level: level_a,
                },
                Top {
                    id: b,
                    level: level_b,
                },
            );
            compare(nodes, a, b, level - 1, index * 64 + i as u64, each)?
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Returns the children of a subtree at `level`. An empty list means that the subtree is zero. If
/// the subtree is lower, returns the subtree itself as the only child: a node above it would have
/// it as its first child.
pub(super) fn below(
    nodes: &impl NodeReader,
    top: Top,
    level: u8,
) -> Result<Vec<Option<BlobId>>, RepoError> {
    match top.id {
        None => Ok(Vec::new()),
        Some(id) if top.level == level => {
            Ok(image_children(&*nodes.read(&id)?, level)?.ids.clone())
        }
        Some(id) => Ok(vec![Some(id)]),
    }
}
