//! Backs up an image that can be read at any offset.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::coverage::Coverage;
use super::image_spec::ImageSpec;
use super::leaves::{LeafProducer, store_leaves};
use super::task::{BackupTask, Stored};
use crate::base::{Buffer, LEAF_SIZE, to_usize};
use crate::format::ContentKind;
use crate::ops::error::OpsError;
use crate::ops::pipeline::{Failed, StageError};
use crate::repo::Backup;
use crate::volume::{Gaps, ImageSource, VolumeError};

/// The extents of a leaf that may contain data, as ranges of bytes of the image, ascending.
pub(super) type Extents = Vec<Range<u64>>;

/// Reads an image and stores the chunks that the project lacks. Takes over the tree of the base
/// where it has the same chunks, if the base has the chunk size of the project.
pub(super) fn store_image(
    task: &BackupTask<'_>,
    image: &dyn ImageSource,
    base: Option<&Backup>,
) -> Result<Stored, OpsError> {
    let size = image.size();
    let chunk_size = task.project.chunk_size.bytes();
    let base = base.filter(|b| b.record.content.chunk_size == chunk_size);
    let spec = ImageSpec {
        size,
        base: base.map(Backup::tree),
        gaps: Gaps::Zeros,
    };
    let top = store_leaves(
        task,
        &spec,
        &Failed::default(),
        |leaves| send_leaves(image.extents(), leaves),
        |leaf, _, extents, buf| read_leaf(task, image, leaf, &extents, buf),
        show_progress(task, size),
    )?;
    check_unchanged(image)?;
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}

/// Returns a callback that reports how much of an image of `size` bytes is in its tree.
pub(super) fn show_progress(task: &BackupTask<'_>, size: u64) -> impl Fn(u64) {
    move |leaves: u64| task.worked((leaves * LEAF_SIZE).min(size), Some(size))
}

/// Sends the leaves that contain these extents, which must be in ascending order.
pub(super) fn send_leaves(
    found: impl Iterator<Item = Result<Range<u64>, VolumeError>>,
    leaves: &mut LeafProducer<'_, '_, Extents>,
) -> Result<(), StageError> {
    let mut open: Option<(u64, Coverage, Extents)> = None;
    for extent in found {
        let extent = extent?;
        let mut at = extent.start;
        while at < extent.end {
            let leaf = at / LEAF_SIZE;
            let end = extent.end.min((leaf + 1) * LEAF_SIZE);
            if let Some((of, coverage, extents)) = open.take_if(|(of, ..)| *of != leaf) {
                leaves.leaf(of, coverage, extents)?;
            }
            let (_, coverage, extents) =
                open.get_or_insert_with(|| (leaf, Coverage::default(), Vec::new()));
            coverage.push(within(leaf, at)..within(leaf, end));
            extents.push(at..end);
            at = end;
        }
    }
    match open {
        Some((leaf, coverage, extents)) => leaves.leaf(leaf, coverage, extents),
        None => Ok(()),
    }
}

/// Fails if it is certain that the image was written to since it was opened.
pub(super) fn check_unchanged(image: &dyn ImageSource) -> Result<(), OpsError> {
    if image.changed_since_opened()? {
        return Err(OpsError::SourceChanged { path: image.name() });
    }
    Ok(())
}

/// Converts an offset in the image to one in the leaf.
pub(super) fn within(leaf: u64, offset: u64) -> usize {
    to_usize(offset - leaf * LEAF_SIZE)
}

fn read_leaf(
    task: &BackupTask<'_>,
    image: &dyn ImageSource,
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

/// Fills `into` with the bytes of the image from `offset` on, and with zeros after its end.
pub(super) fn read_padded(
    task: &BackupTask<'_>,
    image: &dyn ImageSource,
    offset: u64,
    into: &mut [u8],
) -> Result<(), OpsError> {
    let left = image.size().saturating_sub(offset);
    let len = to_usize(left).min(into.len());
    let (there, behind) = into.split_at_mut(len);
    if !there.is_empty() {
        image.read_at(offset, there)?;
    }
    behind.fill(0);
    task.tally.read.fetch_add(len as u64, Ordering::Relaxed);
    Ok(())
}
