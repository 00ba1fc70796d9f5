//! Backup: source → leaf → chunks → id → known? drop : compress, seal, pack, store → segment → tree → record.

mod assembler;
mod base;
mod coverage;
mod diff;
mod extent_list;
mod image;
mod image_spec;
mod leaf_merger;
mod leaves;
mod listed;
mod options;
mod pack;
mod protect;
mod record;
mod sample;
mod source;
mod stream;
mod task;

pub use extent_list::read_extents;
pub use options::{BackupOptions, BackupReport};
pub use source::backup;
