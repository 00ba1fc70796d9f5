//! Finds the older snapshots of an image that must stay after a backup, since other runs need them.

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
    /// Returns whether another process backs up to the project. Such a process takes its lease
    /// before it loads the records, and holds it until its record is stored. Must be called after
    /// this backup was committed. If the result is then false, all later runs know this backup, and
    /// build on no older one.
    pub(super) fn others_run(&self) -> Result<bool, OpsError> {
        let leases = Leases::load(self.project, self.lease)?;
        let mut leases = leases.others.iter();
        Ok(leases.any(|lease| lease.is_held_for(Work::Backup) && !lease.is_of_this_process))
    }

    /// Returns the numbers of the snapshots that must stay, in addition to `newest`:
    ///
    /// - If another process backs up now: the snapshots of this project that have no backup, since
    ///   that process may have made one of them. For each, the snapshot on which its backup would
    ///   build stays, too. That process may also make its snapshot later. Then it builds on the
    ///   newest backup before this one, so the snapshot of that backup stays, too.
    /// - The snapshot on which the next backup with a full key builds, if this backup is by a write
    ///   key. A full key does not build on backups by write keys, unless the settings trust all
    ///   keys.
    ///
    /// `snapshots` are the snapshots of the image. If [`others_run`](Self::others_run) returned
    /// true, they must have been listed after that call.
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
        // `waiting` are the snapshots without a backup. If no other process backs up, nothing needs
        // them.
        let (mut records, mut waiting) = (self.records, Vec::new());
        if others_run {
            fresh = Records::load(self.project)?;
            records = &fresh;
            waiting = without_backup(records);
        }
        // Returns the newest snapshot before `id` and before `newest` on whose backup a full key
        // can build. A running backup loaded its records before this backup was stored, so its base
        // is an older backup.
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

    /// Returns whether a full key can build on this backup.
    fn is_base(&self, backup: &Backup) -> bool {
        backup.is_full || self.project.settings.trusts_all()
    }

    /// Returns the backups of the image, and the numbers of their snapshots.
    fn backups<'r>(&self, records: &'r Records) -> impl Iterator<Item = (u64, &'r Backup)> {
        all_of_image(records, self.identity)
    }
}
