//! Requests for restore drills.

use std::path::PathBuf;

/// Which backups to restore, and how to examine them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrillRequest {
    /// The maximum number of backups.
    pub(crate) sample: usize,
    /// The maximum number of bytes of content of all these backups together; `None` for no limit.
    pub(crate) max_bytes: Option<u64>,
    /// A command for the shell. It gets the path of the restored file as its last argument. With
    /// `None`, the restored data is discarded.
    pub(crate) command: Option<String>,
    /// The directory of the restored file; `None` for the system's directory of temporary files.
    pub(crate) scratch: Option<PathBuf>,
}
