//! Copies the attachments of a backup.

use super::base::CopyBase;
use crate::format::Attachment;
use crate::ops::attachments::read_whole;
use crate::ops::backup::attachment::store_attachment;
use crate::ops::backup::task::BackupTask;
use crate::ops::error::OpsError;
use crate::repo::{Backup, BlobReader};

/// Copies the attachments of a backup. If `base` has the same attachment, does not read it, but
/// uses its copy in the target.
pub(super) fn copy_attachments(
    task: &BackupTask<'_>,
    from: &BlobReader,
    backup: &Backup,
    base: Option<&CopyBase<'_>>,
) -> Result<Vec<Attachment>, OpsError> {
    let all = backup.record.attachments.iter();
    let copied = all.map(|attachment| {
        if let Some(known) = base.and_then(|base| known(attachment, base)) {
            return Ok(known);
        }
        match read_whole(from, attachment) {
            Ok(bytes) => store_attachment(task, &attachment.name, &bytes),
            Err(OpsError::Repo(error)) => {
                let part = format!("the attachment “{}”", attachment.name);
                Err(OpsError::unread(backup, &part, error))
            }
            Err(error) => Err(error),
        }
    });
    copied.collect()
}

/// Returns the copy of an attachment in the target, if the base has the same attachment.
fn known(attachment: &Attachment, base: &CopyBase<'_>) -> Option<Attachment> {
    let of = |backup: &Backup| {
        let mut all = backup.record.attachments.iter();
        all.find(|known| known.name == attachment.name).cloned()
    };
    let is_same = of(base.source)? == *attachment;
    of(base.copy).filter(|copy| is_same && copy.size == attachment.size)
}
