//! Backup of an image that can be read anywhere: a file or a block device.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::coverage::Coverage;
use super::leaves::{Callbacks, Deal, Gaps, ImageSpec, leaves_into};
use super::task::{BackupTask, Stored};
use crate::base::{Buffer, LEAF_SIZE, Phase, Progress};
use crate::format::ContentKind;
use crate::ops::error::OpsError;
use crate::repo::{Backup, Top};
use crate::volume::{RawImage, VolumeError};

/// Where there may be data in a leaf, in bytes of the image, ascending.
pub(super) type Extents = Vec<Range<u64>>;

/// Reads an image and stores what changed against the base.
pub(super) fn image_into(
    task: &BackupTask<'_>,
    image: &RawImage,
    base: Option<&Backup>,
) -> Result<Stored, OpsError> {
    let size = image.size();
    let chunk_size = task.project.chunk_size.bytes();
    let base = base.filter(|b| b.record.content.chunk_size == chunk_size);
    let plot = ImageSpec {
        size,
        base: base.map(|b| Top::new(b.top, b.record.content.size)),
        unsaid: Gaps::Zeros,
    };
    let fill = |leaf: u64, _: &Coverage, extents: Extents, buf: &mut Buffer| {
        read_leaf(task, image, leaf, &extents, buf)
    };
    let deal = |deal: &mut Deal<Extents>| deal_leaves(image.data_extents(), deal);
    let top = leaves_into(task, &plot, deal, fill, planting(task, size))?;
    still_the_same(image)?;
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}

/// Tells of an image's progress, which is how far its tree has come. Whoever deals its leaves waits for nobody
/// else, and need not hear of failures.
pub(super) fn planting(task: &BackupTask<'_>, size: u64) -> Callbacks<impl Fn(u64), impl Fn()> {
    let planted = move |leaves: u64| {
        task.context.observer.progress(Progress {
            phase: Phase::Backup,
            done: (leaves * LEAF_SIZE).min(size),
            total: Some(size),
        });
    };
    Callbacks {
        planted,
        failed: || (),
    }
}

/// Deals out the leaves that extents, which ascend, lie in.
pub(super) fn deal_leaves(
    found: impl Iterator<Item = Result<Range<u64>, VolumeError>>,
    deal: &mut Deal<Extents>,
) -> Result<(), OpsError> {
    let mut open: Option<(u64, Coverage, Extents)> = None;
    for extent in found {
        let extent = extent?;
        let mut at = extent.start;
        while at < extent.end {
            let leaf = at / LEAF_SIZE;
            let end = extent.end.min((leaf + 1) * LEAF_SIZE);
            if let Some((of, coverage, extents)) = open.take_if(|(of, ..)| *of != leaf) {
                deal.leaf(of, coverage, extents)?;
            }
            let (_, coverage, extents) =
                open.get_or_insert_with(|| (leaf, Coverage::default(), Vec::new()));
            coverage.push(within(leaf, at)..within(leaf, end));
            extents.push(at..end);
            at = end;
        }
    }
    match open {
        Some((leaf, coverage, extents)) => deal.leaf(leaf, coverage, extents),
        None => Ok(()),
    }
}

/// Fails if the image was written to since it was opened.
pub(super) fn still_the_same(image: &RawImage) -> Result<(), OpsError> {
    if image.changed_meanwhile()? {
        return Err(OpsError::SourceChanged {
            path: image.path().display().to_string(),
        });
    }
    Ok(())
}

/// A byte of the image, counted from the beginning of the leaf.
pub(super) fn within(leaf: u64, offset: u64) -> usize {
    usize::try_from(offset - leaf * LEAF_SIZE).unwrap_or(usize::MAX)
}

fn read_leaf(
    task: &BackupTask<'_>,
    image: &RawImage,
    leaf: u64,
    extents: &[Range<u64>],
    buf: &mut Buffer,
) -> Result<(), OpsError> {
    for extent in extents {
        let place = within(leaf, extent.start)..within(leaf, extent.end);
        image.read_at(extent.start, &mut buf[place])?;
        let read = extent.end - extent.start;
        task.tally.read.fetch_add(read, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads from `offset` on; behind the image's end there are zeros.
pub(super) fn read_padded(
    task: &BackupTask<'_>,
    image: &RawImage,
    offset: u64,
    into: &mut [u8],
) -> Result<(), OpsError> {
    let left = image.size().saturating_sub(offset);
    let len = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
    let (there, behind) = into.split_at_mut(len);
    if !there.is_empty() {
        image.read_at(offset, there)?;
    }
    behind.fill(0);
    task.tally.read.fetch_add(len as u64, Ordering::Relaxed);
    Ok(())
}
