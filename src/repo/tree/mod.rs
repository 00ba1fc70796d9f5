//! Trees: section 10 (Trees) of `docs/format.md`. Trees are written, walked and compared here.

mod chunks;
mod compare;
mod different;
mod image;
mod nodes;
mod stream;
mod walk;

pub use chunks::{ChunkRef, ContentPart, ContentTree, any_chunk, count_chunks, leaf_chunks};
pub use compare::{Difference, compare_trees};
pub use different::different_ranges;
pub use image::{ImageTree, Top};
pub use nodes::{NodeReader, NodeStore, PackedNodes};
pub use stream::StreamTree;
pub use walk::{Visitor, children, walk};
