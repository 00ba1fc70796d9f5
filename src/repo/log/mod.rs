//! The log of a project: which objects were added and which were removed on purpose. Section 13 of
//! `docs/format.md`.
//!
//! An object is deleted only after an entry that names it is durable ([`Removed`] proves it). So
//! what is missing and is not named has vanished. An entry is never deleted or taken back. It
//! excuses that an object is missing; it does not ask anybody to delete it.

mod append;
mod entry;
mod graph;
mod load;
mod removal;

pub use append::NewEntry;
pub use load::{Log, LogHead};
pub use removal::{Removed, removed_record};
