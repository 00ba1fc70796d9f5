//! The command line: its syntax, its help, and its conversion into a checked request.

mod action;
mod audit_args;
mod backup_args;
mod cache_args;
mod ceph_args;
mod check_args;
mod command_line;
mod copy_args;
mod deferred;
mod diff_args;
mod drill_args;
mod duration;
mod forget_args;
mod global_args;
mod image_args;
mod invocation;
mod kdf_args;
mod key_args;
mod label_args;
mod list_args;
mod pack_args;
mod parity_args;
mod prune_args;
mod replicate_args;
mod restore_args;
mod status_args;
mod together_args;

pub(super) use action::{Action, RepositoryAction};
pub(super) use command_line::Cli;
pub(super) use invocation::Invocation;

#[cfg(test)]
mod tests;
