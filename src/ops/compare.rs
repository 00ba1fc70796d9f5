//! Compares the contents of two backups.

use super::context::Context;
use super::error::OpsError;
use crate::base::LEAF_SIZE;
use crate::format::ContentKind;
use crate::repo::{Backup, BlobReader, Project, RepoError, different_ranges};

/// An extent in which two contents differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DifferentExtent {
    /// Its offset in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompareReport {
    /// Whether the contents are known to be equal, because their roots are equal. A root is a keyed
    /// hash that identifies a content.
    pub identical: bool,
    /// Number of extents that differ.
    pub extents: u64,
    /// Bytes in these extents.
    pub bytes: u64,
}

/// Calls `each` for every extent that differs, in order. Two images with the same chunk size are
/// compared chunk by chunk. Other contents count as different in all bytes, unless their roots are
/// equal.
pub fn compare<E: From<OpsError> + From<RepoError>>(
    project: &Project,
    a: &Backup,
    b: &Backup,
    context: &Context<'_>,
    mut each: impl FnMut(DifferentExtent) -> Result<(), E>,
) -> Result<CompareReport, E> {
    if a.root == b.root {
        return Ok(CompareReport {
            identical: true,
            ..CompareReport::default()
        });
    }
    let mut report = CompareReport::default();
    let (content_a, content_b) = (&a.record.content, &b.record.content);
    let size = content_a.size.max(content_b.size);
    let mut emit = |extent: DifferentExtent| {
        report.extents += 1;
        report.bytes += extent.len;
        each(extent)
    };
    let comparable = [content_a, content_b]
        .iter()
        .all(|c| c.kind == ContentKind::Image)
        && content_a.chunk_size == content_b.chunk_size;
    if !comparable {
        emit(DifferentExtent {
            offset: 0,
            len: size,
        })?;
        return Ok(report);
    }
    let index = context.index(project)?;
    let blobs = BlobReader::new(&index).stopped_by(context.cancel);
    let chunk_size = u64::from(content_a.chunk_size);
    let mut open: Option<DifferentExtent> = None;
    different_ranges(
        &blobs,
        (a.tree(), b.tree()),
        LEAF_SIZE / chunk_size,
        |chunks| -> Result<_, E> {
            context.cancel.check().map_err(OpsError::from)?;
            let at = |chunk: u64| chunk.saturating_mul(chunk_size).min(size);
            let (offset, len) = (at(chunks.start), at(chunks.end) - at(chunks.start));
            match &mut open {
                Some(extent) if extent.offset + extent.len == offset => extent.len += len,
                _ => {
                    if let Some(extent) = open.replace(DifferentExtent { offset, len }) {
                        emit(extent)?;
                    }
                }
            }
            Ok(())
        },
    )?;
    if let Some(extent) = open {
        emit(extent)?;
    }
    drop(blobs);
    index.close();
    Ok(report)
}
