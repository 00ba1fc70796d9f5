//! The image that a backup is going to contain.

use crate::repo::Top;
use crate::volume::Gaps;

/// The image to assemble from leaves.
pub(super) struct ImageSpec {
    /// Its size in bytes.
    pub(super) size: u64,
    /// The tree of the backup that the image is compared or merged with, if there is one.
    pub(super) base: Option<Top>,
    /// The content outside the extents of the source. `Unchanged` means the content of `base`.
    pub(super) gaps: Gaps,
}
