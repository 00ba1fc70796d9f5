//! Reads the attachments of a backup.

use std::sync::Arc;

use super::context::{Context, READER};
use super::error::OpsError;
use crate::base::{ByteSize, to_usize};
use crate::format::{Attachment, ImageMetadata};
use crate::repo::{Backup, BlobReader, ImageReader, Project, ReadSession};

/// The maximum size of all attachments of a backup together, in bytes.
pub(super) const SIZE_MAX: u64 = 16 << 20;

/// Reads Ceph's metadata of the image that a backup was made of. Returns `None` if the backup has
/// no such metadata. Fails if the backup has metadata that the key in use may not read.
pub fn image_metadata(
    project: &Project,
    backup: &Backup,
    context: &Context<'_>,
) -> Result<Option<ImageMetadata>, OpsError> {
    let mut attachments = backup.record.attachments.iter();
    let Some(found) = attachments.find(|found| found.name == ImageMetadata::ATTACHMENT) else {
        return Ok(None);
    };
    let bytes = read(project, found, context)?;
    let decoded = ImageMetadata::decode(&bytes);
    let damaged = |source| OpsError::AttachmentDamaged {
        name: found.name.clone(),
        backup: backup.id,
        source,
    };
    Ok(Some(decoded.map_err(damaged)?))
}

/// Returns the attachments that the user added to a backup: all except the metadata of an image.
pub fn attached_files(backup: &Backup) -> impl Iterator<Item = &Attachment> {
    let all = backup.record.attachments.iter();
    all.filter(|attachment| attachment.name != ImageMetadata::ATTACHMENT)
}

/// Reads the content of an attachment. Fails if it has more than 16 MiB, or if the key in use may
/// not read data.
pub fn read_attachment(
    project: &Project,
    attachment: &Attachment,
    context: &Context<'_>,
) -> Result<Vec<u8>, OpsError> {
    read(project, attachment, context)
}

/// Returns whether this is a valid name for a file, without a directory and without characters that
/// control a terminal.
#[must_use]
pub fn is_safe_name(name: &str) -> bool {
    let is_relative = matches!(name, "" | "." | "..");
    !is_relative && name.len() <= 255 && !name.contains(|c: char| c == '/' || c.is_control())
}

/// Reads a whole attachment. Holds a lease while it reads, so that no prune deletes the data.
fn read(
    project: &Project,
    attachment: &Attachment,
    context: &Context<'_>,
) -> Result<Vec<u8>, OpsError> {
    let tops = Vec::from_iter(attachment.top);
    let session = ReadSession::open(project, &tops, READER, context.cache, &context.observer)?;
    let blobs = BlobReader::under(&session).stopped_by(context.cancel);
    let bytes = read_whole(&blobs, attachment)?;
    Arc::clone(session.index()).close();
    Ok(bytes)
}

/// Reads a whole attachment. Fails if it is larger than [`SIZE_MAX`], since a record may state any
/// size.
pub(super) fn read_whole(blobs: &BlobReader, attachment: &Attachment) -> Result<Vec<u8>, OpsError> {
    let size = attachment.size;
    if size > SIZE_MAX {
        return Err(OpsError::AttachmentTooLarge {
            name: attachment.name.clone(),
            size: ByteSize(size),
            limit: ByteSize(SIZE_MAX),
        });
    }
    let mut bytes = vec![0; to_usize(size)];
    ImageReader::of(blobs, &attachment.as_content()).read_at(0, &mut bytes)?;
    Ok(bytes)
}
