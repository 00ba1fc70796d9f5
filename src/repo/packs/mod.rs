//! OpenPack packs, storing them, naming them in index segments; and reading what a pack says of itself.

mod budget;
mod claims;
mod journal;
mod listing;
mod packer;
mod targets;
mod writer;

pub use journal::UnindexedPacks;
pub(super) use listing::pack_context;
pub use listing::{listing_of, read_listing};
pub(super) use packer::run_context;
pub use packer::{PackWorker, Packer, PackerOptions, PackerReport};
pub use targets::{PackSizes, RunLen};
pub use writer::IndexStored;
pub(super) use writer::store_segment;
