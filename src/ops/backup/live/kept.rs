//! The older snapshots of an image that stay after a backup, since other runs need them.

use std::collections::HashSet;

use crate::base::Role;
use crate::format::RbdIdentity;
use crate::ops::error::OpsError;
use crate::ops::image_backups::all_of_image;
use crate::ops::snapshot_names::is_own;
use crate::repo::{Backup, Lease, Leases, Project, Records, Work};
use crate::volume::Snapshot;

/// Finds snapshots of an image that other runs need.
pub(super) struct KeptSnapshots<'a> {
    pub(super) project: &'a Project,
    /// The records that were loaded before the backup.
    pub(super) records: &'a Records,
    pub(super) identity: &'a RbdIdentity,
    /// The lease of this backup.
    pub(super) lease: Option<&'a Lease>,
}

impl KeptSnapshots<'_> {
    /// Returns whether another process backs up to the project. It holds a lease from before it
    /// loads the records until its record is stored. So if this is called after the backup was
    /// committed and returns false, all later runs know this backup, and build on no older one.
    pub(super) fn others_run(&self) -> Result<bool, OpsError> {
        let leases = Leases::load(self.project, self.lease)?;
        let mut leases = leases.others.iter();
        Ok(leases.any(|lease| lease.is_held_for(Work::Backup) && !lease.is_of_this_process))
    }

    /// Returns the numbers of the snapshots that must stay, in addition to `newest`:
    ///
    /// - A snapshot without a backup, if another process backs up now: it may have made the
    ///   snapshot. Also the one on which that backup builds. If that process has not made its
    ///   snapshot yet, it builds on the newest backup before this one.
    /// - The snapshot on which the next backup with a full key builds. A full key does not build on
    ///   backups by write keys.
    ///
    /// `snapshots` are those of the image. If others run, they must have been listed since
    /// [`others_run`](Self::others_run) was called, and before this is called.
    pub(super) fn find(
        &self,
        snapshots: &[Snapshot],
        newest: &Snapshot,
        others_run: bool,
    ) -> Result<HashSet<u64>, OpsError> {
        let is_other = |snapshot: &&Snapshot| {
            snapshot.id != newest.id && is_own(&snapshot.name, self.project.id)
        };
        let others: Vec<_> = snapshots.iter().filter(is_other).collect();
        let without_backup = |records: &Records| {
            let known: HashSet<u64> = self.backups(records).map(|(id, _)| id).collect();
            let unknown = others
                .iter()
                .filter(|snapshot| !known.contains(&snapshot.id));
            unknown.map(|snapshot| snapshot.id).collect::<Vec<_>>()
        };
        let fresh;
        // If no other process backs up, the runs that made these snapshots were killed.
        let (mut records, mut waiting) = (self.records, Vec::new());
        if others_run {
            fresh = Records::load(self.project)?;
            records = &fresh;
            waiting = without_backup(records);
        }
        // The base of the backup of a snapshot, or of the next backup. A running backup loaded its
        // records before this backup was stored, so its base is an older one.
        let base_of = |id: u64| {
            let bases = self
                .backups(records)
                .filter(|(_, backup)| self.is_base(backup));
            let bases = bases
                .map(|(base, _)| base)
                .filter(|base| *base < id.min(newest.id));
            bases
                .filter(|base| others.iter().any(|snapshot| snapshot.id == *base))
                .max()
        };
        let mut kept: HashSet<u64> = waiting.iter().filter_map(|id| base_of(*id)).collect();
        kept.extend(&waiting);
        let is_no_base =
            || self.project.role() != Role::Full && !self.project.settings.trusts_all();
        if others_run || is_no_base() {
            kept.extend(base_of(newest.id));
        }
        Ok(kept)
    }

    /// Whether a full key can build on this backup.
    fn is_base(&self, backup: &Backup) -> bool {
        backup.is_full || self.project.settings.trusts_all()
    }

    /// Returns the backups of the image, and the numbers of their snapshots.
    fn backups<'r>(&self, records: &'r Records) -> impl Iterator<Item = (u64, &'r Backup)> {
        all_of_image(records, self.identity)
    }
}
