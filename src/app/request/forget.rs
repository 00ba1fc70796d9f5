//! Requests to forget backups and to prune.

use std::time::Duration;

use crate::ops::{AcceptedLoss, LabelMatch, MaxUnused, Policy};

#[derive(Debug)]
pub(crate) struct ForgetRequest {
    pub(crate) selection: ForgetSelection,
    pub(crate) dry_run: bool,
    /// The losses of history that the user accepts.
    pub(crate) accept_loss: AcceptedLoss,
    /// How to prune afterwards; `None` if no prune follows.
    pub(crate) prune: Option<PruneRequest>,
}

/// The backups to forget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ForgetSelection {
    /// All backups that the policy does not keep.
    NotKeptBy {
        policy: Policy,
        /// The volumes to apply the policy to; all if empty.
        volumes: Vec<String>,
        /// The policy applies only to backups with all of these labels. Other backups stay and do
        /// not count.
        labels: Vec<LabelMatch>,
        /// Whether days start in UTC rather than in the local time zone.
        utc: bool,
    },
    /// These backups.
    Named {
        backups: Vec<String>,
        /// Whether to forget these backups even if they are protected.
        force: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PruneRequest {
    /// The losses of history that the user accepts.
    pub(crate) accept_loss: AcceptedLoss,
    pub(crate) max_unused: MaxUnused,
    /// The maximum number of bytes of used data to copy into new packs; `None` for no limit.
    pub(crate) max_repack: Option<u64>,
    /// Whether to merge small packs if there are many.
    pub(crate) merge_small: bool,
    pub(crate) grace: Duration,
}
