//! The base of a copy: the backup with which the backup to copy is compared.

use std::sync::atomic::AtomicBool;

use crate::repo::Backup;

/// Another backup of the volume. The target has a copy of it.
pub(super) struct CopyBase<'a> {
    /// The backup in the source.
    pub(super) source: &'a Backup,
    /// Its copy in the target.
    pub(super) copy: &'a Backup,
    /// Set if the tree of `source` could not be compared with the tree of the backup to copy.
    /// Either tree may be damaged.
    pub(super) is_unreadable: AtomicBool,
}
