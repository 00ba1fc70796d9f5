//! Parity: shards with which a damaged object can be restored without a key. Section 24 (Parity) of
//! `docs/format.md`.

mod encode;
mod group;
mod kinds;
mod restore;
mod sum;

pub use encode::{parity_len, parity_of, rebuild};
pub use kinds::{is_protected, protects};
pub use restore::{Restored, restore};
