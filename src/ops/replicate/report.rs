//! The options and the results of a copy.

use std::time::SystemTime;

/// The options of a copy.
#[derive(Debug, Clone, Default)]
pub struct ReplicateOptions {
    /// Copy only projects whose ids begin with these digits. `None` copies all projects.
    pub project: Option<String>,
    /// Delete the objects from the target that the log removes and the source no longer has.
    pub mirror: bool,
    /// Leave out data and backups that the source stored before this time. `None` leaves out none.
    pub newer_than: Option<SystemTime>,
    /// Read the whole target at the end.
    pub verify: bool,
}

/// The store that a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The repository that is copied.
    Source,
    /// The copy.
    Target,
}

/// The totals of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicateReport {
    /// The number of findings.
    pub errors: u64,
    /// How many of these findings prove that history has vanished from the source.
    pub of_history: u64,
    /// How many of these findings prove that history has vanished from the copy. 0 if the copy was
    /// not read at the end.
    pub of_history_in_copy: u64,
    /// Projects that were copied.
    pub projects: u64,
    /// Files that were copied: objects and second copies.
    pub files_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Files of the source that the target had before.
    pub files_present: u64,
    /// Files that were deleted from the target.
    pub files_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Key slots of the target that the source does not have.
    pub old_keys: u64,
    /// Files of the target that were read at the end. `None` if this was not asked for.
    pub files_verified: Option<u64>,
    /// Their bytes.
    pub bytes_verified: Option<u64>,
}
