//! Parity: adds it to the objects of a repository, and repairs damaged objects with it.

mod add;
mod damaged;
mod expected;
mod missing;
mod planner;
mod repair;
mod step;
mod undamaged;
mod unnamed;
mod unusable;

pub use add::{AddedParity, add_parity};
pub use damaged::has_parity;
pub(super) use damaged::is_restorable;
pub use missing::{ParityState, ProtectedObject, parity_state};
pub use repair::{ParityRepair, plan_repair};
pub use step::{ParityAction, ParityStep, RepairSources};
