//! The message about the result of `replicate`.

use serde::Serialize;

/// The result of `replicate`. Files are objects, and their second copies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReplicateSummary {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) repository_id: String,
    pub(crate) projects: u64,
    pub(crate) errors: u64,
    pub(crate) files_copied: u64,
    pub(crate) bytes_copied: u64,
    /// Files that the target had before.
    pub(crate) files_present: u64,
    pub(crate) files_removed: u64,
    pub(crate) bytes_removed: u64,
    /// `None` unless the copy was read at the end.
    pub(crate) files_verified: Option<u64>,
    pub(crate) bytes_verified: Option<u64>,
    pub(crate) duration: f64,
}
