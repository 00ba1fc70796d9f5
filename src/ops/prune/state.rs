//! The state of the repository that a prune has read.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::time::{Duration, SystemTime};

use crate::base::ObjectHash;
use crate::ops::error::OpsError;
use crate::ops::history::AcceptedLoss;
use crate::ops::missing::MissingHistory;
use crate::repo::{
    Index, Lease, Leases, ListedPack, Log, Marks, Project, Records, RepoError, Work,
};

/// Tolerance for rounded times: leases state whole seconds, and the store may round its times, too.
const CLOCK_STEP: Duration = Duration::from_secs(2);
/// A pack whose time is at least this far in the future is not new: the store's clock was wrong.
const FUTURE_MAX: Duration = Duration::from_mins(20);

/// The state of the repository. A prune reads it in the order of these fields, except that it reads
/// the certificates first.
///
/// Because of this order, a prune that has stored a mark sees the lease or the record of every
/// backup that has not seen the mark.
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
    /// Reads the state of the repository, and brings the index up to date.
    pub(super) fn read(
        project: &Project,
        lease: Option<&Lease>,
        index: &Index,
    ) -> Result<Self, OpsError> {
        // Verify the certificates first: if the certificate of a key is unreadable, the objects
        // that the key signed seem foreign.
        let certificates = project.verify_certificates(&Log::load(project)?)?;
        let mut marks = Marks::load(project)?;
        let leases = Leases::load(project, lease)?;
        marks.settle_times(project, leases.now);
        let (records, log) = Records::load_with_log(project)?;
        index.sync()?;
        let packs = index.list_packs()?.into_iter();
        let packs = packs.map(|pack| (pack.hash, pack)).collect();
        Ok(Self {
            marks,
            leases,
            records,
            log,
            certificates,
            packs,
        })
    }

    /// Fails if a record cannot be read and the user has not accepted its loss. Such a record may
    /// use any data.
    pub(super) fn require_readable(&self, accepted: &AcceptedLoss) -> Result<(), OpsError> {
        let damaged = self.records.damaged().iter();
        let damaged: Vec<_> = damaged.filter(|error| !accepted.includes(error)).collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let records = damaged.into_iter().map(with_causes).collect();
        Err(OpsError::Unreadable { records })
    }

    /// Finds missing and damaged objects that no entry of the log removes or accepts as lost.
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

    /// Whether a pack is younger than the grace period, or a running backup may need it. If the
    /// time of a pack is far in the future, the store's clock was wrong, and the pack counts as
    /// old.
    pub(super) fn is_young(
        &self,
        pack: &ObjectHash,
        modified: SystemTime,
        grace: Duration,
    ) -> bool {
        let now = self.leases.now;
        let is_younger = match now.duration_since(modified) {
            Ok(age) => age < grace,
            Err(ahead) => ahead.duration() < FUTURE_MAX,
        };
        is_younger || self.may_be_wanted(pack, modified)
    }

    /// Returns the packs of those marks that are at least as old as the grace period.
    pub(super) fn due(&self, grace: Duration) -> HashSet<ObjectHash> {
        let now = self.leases.now;
        let is_due = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age >= grace);
        let marks = self.marks.all().iter();
        let due = marks.filter(|mark| is_due(mark.since));
        due.flat_map(|mark| &mark.packs).copied().collect()
    }
}

/// Returns the message of an error and those of its causes, in one line.
fn with_causes(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
