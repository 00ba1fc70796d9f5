//! Key slots: reads, makes, and opens them.

mod bundle;
mod last_key;
mod slots;
mod trial;

pub(super) use bundle::Bundle;
pub use last_key::LastKey;
pub(super) use slots::{FoundSlot, make_slot, read_slots, verify_slot};
pub use slots::{KeyScope, KeySummary, NewKey};
pub(super) use trial::Trials;
