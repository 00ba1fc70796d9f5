//! Requests to check a repository.

use crate::ops::ReadData;

/// What to check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckRequest {
    /// The data to read, if any.
    pub(crate) read: Option<ReadData>,
    /// Whether to accept the current state of the repository.
    pub(crate) accept_history: bool,
}
