//! Requests to copy backups to another project.

use std::ffi::OsString;

use crate::app::password::PasswordOptions;
use crate::repo::{Compression, VerifyWrites};

/// Which backups to copy, and where to.
#[derive(Debug)]
pub(crate) struct CopyRequest {
    pub(crate) target: CopyTarget,
    pub(crate) selection: CopySelection,
    /// The volume in the target; `None` if it has the same name as the volume in the source.
    pub(crate) volume: Option<String>,
    /// Whether to copy backups of write keys, too.
    pub(crate) accept_write_keys: bool,
    pub(crate) dry_run: bool,
    pub(crate) compression: Compression,
    pub(crate) verify_writes: VerifyWrites,
}

/// The project that gets the copies.
#[derive(Debug)]
pub(crate) struct CopyTarget {
    /// The location of the repository.
    pub(crate) repository: OsString,
    /// The name of the project; `None` if it has the same name as the project of the source.
    pub(crate) project: Option<String>,
    pub(crate) password: PasswordOptions,
}

/// The backups to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopySelection {
    /// All backups of the project.
    All,
    Some {
        /// Single backups, as the user named them.
        backups: Vec<String>,
        /// The names of volumes of which all backups are copied.
        volumes: Vec<String>,
    },
}
