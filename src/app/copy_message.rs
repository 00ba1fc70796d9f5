//! The messages of `copy`.

use jiff::Timestamp;
use serde::Serialize;

use super::json_time::rfc3339;

/// The result for one backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CopiedBackup {
    /// The backup in the source.
    pub(crate) source_id: String,
    /// The copy in the target; `None` if a dry run found that the target lacks it.
    pub(crate) backup_id: Option<String>,
    /// The volume in the target.
    pub(crate) volume: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) size: u64,
    /// Whether the target had the copy already.
    pub(crate) existing: bool,
    /// The copy in the target with which the backup was compared. Only the parts that differ were
    /// read from the source. `None` if the backup was compared with no copy.
    pub(crate) base: Option<String>,
    /// Bytes of the content that were read from the source.
    pub(crate) bytes_read: u64,
    /// Bytes of the content that the target lacked.
    pub(crate) bytes_new: u64,
    /// Bytes that were written to the target, after compression.
    pub(crate) bytes_stored: u64,
    /// The number of chunks that the target lacked.
    pub(crate) chunks_new: u64,
    /// In seconds.
    pub(crate) duration: f64,
}

/// The result of `copy`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CopySummary {
    /// The location of the target.
    pub(crate) target: String,
    /// The project in the target.
    pub(crate) project: String,
    /// Backups that were copied. In a dry run: backups that the target lacks.
    pub(crate) backups_copied: u64,
    /// Backups of which the target already had a copy.
    pub(crate) backups_existing: u64,
    /// Backups that could not be copied.
    pub(crate) backups_failed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_new: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) dry_run: bool,
    /// In seconds.
    pub(crate) duration: f64,
}
