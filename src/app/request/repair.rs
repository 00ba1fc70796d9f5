//! Requests to repair damaged objects.

use std::ffi::OsString;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepairRequest {
    /// Whether parity is used.
    pub(crate) parity: bool,
    /// The location of another copy of the repository.
    pub(crate) from: Option<OsString>,
    /// Whether to repair the objects. Otherwise, only the plan is shown.
    pub(crate) yes: bool,
}
