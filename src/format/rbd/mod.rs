//! RBD diff streams, as `rbd export-diff` (v1) and `rbd export --export-format 2` (v2) write them.
//!
//! They come from outside and carry no checksum, so the reader takes nothing for granted: what no Ceph
//! writes is refused, each fault by its own kind and with the byte where it is, and no length that a
//! stream states is allocated. What Ceph does is in its `doc/dev/rbd-diff.rst` and
//! `doc/dev/rbd-export.rst`, with two corrections that the code tells: between the image's header and its
//! diffs v2 has a banner of its own, and the length of the record `p` cannot be relied on
//! (<https://tracker.ceph.com/issues/53243>).

mod error;
mod image;
mod input;
mod reader;
mod record;
mod writer;

pub use error::{CutIn, DiffBase, DiffError, DiffErrorKind, DiffField};
pub use image::ImageDescription;
pub use reader::{DiffPlace, DiffReader};
pub use record::{DiffHeader, DiffVersion, Extent, ExtentKind};
pub use writer::DiffWriter;

#[cfg(test)]
mod tests;
