//! Messages as text for people.

mod audit;
mod common;
mod consequences;
mod copy;
mod detail;
mod diff;
mod finding;
mod forget;
mod head;
mod image_event;
mod message;
mod notice;
mod prune;
mod repair;
mod status;
mod summary;
mod tables;
mod volume_status;

pub(crate) use audit::{audits, drill};
pub(crate) use common::fields;
pub(crate) use diff::{diff, diffs};
pub(crate) use finding::{
    affected_entry, finding, finding_at, hole_extents, lost_history, lost_parts,
};
pub(crate) use forget::forget_plan;
pub(crate) use image_event::full_read;
pub(crate) use message::{done, message};
pub(crate) use notice::notice;
pub(crate) use status::{counts_bytes, phase, status};
pub(crate) use tables::{backups, extents, keys};
pub(crate) use volume_status::{snapshots, volume_statuses};

#[cfg(test)]
mod tests;
