//! Backup: source → leaf → chunks → id → known? drop : compress, seal, pack, store → segment → tree → record.

mod base;
mod coverage;
mod diff;
mod image;
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

pub use diff::backup_diff;
pub use listed::{Listed, read_extents};
pub use options::{BackupOptions, BackupReport};
pub use source::{Input, backup};
