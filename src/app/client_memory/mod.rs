//! The state in which this host last saw each repository. With this state, a command notices that a
//! repository was replaced by an older state or by another repository.
//!
//! If a newer backup names a missing one, the repository itself shows the loss. But if the newest
//! backups are missing, nothing in the repository shows this. So this host keeps a small file for
//! each location of a repository, in the directory for the state of this program. The file lists
//! the ends of the history of each project: the newest backups and log entries.

mod compare;
mod file;
mod lost;
mod memory;

pub(crate) use lost::{Lost, history_lost};
pub(crate) use memory::ClientMemory;
