//! Cuts the extents of a diff into leaves.

use std::ops::Range;

use crossbeam_channel::Receiver;

use crate::base::{Buffer, LEAF_SIZE};
use crate::format::{Extent, ExtentKind};
use crate::ops::backup::coverage::Coverage;
use crate::ops::backup::image::within;
use crate::ops::backup::leaves::Deal;
use crate::ops::error::OpsError;

/// Cuts extents, which ascend, into leaves.
pub(super) struct Leaves<'a> {
    pub(super) deal: &'a mut Deal<Buffer>,
    pub(super) spare: &'a Receiver<Buffer>,
    pub(super) open: Option<(u64, Coverage, Buffer)>,
}

impl Leaves<'_> {
    /// Takes an extent; `read` gives its data.
    pub(super) fn extent(
        &mut self,
        extent: &Extent,
        mut read: impl FnMut(&mut [u8]) -> Result<(), OpsError>,
    ) -> Result<(), OpsError> {
        let mut at = extent.offset;
        while at < extent.end() {
            let leaf = at / LEAF_SIZE;
            let whole = leaf..extent.end() / LEAF_SIZE;
            if extent.kind == ExtentKind::Zero && at.is_multiple_of(LEAF_SIZE) && !whole.is_empty()
            {
                self.close()?;
                at = whole.end * LEAF_SIZE;
                self.deal.zeros(whole)?;
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

    /// The place of a range within a leaf, which is set from now on.
    fn place(&mut self, leaf: u64, range: Range<usize>) -> Result<&mut [u8], OpsError> {
        if self.open.as_ref().is_some_and(|(open, ..)| *open != leaf) {
            self.close()?;
        }
        let spare = self.spare;
        let (_, coverage, buf) = self.open.get_or_insert_with(|| {
            let mut buf = spare.try_recv().unwrap_or_default();
            buf.resize(usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX));
            (leaf, Coverage::default(), buf)
        });
        coverage.push(range.clone());
        Ok(&mut buf[range])
    }

    fn close(&mut self) -> Result<(), OpsError> {
        match self.open.take() {
            Some((leaf, coverage, buf)) => self.deal.leaf(leaf, coverage, buf),
            None => Ok(()),
        }
    }

    /// Ends with what is behind the end of an image that was larger before: in its last leaf there are
    /// zeros then. Whole leaves behind it go by themselves.
    pub(super) fn finish(&mut self, cut: Option<u64>) -> Result<(), OpsError> {
        if let Some(size) = cut.filter(|size| !size.is_multiple_of(LEAF_SIZE)) {
            let leaf = size / LEAF_SIZE;
            let end = usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX);
            self.place(leaf, within(leaf, size)..end)?.fill(0);
        }
        self.close()
    }
}
