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
    /// The number of bytes after the end of the backup that were cut off an existing file; `None`
    /// if there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_cut: Option<u64>,
    /// The number of bytes after the end of the backup that an existing device keeps; `None` if
    /// there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_after_end: Option<u64>,
    /// Details of a restore to an image in a Ceph cluster.
    #[serde(flatten)]
    pub(crate) image: RestoredImage,
    pub(crate) duration: f64,
}

/// The part of the summary that only a restore to an image in a Ceph cluster has.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RestoredImage {
    /// The number of bytes that were read from an existing image to compare it with the backup;
    /// `None` if the restore was not in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_compared: Option<u64>,
    /// The snapshot with the content that an existing image had before the restore; `None` if there
    /// is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) safety_snapshot: Option<String>,
    /// A snapshot for each earlier restore that was interrupted, with the content that the image
    /// had before that restore. Oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier_snapshots: Vec<String>,
    /// The snapshots that a restore of a series of backups has made, oldest first; `None` for any
    /// other restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshots: Option<Vec<String>>,
}
