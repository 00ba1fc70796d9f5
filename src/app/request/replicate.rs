//! Requests to copy a repository.

use std::ffi::OsString;

use super::list::Since;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicateRequest {
    /// The location of the copy.
    pub(crate) target: OsString,
    /// Whether to begin a new copy even if this host saw an earlier copy at that location.
    pub(crate) init: bool,
    /// The first digits of the id of the only project to copy; `None` to copy all.
    pub(crate) project: Option<String>,
    /// Whether to delete from the copy the objects that the log removes.
    pub(crate) mirror: bool,
    /// If set, only data and backups that were stored at this time or later are copied.
    pub(crate) newer_than: Option<Since>,
    /// Whether to read the copy at the end.
    pub(crate) verify: bool,
}
