//! Fills packs, stores them, and names them in index segments; reads the listing of a pack.

mod budget;
mod in_flight_ids;
mod listing;
mod pack_sizes;
mod packer;
mod unindexed_packs;
mod writer;

pub(super) use listing::pack_context;
pub use listing::{listing_of, read_listing};
pub use pack_sizes::{PackSizes, RunLen};
pub(super) use packer::run_context;
pub use packer::{PackWorker, Packer, PackerOptions, PackerReport};
pub use unindexed_packs::UnindexedPacks;
pub use writer::IndexStored;
pub(super) use writer::store_segment;
