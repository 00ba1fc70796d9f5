//! The messages of the command `restore`.

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoreSummary {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    pub(crate) target: String,
    pub(crate) size: u64,
    pub(crate) bytes_written: u64,
    pub(crate) bytes_fetched: u64,
    /// Bytes that could not be restored.
    pub(crate) bytes_missing: u64,
    /// Bytes of the target after the end of the backup that were cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_cut: Option<u64>,
    /// Bytes of the target after the end of the backup that stay as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_after_end: Option<u64>,
    /// What was done to the image of a cluster.
    #[serde(flatten)]
    pub(crate) image: RestoredImage,
    pub(crate) duration: f64,
}

/// The part of the summary that only images of a cluster have.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RestoredImage {
    /// Bytes that were read from an existing image of a cluster to compare it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_compared: Option<u64>,
    /// The snapshot with the earlier content of an existing image of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) safety_snapshot: Option<String>,
    /// The snapshots with the content before earlier, interrupted restores. Oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier_snapshots: Vec<String>,
    /// The snapshots that a series has made, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshots: Option<Vec<String>>,
}
