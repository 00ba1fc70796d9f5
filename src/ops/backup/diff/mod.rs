//! Backup of what RBD diff streams say: extents → leaves, merged with the base → the line of backups.
//!
//! A diff is only good on the content that it was made against, and nothing in it but the name of a
//! snapshot says which that is. So the base is found by that name, and nothing is committed before
//! the stream, with all its diffs, was seen to be whole.

mod chain;
mod commit;
mod cutter;
mod image;
mod ingest;

pub(super) use ingest::backup_diffs;
