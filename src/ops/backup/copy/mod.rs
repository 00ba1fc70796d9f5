//! Copies backups to another project, which has other keys. Each chunk is opened, its id is
//! verified, and it is stored under the keys of the target, unless the target holds it.
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
