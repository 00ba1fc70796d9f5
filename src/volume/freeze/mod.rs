//! A time in which the users of volumes write nothing: a command freezes them, and another one
//! thaws them. A separate process runs both, so that the thaw happens even if this one is killed.

mod guard;
mod handle;
mod words;

pub use guard::guard_freeze;
pub use handle::{Freeze, FreezeError, FreezeOptions, Thaw};
