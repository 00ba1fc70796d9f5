//! The commands: each runs an operation and shows the result.

mod attachments;
mod audit;
mod backup;
mod backup_image;
mod backup_jobs;
mod cache;
mod check;
mod check_keyless;
mod check_report;
mod compare;
mod diff_export;
mod diff_files;
mod diff_inspect;
mod diff_merge;
mod dispatch;
mod drill;
mod forget;
mod head;
mod init;
mod key;
mod label;
mod list;
mod parity;
mod prune;
mod repair;
mod replicate;
mod restore;
mod restore_image;
mod show;
mod snapshots;
mod stats;
mod status;

pub(super) use audit::verify_report;
pub(super) use diff_inspect::inspect_diff;
pub(super) use diff_merge::merge_diffs;
pub(super) use dispatch::run_in_repository;
