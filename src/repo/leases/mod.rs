//! Leases and marks, by which concurrent processes know of each other.

mod lease;
mod marks;
mod process;

pub use lease::{Lease, Leases, OtherLease, Work, Worker};
pub(super) use lease::{is_late, now};
pub use marks::{Mark, Marks};
