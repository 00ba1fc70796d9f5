//! The messages of `status` and `snapshots`.

use jiff::Timestamp;
use serde::Serialize;

use super::json_time::optional_rfc3339;
use crate::format::ByteString;

/// A volume and its newest backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VolumeStatusEntry {
    pub(crate) volume: String,
    /// The newest backup whose time is not in the future; `None` if there is none. The next fields
    /// are about this backup.
    pub(crate) backup_id: Option<String>,
    #[serde(serialize_with = "optional_rfc3339")]
    pub(crate) time: Option<Timestamp>,
    /// In seconds.
    pub(crate) age: Option<u64>,
    pub(crate) size: Option<u64>,
    pub(crate) bytes_stored: Option<u64>,
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<ByteString>,
    /// Whether the volume is overdue: the backup `backup_id` is too old or does not exist, and the
    /// volume is not retired. `None` if the user gave no maximum age.
    pub(crate) overdue: Option<bool>,
    /// Whether the backup `backup_id` was made with a full key and has the label `status=retired`.
    /// Such a volume is never overdue.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) retired: bool,
    /// The number of backups with times in the future. They do not count.
    pub(crate) backups_from_future: usize,
    /// The image in a cluster, if the volume has backups of one.
    pub(crate) image: Option<ImageStatusEntry>,
}

/// The image of a volume.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ImageStatusEntry {
    /// `POOL/[NAMESPACE/]IMAGE`, as it is called now.
    pub(crate) name: String,
    pub(crate) state: ImageStateName,
    /// What the next backup reads: `changes` or `everything`. `None` if that is not known,
    /// or if there will be no next backup.
    pub(crate) next: Option<&'static str>,
    /// Why the next backup reads everything; `None` unless `next` is `everything`.
    pub(crate) reason: Option<String>,
    /// The backup on which the next one builds; `None` unless `next` is `changes`.
    pub(crate) base: Option<String>,
    /// The snapshot of the image of which `base` is a backup; `None` unless `next` is `changes`.
    pub(crate) base_snapshot: Option<String>,
    /// The number of snapshots of the image that cuttlebone made for this project.
    pub(crate) snapshots: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImageStateName {
    /// The image is in the cluster.
    Present,
    InTrash,
    /// The image no longer exists.
    Missing,
    /// The image is in another cluster than the one that was asked.
    OtherCluster,
    /// The cluster was not asked, or could not be asked about all images.
    Unknown,
}

/// The result of `status`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StatusSummary {
    pub(crate) volumes: usize,
    /// The names of the volumes that are overdue; `None` without a maximum age.
    pub(crate) overdue: Option<Vec<String>>,
    /// Snapshots that cuttlebone made and that nothing needs, also of images in the trash.
    pub(crate) unneeded_snapshots: Vec<String>,
    /// The command that removes these snapshots.
    #[serde(skip)]
    pub(crate) removal: String,
    /// Why the cluster could not be asked, or not about all images. `None` if there was no such
    /// problem, or if the cluster was not asked.
    pub(crate) cluster_problem: Option<String>,
}

/// A snapshot that cuttlebone made, or of which there is a backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SnapshotEntry {
    /// `POOL/[NAMESPACE/]IMAGE`.
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) in_trash: bool,
    pub(crate) snapshot: String,
    pub(crate) snapshot_id: u64,
    pub(crate) protected: bool,
    /// Whether cuttlebone made the snapshot for this project.
    pub(crate) own: bool,
    pub(crate) backup_id: Option<String>,
    pub(crate) volume: Option<String>,
    /// `next_backup`, `older_backup`, `maybe_running`, `no_backup`, `image_in_trash` or
    /// `other_project`.
    pub(crate) need: &'static str,
    /// Whether nothing needs the snapshot.
    pub(crate) unneeded: bool,
    /// Whether the snapshot was removed.
    pub(crate) removed: bool,
    /// Why the snapshot could not be removed, although nothing needs it. `None` if no attempt
    /// failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// The result of `snapshots`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SnapshotsSummary {
    pub(crate) images: usize,
    pub(crate) snapshots: usize,
    /// Snapshots that nothing needs and that still exist.
    pub(crate) unneeded: usize,
    pub(crate) removed: usize,
}
