//! Where two trees differ: the walk enters only subtrees that are not the same.

use super::{NodeReader, Top, children};
use crate::base::BlobId;
use crate::repo::RepoError;

/// A chunk that two images do not have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// In which leaf.
    pub leaf: u64,
    /// Its number there.
    pub chunk: usize,
    /// What the first has there; nothing means zeros.
    pub a: Option<BlobId>,
    /// What the second has there.
    pub b: Option<BlobId>,
}

/// Calls `each` for every chunk that differs, in ascending order.
pub fn compare_trees<E: From<RepoError>>(
    nodes: &impl NodeReader,
    a: Top,
    b: Top,
    each: &mut impl FnMut(Difference) -> Result<(), E>,
) -> Result<(), E> {
    let level = a.level.max(b.level);
    walk(nodes, a, b, level, 0, each)
}

fn walk<E: From<RepoError>>(
    nodes: &impl NodeReader,
    a: Top,
    b: Top,
    level: u8,
    index: u64,
    each: &mut impl FnMut(Difference) -> Result<(), E>,
) -> Result<(), E> {
    if a == b || (a.id.is_none() && b.id.is_none()) {
        return Ok(());
    }
    // The children of a lower tree are where the tree itself is.
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
        if level == 0 {
            each(Difference {
                leaf: index,
                chunk: i,
                a,
                b,
            })?;
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
            walk(nodes, a, b, level - 1, index * 64 + i as u64, each)?;
        }
    }
    Ok(())
}

/// The children that a subtree has at `level`. One that is lower is the first child of what would be above it.
fn below(nodes: &impl NodeReader, top: Top, level: u8) -> Result<Vec<Option<BlobId>>, RepoError> {
    match top.id {
        None => Ok(Vec::new()),
        Some(id) if top.level == level => Ok(children(&*nodes.read(&id)?, level)?.ids.clone()),
        Some(id) => Ok(vec![Some(id)]),
    }
}
