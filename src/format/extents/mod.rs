//! Lists of extents, as `rbd diff` writes them: as JSON, as XML, or as a table for people.
//!
//! Extents that a list does not name are not read. So a text that no version of Ceph writes is
//! refused, and so is one that could be the beginning of a longer list. The writer in Ceph is
//! `src/tools/rbd/action/Diff.cc`.

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
