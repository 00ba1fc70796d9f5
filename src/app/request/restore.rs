//! Requests to restore a backup to a file, a device or an image in a cluster, and to write a diff.

use std::path::PathBuf;

use crate::ops::{ImageTarget, InPlaceOptions};
use crate::volume::{Existing, RbdOptions, RbdSpec};

use super::read_write::{ReadFrom, WriteTo};

#[derive(Debug)]
pub(crate) struct RestoreRequest {
    pub(crate) backup: String,
    pub(crate) target: WriteTo,
    /// How to treat an existing target.
    pub(crate) existing: Existing,
    /// Whether to restore all other parts if some cannot be read.
    pub(crate) keep_going: bool,
    /// A new file for a map of the restored and the missing parts; `None` for no map.
    pub(crate) map: Option<PathBuf>,
}

/// Restore a backup to an image in a cluster.
#[derive(Debug)]
pub(crate) struct RestoreImageRequest {
    pub(crate) backup: String,
    pub(crate) image: RbdSpec,
    pub(crate) mode: ImageMode,
    pub(crate) cluster: RbdOptions,
}

/// How to restore to an image in a cluster.
#[derive(Debug)]
pub(crate) enum ImageMode {
    /// Restore to a new or empty image.
    New(ImageTarget),
    /// Write only the differences to an existing image.
    InPlace(InPlaceOptions),
    /// Restore to a new or empty image, and make a snapshot for each backup of the volume. The
    /// first of these backups is `from`, or the oldest one if this is `None`.
    Series {
        from: Option<String>,
        target: ImageTarget,
    },
}

/// Write a diff: the changes from one backup, or from an empty image, to another backup.
#[derive(Debug)]
pub(crate) struct ExportRequest {
    /// The backup that the diff starts from; `None` for a full diff.
    pub(crate) from: Option<String>,
    pub(crate) backup: String,
    pub(crate) target: WriteTo,
    /// Whether to replace an existing file.
    pub(crate) force: bool,
    /// The names of the snapshots in the diff, if the user chose them.
    pub(crate) from_snapshot: Option<Vec<u8>>,
    pub(crate) to_snapshot: Option<Vec<u8>>,
}

/// Merge several diffs into one.
#[derive(Debug)]
pub(crate) struct MergeRequest {
    /// The diffs, oldest first.
    pub(crate) sources: Vec<ReadFrom>,
    pub(crate) target: WriteTo,
    /// Whether to replace an existing file.
    pub(crate) force: bool,
}
