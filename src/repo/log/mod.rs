//! The log of a project. It states which objects were added, and which were removed on purpose.
//! See section 12 (Log) of `docs/format.md`.
//!
//! A record, void, pack or segment is deleted only after an entry that removes it is durable
//! ([`Removed`] proves it). The only exception is a damaged pack that a repair moves to
//! `quarantine/`: it counts as missing. So if such an object is missing and no entry removes it, it
//! has vanished. An entry is never deleted or withdrawn. An entry explains why an object is
//! missing. It does not ask other processes to delete the object.

mod append;
mod entry;
mod graph;
mod load;
mod public;
mod removal;

pub use append::NewEntry;
pub use load::{Log, LogHead};
pub use public::PublicLog;
pub use removal::{Removed, removed_record};
