//! What this host saw of each repository that it used, so that a repository that was set back, or
//! another one in its place, is noticed.
//!
//! A repository proves by itself that nothing is missing between two backups. It cannot prove that
//! its newest ones are still there: all objects that name them may be missing too. So a small file
//! in the directory for the state of this program keeps the ends of the history of each project,
//! by the location of the repository.

mod compare;
mod file;
mod lost;
mod memory;

pub(crate) use lost::{Lost, history_lost};
pub(crate) use memory::ClientMemory;
