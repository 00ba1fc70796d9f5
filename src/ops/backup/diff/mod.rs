//! Backup of RBD diffs: extents → leaves, merged with the base → a chain of backups.
//!
//! A diff applies only to the content that it was made from, which it identifies by the name of a
//! snapshot. So the base is found by that name. Nothing is committed before the whole stream, with
//! all its diffs, has been read.

mod chain;
mod commit;
mod cutter;
mod image;
mod ingest;

pub(super) use ingest::backup_diffs;
