//! Lists of extents, as `rbd diff` writes them: as JSON, as XML, or as a table for people.
//!
//! A backup does not read data that no extent in the list covers. So the parser refuses a text that
//! Ceph does not write, or that is evidently only the beginning of a list. The code of Ceph that
//! writes lists is in `src/tools/rbd/action/Diff.cc`.

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
