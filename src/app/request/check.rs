//! Requests to check a repository.

use std::path::PathBuf;

use crate::ops::ReadData;

/// What to check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckRequest {
    /// The data to read, if any.
    pub(crate) read: Option<ReadData>,
    /// Whether to accept the current state of the repository, although objects that this host saw
    /// are missing.
    pub(crate) accept_history: bool,
    /// A new file for the report: HTML if its name ends with `.html`, JSON otherwise.
    pub(crate) report: Option<PathBuf>,
}
