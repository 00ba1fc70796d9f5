//! Lists of extents, as `rbd diff` writes them: as JSON, as XML, or as a table for people.
//!
//! They come from outside, and what they leave out is not read. So what no Ceph writes is refused, and so
//! is what could be the front of a longer list. What Ceph writes is in its `src/tools/rbd/action/Diff.cc`.

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
