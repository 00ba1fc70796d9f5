//! Copies backups to another project, which has other keys. A copy opens each chunk and verifies
//! its id. If the target does not hold the chunk yet, it is stored under the keys of the target.
//!
//! The backups of a volume are copied oldest first. If the target has a copy of another backup of
//! the volume, only the parts that differ from this backup are read.

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
