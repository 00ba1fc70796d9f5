//! Stores attachments of a backup: small contents that are cut like streams.

use super::content::content;
use super::task::{BackupTask, Stored};
use crate::base::{ByteSize, is_zero};
use crate::chunk::StreamCutter;
use crate::format::{Attachment, ContentKind, StreamEntry};
use crate::ops::attachments::SIZE_MAX;
use crate::ops::error::OpsError;
use crate::repo::{PackedNodes, StreamTree};

/// Stores an attachment with this name and content. Fails if it is larger than [`SIZE_MAX`].
pub(super) fn store_attachment(
    task: &BackupTask<'_>,
    name: &str,
    bytes: &[u8],
) -> Result<Attachment, OpsError> {
    let (project, packer) = (task.project, task.packer);
    let size = bytes.len() as u64;
    if size > SIZE_MAX {
        return Err(OpsError::AttachmentTooLarge {
            name: name.to_owned(),
            size: ByteSize(size),
            limit: ByteSize(SIZE_MAX),
        });
    }
    let nodes = PackedNodes {
        reader: task.blobs,
        packer,
        keys: &project.keys,
    };
    let keys = project.chunk_keys()?;
    let mut tree = StreamTree::new(&nodes);
    let mut worker = packer.worker()?;
    let mut cutter = StreamCutter::new(bytes, project.chunk_size, keys.cut_seed());
    let reading = |source| OpsError::ReadStream {
        name: name.to_owned(),
        source,
    };
    while let Some(chunk) = cutter.next_chunk().map_err(reading)? {
        task.context.cancel.check()?;
        let id = (!is_zero(chunk)).then(|| keys.id(chunk));
        let stored = id.map(|id| (id, 0..chunk.len()));
        packer.store_chunks(&mut worker, chunk, stored)?;
        let len = chunk.len() as u64;
        tree.push(StreamEntry { len, id })?;
    }
    packer.flush(&mut worker)?;
    let stored = Stored {
        kind: ContentKind::Stream,
        size,
        top: tree.finish()?,
    };
    Ok(Attachment {
        name: name.to_owned(),
        size,
        top: stored.top,
        root: content(project, &stored).root,
    })
}
