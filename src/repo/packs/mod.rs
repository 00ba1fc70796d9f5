//! Fills packs, stores them, and names them in index segments. Also adopts the packs that an
//! interrupted process has stored.

mod budget;
mod full_pack;
mod in_flight_ids;
mod pack_sizes;
mod packer;
mod part;
mod seal;
mod unindexed_packs;
mod verify;
mod worker;
mod writer;

pub use full_pack::PackerOptions;
pub use pack_sizes::{PackSizes, RunLen};
pub use packer::{Packer, PackerReport, Pending};
pub use unindexed_packs::UnindexedPacks;
pub use verify::VerifyWrites;
pub use worker::PackWorker;
pub use writer::IndexStored;
