//! RBD diff streams, as `rbd export-diff` (v1) and `rbd export --export-format 2` (v2) write them.
//!
//! Streams come from outside and have no checksum. So the reader refuses everything that no version
//! of Ceph writes. There are two exceptions. It ignores unknown fields in the header of an image,
//! as `rbd import` does. It also ignores the length that a record `p` (whether the snapshot is
//! protected) states. Each error states the kind and the offset of the fault. No length in a stream
//! makes the reader allocate memory without a limit.
//!
//! Ceph specifies the formats in `doc/dev/rbd-diff.rst` and `doc/dev/rbd-export.rst`. Ceph's code
//! differs in two points. In v2, there is a banner between the image's header and its diffs. The
//! record `p` of old versions states a wrong length (<https://tracker.ceph.com/issues/53243>).

mod error;
mod image;
mod input;
mod reader;
mod record;
mod writer;

pub use error::{CutIn, DiffBase, DiffError, DiffErrorKind, DiffField};
pub use image::ImageDescription;
pub use reader::{DiffPlace, DiffReader, begins_as_diff};
pub use record::{DiffHeader, DiffVersion, Extent, ExtentKind};
pub use writer::DiffWriter;

#[cfg(test)]
mod tests;
