//! Backs up RBD diffs: cuts their extents into leaves, merges these with the base, and stores a
//! chain of backups.
//!
//! A diff applies only to the content of the snapshot from which it starts. It states only the name
//! of this snapshot, so the base is found by that name. Nothing is committed before the whole
//! stream, with all its diffs, has been read.

mod chain;
mod commit;
mod cutter;
mod export_info;
mod image;
mod ingest;
mod listed_changes;

pub(super) use export_info::ExportInfo;
pub(super) use ingest::{backup_diffs, backup_export};
pub(super) use listed_changes::ListedChanges;
