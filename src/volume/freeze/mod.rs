//! Freezes the programs and virtual machines that use volumes, so that they write nothing while
//! snapshots are made. One command freezes them, and another one thaws them. A separate process
//! runs both commands, so that the thaw happens even if the process that makes the snapshots is
//! killed.

mod guard;
mod handle;
mod words;

pub use guard::guard_freeze;
pub use handle::{Freeze, FreezeError, FreezeOptions, Thaw};
