//! Assembles the tree of an image from its leaves.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::image_spec::ImageSpec;
use super::task::BackupTask;
use crate::base::{BlobId, LEAF_SIZE};
use crate::format::Children;
use crate::ops::error::OpsError;
use crate::repo::{ImageTree, NodeStore, PackedNodes, RepoErrorKind, count_chunks};
use crate::volume::Gaps;

/// The result for one leaf, or for several leaves of zeros.
pub(super) enum LeafDone {
    /// One leaf was read and stored: its number and the ids of its chunks. A chunk without an id is
    /// zero. `None` in place of the list means that the leaf stays as it is in the base.
    Leaf(u64, Option<Vec<Option<BlobId>>>),
    /// All of these leaves are zeros.
    Zeros(Range<u64>),
}

/// Takes leaves in ascending order and puts them into a tree.
pub(super) struct Assembler<'a> {
    task: &'a BackupTask<'a>,
    spec: &'a ImageSpec,
    nodes: &'a PackedNodes<'a>,
    tree: ImageTree<'a, PackedNodes<'a>>,
    /// The number of the leaf after the last one that was added.
    next: u64,
    /// A buffer for nodes.
    plain: Vec<u8>,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(
        task: &'a BackupTask<'a>,
        spec: &'a ImageSpec,
        nodes: &'a PackedNodes<'a>,
    ) -> Result<Self, OpsError> {
        // With --reread, use no base. Then every node is stored unless it is present, so lost nodes
        // are replaced. But if the source lists only changes, all other content comes from the
        // base.
        let base = spec
            .base
            .filter(|_| !task.reread || spec.gaps == Gaps::Unchanged);
        Ok(Self {
            task,
            spec,
            nodes,
            tree: ImageTree::new(nodes, spec.size, base)?,
            next: 0,
            plain: Vec::new(),
        })
    }

    /// Adds leaves. Returns the number of the leaf after them.
    pub(super) fn add(&mut self, done: LeafDone) -> Result<u64, OpsError> {
        let leaves = match &done {
            LeafDone::Leaf(leaf, _) => *leaf..leaf + 1,
            LeafDone::Zeros(leaves) => leaves.clone(),
        };
        if self.spec.gaps == Gaps::Zeros {
            self.clear(self.next..leaves.start)?;
        }
        match done {
            LeafDone::Leaf(_, None) => {}
            LeafDone::Leaf(leaf, Some(ids)) => {
                let id = if ids.iter().any(Option::is_some) {
                    self.plain.clear();
                    Children { level: 0, ids }.encode_into(&mut self.plain);
                    Some(self.nodes.store(&self.plain)?)
                } else {
                    None
                };
                self.tree.set(leaf, id)?;
            }
            LeafDone::Zeros(leaves) => self.clear(leaves)?,
        }
        self.next = leaves.end;
        Ok(self.next)
    }

    /// Stores the rest of the tree, and returns its top. Returns `None` if the whole image is
    /// zeros.
    pub(super) fn finish(mut self) -> Result<Option<BlobId>, OpsError> {
        let end = self.spec.size.div_ceil(LEAF_SIZE);
        let mut counted = end;
        if self.spec.gaps == Gaps::Zeros {
            self.tree.clear(self.next, end)?;
            counted = self.next;
        }
        // Also count the chunks that the base has after the end of the new image.
        count_cleared(self.task, self.spec, counted..u64::MAX)?;
        Ok(self.tree.finish()?)
    }

    fn clear(&mut self, leaves: Range<u64>) -> Result<(), OpsError> {
        count_cleared(self.task, self.spec, leaves.clone())?;
        Ok(self.tree.clear(leaves.start, leaves.end)?)
    }
}

/// Counts the base's chunks in these leaves as changed bytes, except chunks of zeros. In the new
/// image, these leaves are zeros or after the end.
fn count_cleared(
    task: &BackupTask<'_>,
    spec: &ImageSpec,
    leaves: Range<u64>,
) -> Result<(), OpsError> {
    let Some(base) = spec.base.filter(|_| !leaves.is_empty()) else {
        return Ok(());
    };
    match count_chunks(task.blobs, base, &leaves) {
        Ok(chunks) => {
            let bytes = chunks * u64::from(task.project.chunk_size.bytes());
            task.tally.changed.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        }
        // Ignore damage of content that the new backup does not have.
        Err(error) if error.kind() == RepoErrorKind::Damaged => Ok(()),
        Err(error) => Err(error.into()),
    }
}
