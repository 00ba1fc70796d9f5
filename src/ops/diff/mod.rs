//! Operations on RBD diff streams: inspect one, merge several, and export the changes between two
//! backups.

mod examine;
mod export;
mod inspect;
mod merge;

pub use examine::examine_diff;
pub use export::{ExportReport, SnapshotNames, export_diff};
pub use inspect::{DiffPart, DiffReport, DiffSummary, inspect_diff};
pub use merge::{MergeReport, merge_diffs};
