//! Requests to show volumes and the snapshots of their images.

use std::ffi::OsStr;

use super::backup::RbdPattern;
use crate::app::failure::Failure;
use crate::ops::{RemovedSnapshots, Span};
use crate::volume::RbdOptions;

/// Which volumes to show, and when a backup is overdue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusRequest {
    /// Patterns of the names of volumes; all if empty.
    pub(crate) volumes: Vec<String>,
    /// The maximum age of the newest backup; `None` if no backup is ever overdue.
    pub(crate) max_age: Option<Span>,
    /// If set, no cluster is asked.
    pub(crate) offline: bool,
    pub(crate) cluster: RbdOptions,
}

/// Which snapshots to show, and which of them to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotsRequest {
    /// The images; `None` for all in the pools that have images with backups.
    pub(crate) images: Option<RbdPattern>,
    /// Which of their snapshots to remove; `None` to remove none.
    pub(crate) remove: Option<RemovedSnapshots>,
    pub(crate) cluster: RbdOptions,
}

impl SnapshotsRequest {
    /// Parses `[rbd:]POOL/[NAMESPACE/]IMAGE`. Pool and image can be patterns.
    pub(crate) fn images(text: &str) -> Result<RbdPattern, Failure> {
        let image = text.strip_prefix("rbd:").unwrap_or(text);
        let pattern = RbdPattern::parse(OsStr::new(image))?;
        if pattern.0.snapshot.is_some() {
            return Err(Failure::usage(format!("“{text}” names a snapshot"))
                .hint("name images: all of their snapshots are shown"));
        }
        Ok(pattern)
    }
}
