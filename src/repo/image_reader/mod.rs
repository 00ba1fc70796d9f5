//! Reads images and their chunks, with a cache of opened runs.

mod fetch;
mod reader;
mod run_cache;

pub use fetch::ChunkFetcher;
pub use reader::{ContentExtent, ImageReader};
pub use run_cache::RunCache;
