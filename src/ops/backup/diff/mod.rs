//! Backup of RBD diffs: extents → leaves, merged with the base → a chain of backups.
//!
//! A diff is only valid on the content that it was made against, and only the name of a snapshot in
//! it tells which content that is. So the base is found by that name. Nothing is committed before
//! the whole stream, with all its diffs, was read.

mod chain;
mod commit;
mod cutter;
mod image;
mod ingest;

pub(super) use ingest::backup_diffs;
