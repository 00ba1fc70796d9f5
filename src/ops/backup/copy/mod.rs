//! Copies backups to another project, which has other keys. Decrypts each chunk that it reads, and
//! verifies its id. Stores the chunks that the target does not hold yet, under the target's keys.
//!
//! The backups of a volume are copied oldest first. If the target has a copy of another backup of
//! the volume, the backup to copy is compared with this other backup. Of an image, only the parts
//! that differ are read, if both projects have chunks of the same size. A stream that differs is
//! read completely.

mod attachments;
mod base;
mod copies;
mod image;
mod once;
mod report;
mod run;
mod stream;
mod volume;

pub use report::{CopyOptions, CopyReport, EachCopy};
pub use run::copy;
