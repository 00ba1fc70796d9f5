//! Which extents two backups do not have in common.

use std::ops::ControlFlow;

use super::context::Context;
use super::error::OpsError;
use crate::base::LEAF_SIZE;
use crate::format::ContentKind;
use crate::repo::{Backup, BlobReader, Project, RepoError, compare_trees};

/// A stretch that differs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DifferentExtent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
}

/// What was found, in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompareReport {
    /// The contents are equal.
    pub identical: bool,
    /// Stretches that differ.
    pub extents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Calls `each` for every stretch that differs, in order; to the chunk where both are images. Two
/// streams, or an image and a stream, differ as a whole or not at all.
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
    compare_trees(
        &blobs,
        a.tree(),
        b.tree(),
        &mut |difference| -> Result<_, E> {
            context.cancel.check().map_err(OpsError::from)?;
            let offset = difference.leaf * LEAF_SIZE + difference.chunk as u64 * chunk_size;
            let len = chunk_size.min(size.saturating_sub(offset));
            match &mut open {
                Some(extent) if extent.offset + extent.len == offset => extent.len += len,
                _ => {
                    if let Some(extent) = open.replace(DifferentExtent { offset, len }) {
                        emit(extent)?;
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    if let Some(extent) = open {
        emit(extent)?;
    }
    drop(blobs);
    index.close();
    Ok(report)
}
