//! Backs up an image whose changed extents are listed. Reads the listed extents, and takes all
//! other content from the base.
//!
//! To test the list, a sample of the other content is compared with the base. This does not prove
//! that the list is complete. So a later backup without a list reads the whole image: see
//! [`ListedImage`](crate::volume::ListedImage).

use super::coverage::Coverage;
use super::image::{Extents, check_unchanged, read_padded, send_leaves, show_progress};
use super::image_spec::ImageSpec;
use super::leaves::store_leaves;
use super::sample::verify;
use super::task::{BackupTask, Stored};
use crate::base::{Buffer, LEAF_SIZE, Notice};
use crate::format::{ContentKind, ExtentList};
use crate::ops::error::OpsError;
use crate::ops::pipeline::Failed;
use crate::repo::{Backup, Project};
use crate::volume::{Gaps, ImageSource};

/// Fails if the list names bytes after the end of the image, or if the base has another chunk size
/// than the project.
pub(super) fn check_list(
    project: &Project,
    image: &dyn ImageSource,
    base: Option<&Backup>,
) -> Result<(), OpsError> {
    let (mut end, size) = (0, image.size());
    for extent in image.extents() {
        end = extent?.end;
    }
    if end > size {
        let path = image.name();
        return Err(OpsError::ListBeyondEnd { path, end, size });
    }
    let chunk_size = project.chunk_size.bytes();
    match base.filter(|base| base.record.content.chunk_size != chunk_size) {
        None => Ok(()),
        Some(base) => Err(OpsError::BaseCutOtherwise {
            base: base.id.to_string(),
        }),
    }
}

/// Compares `samples` chunks outside of the listed extents with the base. Then reads the listed
/// extents, and stores those of their chunks that the project lacks.
pub(super) fn store_listed(
    task: &BackupTask<'_>,
    image: &dyn ImageSource,
    base: Option<&Backup>,
    samples: u64,
) -> Result<Stored, OpsError> {
    let context = task.context;
    if base.is_none() {
        context.observer.notice(Notice::NoBaseForExtents);
    }
    let size = image.size();
    let to_read = extents_to_read(image, task.project.chunk_size.bytes().into(), base)?;
    verify(task, image, &to_read, samples, base)?;
    context.cancel.check()?;
    let spec = ImageSpec {
        size,
        base: base.map(Backup::tree),
        gaps: Gaps::Unchanged,
    };
    let fill = |leaf: u64, coverage: &Coverage, _: Extents, buf: &mut Buffer| {
        for range in coverage.ranges() {
            let offset = leaf * LEAF_SIZE + range.start as u64;
            read_padded(task, image, offset, &mut buf[range])?;
        }
        Ok(())
    };
    let top = store_leaves(
        task,
        &spec,
        &Failed::default(),
        |leaves| send_leaves(to_read.ranges().iter().cloned().map(Ok), leaves),
        fill,
        show_progress(task, size),
    )?;
    check_unchanged(image)?;
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}

/// Returns the extents to read, in whole chunks. These are the listed extents. If the size of the
/// image has changed, they include the bytes after the smaller of the two sizes.
fn extents_to_read(
    image: &dyn ImageSource,
    chunk_size: u64,
    base: Option<&Backup>,
) -> Result<ExtentList, OpsError> {
    let size = image.size();
    let edge = match base.map(|base| base.record.content.size) {
        Some(before) if before < size => before..size,
        // In the leaf of the new end, all bytes after the end become zeros. The tree drops all
        // leaves after this leaf.
        Some(before) if before > size => size..size.next_multiple_of(LEAF_SIZE),
        _ => 0..0,
    };
    let all: ExtentList = image
        .extents()
        .chain([Ok(edge)])
        .collect::<Result<_, _>>()?;
    Ok(all.widened(chunk_size))
}
