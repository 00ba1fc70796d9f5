//! Lists of extents, as `rbd diff` writes them: as JSON, as XML, or as a table for people.
//!
//! A backup does not read extents that the list lacks. So a text that no version of Ceph writes is
//! refused. A text that is evidently only the beginning of a list is refused, too. Ceph writes
//! lists in `src/tools/rbd/action/Diff.cc`.

mod error;
mod json;
mod list;
mod number;
mod parse;
mod plain;
mod xml;

pub use error::ExtentsError;
pub use list::ExtentList;

#[cfg(test)]
mod tests;
