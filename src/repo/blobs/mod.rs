//! Reads blobs from packs.

mod damage;
mod fetch_nodes;
mod pack_context;
mod read_session;
mod reader;

pub use damage::{damaged_among, exclude_damaged, still_damaged};
pub(super) use fetch_nodes::fetch_nodes;
pub(super) use pack_context::{pack_context, run_context};
pub use read_session::{ReadSession, lease_for_reading};
pub use reader::{BlobReader, Opener};
