//! Cuts the extents of a diff into leaves.

use std::ops::Range;

use crossbeam_channel::Receiver;

use crate::base::{Buffer, LEAF_SIZE, to_usize};
use crate::format::{Extent, ExtentKind};
use crate::ops::backup::coverage::Coverage;
use crate::ops::backup::image::within;
use crate::ops::backup::leaves::LeafProducer;
use crate::ops::error::OpsError;
use crate::ops::pipeline::StageError;

/// Cuts extents into leaves, and sends the leaves. The extents come in ascending order.
pub(super) struct LeafCutter<'s, 'p, 'a> {
    leaves: &'s mut LeafProducer<'p, 'a, Buffer>,
    /// Buffers that workers no longer need.
    spare: &'s Receiver<Buffer>,
    /// The leaf that is being filled: its number, the bytes that are set, and its content.
    open: Option<(u64, Coverage, Buffer)>,
}

impl<'s, 'p, 'a> LeafCutter<'s, 'p, 'a> {
    pub(super) fn new(
        leaves: &'s mut LeafProducer<'p, 'a, Buffer>,
        spare: &'s Receiver<Buffer>,
    ) -> Self {
        Self {
            leaves,
            spare,
            open: None,
        }
    }

    /// Takes an extent. `read` fills a buffer with the next bytes of the extent's data.
    pub(super) fn extent(
        &mut self,
        extent: &Extent,
        mut read: impl FnMut(&mut [u8]) -> Result<(), OpsError>,
    ) -> Result<(), StageError> {
        let mut at = extent.offset;
        while at < extent.end() {
            let leaf = at / LEAF_SIZE;
            let whole = leaf..extent.end() / LEAF_SIZE;
            if extent.kind == ExtentKind::Zero && at.is_multiple_of(LEAF_SIZE) && !whole.is_empty()
            {
                self.close()?;
                at = whole.end * LEAF_SIZE;
                self.leaves.zeros(whole)?;
                continue;
            }
            let end = extent.end().min((leaf + 1).saturating_mul(LEAF_SIZE));
            let into = self.place(leaf, within(leaf, at)..within(leaf, end))?;
            match extent.kind {
                ExtentKind::Data => read(into)?,
                ExtentKind::Zero => into.fill(0),
            }
            at = end;
        }
        Ok(())
    }

    /// Marks a range of a leaf as set, and returns the place for its bytes.
    fn place(&mut self, leaf: u64, range: Range<usize>) -> Result<&mut [u8], StageError> {
        if self.open.as_ref().is_some_and(|(open, ..)| *open != leaf) {
            self.close()?;
        }
        let spare = self.spare;
        let (_, coverage, buf) = self.open.get_or_insert_with(|| {
            let mut buf = spare.try_recv().unwrap_or_default();
            buf.resize(to_usize(LEAF_SIZE));
            (leaf, Coverage::default(), buf)
        });
        coverage.push(range.clone());
        Ok(&mut buf[range])
    }

    fn close(&mut self) -> Result<(), StageError> {
        match self.open.take() {
            Some((leaf, coverage, buf)) => self.leaves.leaf(leaf, coverage, buf),
            None => Ok(()),
        }
    }

    /// Sends the last leaf. If the image became smaller, `cut` is its new size in bytes, otherwise
    /// `None`. The bytes after `cut` in the leaf of `cut` become zeros. The tree drops all leaves
    /// after this leaf.
    pub(super) fn finish(&mut self, cut: Option<u64>) -> Result<(), StageError> {
        if let Some(size) = cut.filter(|size| !size.is_multiple_of(LEAF_SIZE)) {
            let leaf = size / LEAF_SIZE;
            let end = to_usize(LEAF_SIZE);
            self.place(leaf, within(leaf, size)..end)?.fill(0);
        }
        self.close()
    }
}
