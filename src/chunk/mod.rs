//! Cuts streams into chunks. Images need no cutter: their chunks lie on a fixed grid.

mod stream;

pub use stream::StreamCutter;
