//! Results about files that are attached to backups.

use serde::Serialize;

/// Files that are attached to a backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attachments {
    pub(crate) backup_id: String,
    pub(crate) attachments: Vec<AttachmentEntry>,
}

/// A file that is attached to a backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AttachmentEntry {
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
}
