//! The state that all parts of a check share, and its report.

use std::collections::HashSet;

use super::finding::{Finding, VanishedHistory};
use super::selection::{LedgerRun, ReadReport};
use super::volumes::AffectedVolume;
use crate::base::ObjectHash;
use crate::format::PackListing;
use crate::ops::context::Context;
use crate::repo::{BlobLocation, HistoryEnds, ObjectRef, Project, RepoError};

/// The totals of a check.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// The number of findings.
    pub errors: u64,
    /// The number of findings about foreign objects.
    pub foreign: u64,
    /// The number of findings about foreign objects that revoked keys signed.
    pub revoked: u64,
    /// The number of findings which prove that history has vanished.
    pub of_history: u64,
    /// The number of packs that are missing, have the wrong size, or are damaged. Missing packs,
    /// and most damaged ones, count only if a backup needs data from them.
    pub packs_damaged: u64,
    /// Backups that cannot be restored completely.
    pub backups_affected: Vec<ObjectHash>,
    /// The backups that can be restored completely, as far as this check has found.
    pub backups_whole: Vec<ObjectHash>,
    /// The volumes with affected backups, by name.
    pub volumes_affected: Vec<AffectedVolume>,
    /// Records that exist and cannot be read.
    pub records_damaged: Vec<ObjectHash>,
    /// The number of backups that were checked.
    pub backups: u64,
    /// The number of packs that the index names. Packs that only superseded segments name count if
    /// they have a wrong size, or if the check reads only a part of the data.
    pub packs: u64,
    /// The number of bytes of packs that were read.
    pub bytes_read: u64,
    /// Missing records that were not forgotten, and that the log or records of full keys name.
    pub vanished: Vec<ObjectHash>,
    /// Missing certificates that the log names.
    pub certificates_vanished: Vec<ObjectHash>,
    /// Missing entries of the log that other entries name.
    pub entries_vanished: Vec<ObjectHash>,
    /// The data that was read, if any.
    pub data: Option<ReadReport>,
    /// The newest records and log entries of the history that was checked.
    pub ends: HistoryEnds,
}

/// The state of a check.
pub(super) struct CheckTask<'a> {
    pub(super) project: &'a Project,
    pub(super) context: &'a Context<'a>,
    pub(super) report: CheckReport,
    pub(super) history: VanishedHistory,
    pub(super) each: &'a mut dyn FnMut(&Finding),
    /// Packs of the index that are missing or damaged. If it is known which runs of a pack are
    /// damaged, the pack is not listed here, but its damaged runs are in `bad_runs`.
    pub(super) bad_packs: HashSet<ObjectHash>,
    /// The missing packs.
    pub(super) missing: HashSet<ObjectHash>,
    /// Missing packs that a backup may need. They are reported when a backup is found to need them.
    pub(super) unreported: Vec<ObjectRef>,
    /// Damaged packs that a backup may need, with their damage. They are reported when a backup is
    /// found to need them.
    pub(super) unreported_damage: Vec<(ObjectHash, RepoError)>,
    /// Runs that did not open, by pack and ordinal.
    pub(super) bad_runs: HashSet<(ObjectHash, u64)>,
    /// The errors of directories that cannot be listed.
    pub(super) unlisted: HashSet<String>,
    /// Packs that no segment names.
    pub(super) unnamed: HashSet<ObjectHash>,
    /// Packs that are going to be deleted.
    pub(super) marked: HashSet<ObjectHash>,
    /// Whether all packs that backups use must be read.
    pub(super) reads_all: bool,
    /// Whether the walk over the trees has ended, and all packs that backups use were read.
    pub(super) all_read: bool,
    /// The run in the ledger, if packs are read.
    pub(super) ledger_run: Option<LedgerRun<'a>>,
    /// The number of packs from which the run chose.
    pub(super) candidates: u64,
    /// The number of packs that the run chose.
    pub(super) chosen: u64,
    /// Packs that were read, undamaged or not, and packs that could not be read since they are
    /// missing.
    pub(super) read: HashSet<ObjectHash>,
    /// Undamaged packs that were read, and on which this client could not rely before.
    pub(super) proven: Vec<PackListing>,
}

impl CheckTask<'_> {
    /// Returns whether a place of a blob is in one of the `bad_packs` or `bad_runs`.
    pub(super) fn is_damaged(&self, at: &BlobLocation) -> bool {
        self.bad_packs.contains(&at.pack()) || self.bad_runs.contains(&(at.pack(), at.ordinal()))
    }

    /// Returns whether a place of a blob is known to be missing or damaged.
    pub(super) fn is_lost(&self, at: &BlobLocation) -> bool {
        self.missing.contains(&at.pack()) || self.is_damaged(at)
    }

    /// Counts and reports a finding.
    pub(super) fn found(&mut self, finding: &Finding) {
        self.report.errors += 1;
        self.history.note(finding);
        self.report.of_history = self.history.proven();
        if let Finding::ObjectForeign { problem, .. } = finding {
            self.report.foreign += 1;
            self.report.revoked += u64::from(problem.is_of_revoked_key());
        }
        (self.each)(finding);
    }
}
