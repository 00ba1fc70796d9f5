//! Cuts streams into chunks. Images need no cutter, since all of their chunks have the same size.

mod stream;

pub use stream::StreamCutter;
