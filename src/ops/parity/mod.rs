//! Parity: adds it to the objects of a repository, and repairs damaged objects with it.

mod add;
mod damaged;
mod expected;
mod missing;
mod repair;
mod undamaged;
mod unnamed;

pub use add::{AddedParity, add_parity};
pub use damaged::has_parity;
pub use missing::{ParityState, ProtectedObject, parity_state};
pub use repair::{ParityAction, ParityRepair, ParityStep, RepairSources, plan_repair};
