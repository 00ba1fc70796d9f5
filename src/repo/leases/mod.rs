//! Leases and marks, by which concurrent processes know of each other.

mod lease;
mod marks;
mod process;
mod work;

pub use lease::{Lease, Leases, OtherLease};
pub(super) use lease::{is_late, now};
pub use marks::{Mark, Marks};
pub use work::{Work, Worker};
