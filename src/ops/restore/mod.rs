//! Restore: record → tree → units of the target → ranged reads of packs → open → verify → write.

mod fill;
mod task;
mod write;
mod write_units;

pub use task::RestoreReport;
pub use write::restore;

pub(crate) use task::RestoreTask;
pub(crate) use write::{write_all, write_changes};
