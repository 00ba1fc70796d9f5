//! The message about the result of `replicate`.

use serde::Serialize;

/// The result of `replicate`. Each object is one file, and the second copy of an object is another
/// file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReplicateSummary {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) repository_id: String,
    pub(crate) projects: u64,
    /// The number of findings: damage, or history that has vanished.
    pub(crate) errors: u64,
    pub(crate) files_copied: u64,
    pub(crate) bytes_copied: u64,
    /// Files of the source that the target had before.
    pub(crate) files_present: u64,
    pub(crate) files_removed: u64,
    pub(crate) bytes_removed: u64,
    /// Files of the copy that were read at the end; `None` without `--verify`.
    pub(crate) files_verified: Option<u64>,
    pub(crate) bytes_verified: Option<u64>,
    /// In seconds.
    pub(crate) duration: f64,
}
