//! The image that a backup is going to contain.

use crate::repo::Top;
use crate::volume::Gaps;

/// The image that is made of leaves.
pub(super) struct ImageSpec {
    /// Its size in bytes.
    pub(super) size: u64,
    /// The tree of the backup that it is compared and merged with.
    pub(super) base: Option<Top>,
    /// Its content where the source names no extent; `Unchanged` is that of `base`.
    pub(super) gaps: Gaps,
}
