//! Writes the new tree of an image from an old tree and the changes, in one pass from front to
//! back.
//!
//! Only the nodes above changed leaves are read and written. A node that did not change is not
//! stored again. A subtree of zeros has no node, so equal content always gives the same top.

use super::nodes::{NodeStore, image_children};
use crate::base::{BlobId, LEAF_SIZE};
use crate::format::{Children, image_levels};
use crate::repo::error::RepoError;

/// The number of children of a branch.
const WIDTH: u64 = 64;
const NO_CHILDREN: [Option<BlobId>; 64] = [None; 64];

/// The top of an image's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// The top node. `None` if the whole image is zero.
    pub id: Option<BlobId>,
    /// Its level, which follows from the image's size.
    pub level: u8,
}

impl Top {
    /// Returns the top of an image of `size` bytes.
    #[must_use]
    pub fn new(id: Option<BlobId>, size: u64) -> Self {
        Self {
            id,
            level: image_levels(size),
        }
    }
}

/// A branch that has been entered and not left yet.
struct Open {
    level: u8,
    /// Its number among the branches of its level.
    index: u64,
    ids: Vec<Option<BlobId>>,
    /// The same branch in the base tree. `None` if that branch is zero.
    base: Option<BlobId>,
    /// Whether this branch differs from `base`.
    changed: bool,
}

/// A tree that is being written. Leaves are set in ascending order. Leaves that are not set stay as
/// they are in the base.
pub struct ImageTree<'a, S> {
    store: &'a S,
    top: Top,
    leaves: u64,
    /// The branches from the top to the last change, the top first.
    path: Vec<Open>,
}

/// Returns the number of leaves below one child of a branch of this level.
fn child_span(level: u8) -> u64 {
    WIDTH.pow(u32::from(level) - 1)
}

impl<'a, S: NodeStore> ImageTree<'a, S> {
    /// Begins the tree of an image of `size` bytes. It has the content of the base, up to the end
    /// of the smaller of the two images. Everything else is zero.
    pub fn new(store: &'a S, size: u64, base: Option<Top>) -> Result<Self, RepoError> {
        let leaves = size.div_ceil(LEAF_SIZE);
        let level = image_levels(size);
        let mut base = base.unwrap_or(Top { id: None, level });
        while base.level > level {
            // The image shrank. The remaining leaves are below the first child.
            base.id = match base.id {
                Some(id) => image_children(&*store.read(&id)?, base.level)?.ids[0],
                None => None,
            };
            base.level -= 1;
        }
        let mut tree = Self {
            store,
            top: Top { id: base.id, level },
            leaves,
            path: Vec::new(),
        };
        if base.level < level && base.id.is_some() {
            // The image grew. Each new level gets a branch. The first child of the lowest new
            // branch is the old top. The first child of each other new branch is the branch below
            // it.
            tree.top.id = None;
            for above in (base.level + 1..=level).rev() {
                let ids = NO_CHILDREN.to_vec();
                tree.path.push(Open {
                    level: above,
                    index: 0,
                    ids,
                    base: None,
                    changed: true,
                });
            }
            if let Some(lowest) = tree.path.last_mut() {
                lowest.ids[0] = base.id;
            }
        }
        Ok(tree)
    }

    /// Sets a leaf to this node, or to zeros.
    pub fn set(&mut self, leaf: u64, id: Option<BlobId>) -> Result<(), RepoError> {
        self.set_at(0, leaf, id)
    }

    /// Sets the leaves from `from` to `to` (exclusive) to zeros. The cost depends on
    /// the height of the tree, and not on the number of leaves.
    pub fn clear(&mut self, from: u64, to: u64) -> Result<(), RepoError> {
        let mut leaf = from;
        while leaf < to {
            let mut level = 0;
            let mut span = 1;
            while level < self.top.level
                && leaf.is_multiple_of(span * WIDTH)
                && leaf + span * WIDTH <= to
            {
                level += 1;
                span *= WIDTH;
            }
            self.set_at(level, leaf / span, None)?;
            leaf += span;
        }
        Ok(())
    }

    /// Stores the remaining nodes and returns the new top node. `None` if the whole image is zero.
    pub fn finish(mut self) -> Result<Option<BlobId>, RepoError> {
        // If the image shrank, the tree may still have leaves after the end of the image.
        let whole = WIDTH.pow(self.top.level.into());
        self.clear(self.leaves, whole)?;
        while !self.path.is_empty() {
            self.leave()?;
        }
        Ok(self.top.id)
    }

    fn set_at(&mut self, level: u8, index: u64, id: Option<BlobId>) -> Result<(), RepoError> {
        if level == self.top.level {
            while !self.path.is_empty() {
                self.leave()?;
            }
            self.top.id = id;
            return Ok(());
        }
        if !self.enter(level + 1, index / WIDTH, id.is_none())? {
            return Ok(());
        }
        if let Some(open) = self.path.last_mut() {
            let child = &mut open.ids[(index % WIDTH) as usize];
            open.changed |= *child != id;
            *child = id;
        }
        Ok(())
    }

    /// Exits and enters branches until the lowest open one is that at `level` and `index`. With
    /// `skip_zeros`, returns false instead of entering a subtree of zeros.
    fn enter(&mut self, level: u8, index: u64, skip_zeros: bool) -> Result<bool, RepoError> {
        let above = |open: &Open| {
            open.level >= level && index / WIDTH.pow(u32::from(open.level - level)) == open.index
        };
        while self.path.last().is_some_and(|open| !above(open)) {
            self.leave()?;
        }
        loop {
            let (next, base) = match self.path.last() {
                Some(open) if open.level == level => return Ok(true),
                Some(open) => {
                    let next = open.level - 1;
                    let child = index / WIDTH.pow(u32::from(next - level)) % WIDTH;
                    (next, open.ids[child as usize])
                }
                None => (self.top.level, self.top.id),
            };
            let ids = match base {
                Some(id) => image_children(&*self.store.read(&id)?, next)?.ids.clone(),
                None if skip_zeros => return Ok(false),
                None => NO_CHILDREN.to_vec(),
            };
            let index = index / WIDTH.pow(u32::from(next - level));
            self.path.push(Open {
                level: next,
                index,
                ids,
                base,
                changed: false,
            });
        }
    }

    /// Exits the lowest branch, and sets its new id in the branch above.
    fn leave(&mut self) -> Result<(), RepoError> {
        let Some(open) = self.path.pop() else {
            return Ok(());
        };
        let id = if !open.changed {
            open.base
        } else if open.ids.iter().all(Option::is_none) {
            None
        } else {
            let mut plain = Vec::new();
            Children {
                level: open.level,
                ids: open.ids,
            }
            .encode_into(&mut plain);
            Some(self.store.store(&plain)?)
        };
        match self.path.last_mut() {
            None => self.top.id = id,
            Some(above) => {
                debug_assert_eq!(child_span(above.level), WIDTH.pow(open.level.into()));
                let child = &mut above.ids[(open.index % WIDTH) as usize];
                above.changed |= *child != id;
                *child = id;
            }
        }
        Ok(())
    }
}
