//! Finds the parts of backups that cannot be restored.

use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use crate::base::{BlobId, ObjectHash};
use crate::format::Content;
use crate::repo::{
    Backup, BlobReader, ChunkRef, ContentPart, ContentTree, LostChunks, NodeReader, RepoError,
    RepoErrorKind,
};

use super::restore::joined;

/// A backup that cannot be restored completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedBackup {
    /// The id of its record.
    pub id: ObjectHash,
    /// The name of its volume.
    pub volume: String,
    /// When the backup began.
    pub time: Timestamp,
    /// The size of the volume's content, in bytes.
    pub size: u64,
    /// The parts of that content that cannot be restored, in bytes, ascending.
    pub holes: Vec<Range<u64>>,
    /// The names of the attachments that cannot be read completely.
    pub attachments: Vec<String>,
    /// The losses that each damaged pack causes in this backup. Empty unless a check found this
    /// backup.
    pub causes: Vec<LossCause>,
}

/// The losses that the damage of one pack causes in one backup. If several damaged packs hold the
/// same data, its loss is listed for each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossCause {
    /// The hash of the pack, which is damaged or missing.
    pub pack: ObjectHash,
    /// The parts of the content that are in the pack and cannot be restored, in bytes, ascending.
    pub holes: Vec<Range<u64>>,
    /// The names of the attachments that have an unreadable part in this pack.
    pub attachments: Vec<String>,
}

/// Describes the losses of a backup, without their causes. `parts` returns the lost parts of a
/// content, in bytes. It is called with the name and the content of each attachment. For the
/// content of the backup itself, the name is `None`.
pub(super) fn affected(
    backup: &Backup,
    mut parts: impl FnMut(Option<&str>, &Content) -> Result<Vec<Range<u64>>, RepoError>,
) -> Result<AffectedBackup, RepoError> {
    let record = &backup.record;
    let mut attachments = Vec::new();
    for attachment in &record.attachments {
        if !parts(Some(&attachment.name), &attachment.as_content())?.is_empty() {
            attachments.push(attachment.name.clone());
        }
    }
    Ok(AffectedBackup {
        id: backup.id,
        volume: record.volume.name.clone(),
        time: backup.time,
        size: record.content.size,
        holes: parts(None, &record.content)?,
        attachments,
        causes: Vec::new(),
    })
}

/// Returns the lost parts of a content, in bytes, ascending. Reads the nodes, but no chunks. A
/// chunk counts as lost if its packs are missing, too short, or known to be damaged.
pub(super) fn listed_holes(
    blobs: &BlobReader,
    lost: &LostChunks<'_>,
    content: &Content,
) -> Result<Vec<Range<u64>>, RepoError> {
    holes(
        blobs,
        content,
        |_| true,
        |chunk| match lost.check(&chunk.id) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == RepoErrorKind::Damaged => Ok(false),
            Err(error) => Err(error),
        },
        |_, _, _| Ok(()),
    )
}

/// Returns the parts of a content that cannot be restored, in bytes, ascending. `enter` returns
/// whether there may be damage below a node. If not, the node is skipped. `is_whole` returns
/// whether a chunk can be read. `lost` is called for each node that is damaged or missing. Its
/// arguments are the node, the part of the content that is lost, and the error.
pub(super) fn holes(
    nodes: &impl NodeReader,
    content: &Content,
    enter: impl FnMut(&BlobId) -> bool,
    mut is_whole: impl FnMut(&ChunkRef) -> Result<bool, RepoError>,
    mut lost: impl FnMut(&BlobId, &Range<u64>, &RepoError) -> Result<(), RepoError>,
) -> Result<Vec<Range<u64>>, RepoError> {
    let tree = ContentTree::new(content.top, content);
    let mut found = Vec::new();
    let walked = tree.parts(nodes, 0..u64::MAX, enter, |part| {
        match part {
            ContentPart::Chunk(chunk) if is_whole(&chunk)? => {}
            ContentPart::Chunk(chunk) => found.push(chunk.range()),
            ContentPart::Lost { error, .. } if error.kind() != RepoErrorKind::Damaged => {
                return Err(error);
            }
            ContentPart::Lost { range, node, error } => {
                lost(&node, &range, &error)?;
                found.push(range);
            }
        }
        Ok(ControlFlow::Continue(()))
    });
    match walked {
        Ok(()) => Ok(joined(found)),
        // The shape of the tree is wrong, so no part of the content can be restored.
        Err(error) if error.kind() == RepoErrorKind::Damaged => {
            Ok(joined(std::iter::once(0..content.size).collect()))
        }
        Err(error) => Err(error),
    }
}
