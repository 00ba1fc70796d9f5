//! The state of the repository that a prune has read.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::base::ObjectHash;
use crate::ops::error::OpsError;
use crate::ops::missing::MissingHistory;
use crate::repo::{Leases, ListedPack, Log, Marks, Project, Records, RepoError, Work};

/// Tolerance for rounded times: leases state whole seconds, and the store may round its times, too.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// The state of the repository. A prune reads it in the order of these fields.
///
/// A prune that stores a mark, and then reads the fields in this order, sees the lease or the
/// record of every backup that missed the mark.
pub(super) struct RepoState {
    pub(super) marks: Marks,
    /// Read before the records: a backup deletes its lease only after it has stored its record.
    pub(super) leases: Leases,
    pub(super) records: Records,
    /// Read after the records.
    pub(super) log: Log,
    /// The errors of certificates that the log names and that cannot be used.
    pub(super) certificates: Vec<RepoError>,
    pub(super) packs: BTreeMap<ObjectHash, ListedPack>,
}

impl RepoState {
    /// Finds missing objects that no entry of the log removes or accepts as lost.
    pub(super) fn missing(&self, project: &Project) -> Result<MissingHistory, OpsError> {
        MissingHistory::find(project, &self.records, &self.log, &self.certificates)
    }

    /// Whether a running backup may need a pack that is unused so far.
    pub(super) fn may_be_wanted(&self, pack: &ObjectHash, modified: SystemTime) -> bool {
        self.leases
            .others
            .iter()
            .filter(|lease| lease.is_held_for(Work::Backup))
            .any(|lease| modified + CLOCK_STEP >= lease.begun || lease.packs.contains(pack))
    }

    /// Whether a pack is younger than the grace period, or a running backup may need it.
    pub(super) fn is_young(
        &self,
        pack: &ObjectHash,
        modified: SystemTime,
        grace: Duration,
    ) -> bool {
        let now = self.leases.now;
        let age = now.duration_since(modified).unwrap_or_default();
        modified > now || age < grace || self.may_be_wanted(pack, modified)
    }

    /// Returns the packs in marks that are older than the grace period.
    pub(super) fn due(&self, grace: Duration) -> HashSet<ObjectHash> {
        let now = self.leases.now;
        let is_due = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= grace);
        let marks = self.marks.all().iter();
        let due = marks.filter(|mark| is_due(mark.since));
        due.flat_map(|mark| &mark.packs).copied().collect()
    }
}
