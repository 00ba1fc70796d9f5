//! Requests to repair damaged objects.

use std::ffi::OsString;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepairRequest {
    /// Whether parity is used (`repair parity`), in addition to second copies and `from`.
    pub(crate) parity: bool,
    /// The location of another copy of the repository, from which undamaged objects are taken.
    pub(crate) from: Option<OsString>,
    /// Whether to repair the objects. Otherwise, only the plan is shown.
    pub(crate) yes: bool,
}
