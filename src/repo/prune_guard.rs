//! What stands between a backup that runs and prunes beside it. `docs/concurrency.md` has the argument.
//!
//! A backup tells what it intends to commit before it looks whether anything that it relies on is to be deleted.
//! A prune tells what it is about to delete before it looks what anybody intends. So of the two at least one sees the other.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::backup::Backup;
use super::error::RepoError;
use super::index::{Index, SegmentsSeen};
use super::lease::{Lease, Work, Worker};
use super::marks::{Mark, Marks};
use super::project::Project;
use crate::base::{BlobId, ObjectHash, Observer};

/// Held by a backup from before it reads records until after it has committed.
pub struct PruneGuard<'a> {
    project: &'a Project,
    lease: Arc<Lease>,
    /// Marks that were there when the index was made sure of.
    marks: HashSet<ObjectHash>,
    /// Segments that were there then.
    segments: SegmentsSeen,
    /// What these were at first: what they name is not found.
    first_marks: Marks,
    /// Something that is marked may be in use by what this run builds on.
    distrusts_base: bool,
}

/// Nothing that the trees of this backup rely on is to be deleted. Needed to commit a record.
pub struct CommitPermit {
    lease: Arc<Lease>,
    /// The marks that were there: nothing that they name is used.
    marks: Vec<ObjectHash>,
    /// Records that were put on the strength of this, or that it is not known of whether they were.
    records: RefCell<Vec<ObjectHash>>,
}

impl CommitPermit {
    /// Fails if this process was held up since: somebody may have taken it for dead.
    pub(super) fn stands(&self) -> Result<(), RepoError> {
        if self.lease.may_be_dead() {
            return Err(RepoError::LostRace);
        }
        Ok(())
    }

    /// The marks that were there: nothing that they name is used.
    #[must_use]
    pub fn marks(&self) -> &[ObjectHash] {
        &self.marks
    }

    /// To be called before a record is put: even if that fails, it may be there.
    pub(super) fn note(&self, record: ObjectHash) {
        self.records.borrow_mut().push(record);
    }

    /// Records that may have been put on the strength of this.
    #[must_use]
    pub fn records(&self) -> Vec<ObjectHash> {
        self.records.borrow().clone()
    }
}

/// What a look around came to.
pub enum CommitCheck {
    /// The record may be committed, if that happens at once.
    Permitted(CommitPermit),
    /// Something was marked, or lost its name. The index now avoids it; the tree has to be made whole, and then
    /// asked again.
    Disturbed,
}

impl<'a> PruneGuard<'a> {
    /// Takes a lease and notes how things are. Before records are read: what they rely on is there as long as they
    /// are, and what changes later is noticed.
    pub fn begin(project: &'a Project, worker: Worker<'_>) -> Result<Self, RepoError> {
        let lease = Arc::new(Lease::take(project, Work::Backup, worker)?);
        // In this order: what has lost its name by now was marked before, and the mark is still there or done with.
        let segments = SegmentsSeen::list(project)?;
        let marks = Marks::load(project)?;
        Ok(Self {
            project,
            lease,
            marks: marks.names().collect(),
            first_marks: marks,
            segments,
            distrusts_base: false,
        })
    }

    /// The index, as it was seen at first or later. It finds nothing in packs that are going to be deleted.
    pub fn index(
        &self,
        cache: Option<&Path>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Index>, RepoError> {
        let index = match cache {
            Some(cache) => Index::open_as_of(self.project, cache, observer, &self.segments)?,
            None => Index::in_memory(self.project, observer)?,
        };
        index.exclude(self.first_marks.packs());
        Ok(index)
    }

    /// Of packs that no segment names, those that may be relied on: others know of it, and nobody is about to
    /// delete them. Whether each is still there is to be looked at after this.
    pub fn adopt(&self, mut packs: Vec<ObjectHash>) -> Result<Vec<ObjectHash>, RepoError> {
        // A prune is not to be told of what is lost anyhow: it would keep that.
        let doomed = self.first_marks.packs();
        packs.retain(|pack| !doomed.contains(pack));
        if packs.is_empty() {
            return Ok(packs);
        }
        self.lease.rely_on(&packs)?;
        let marks = Marks::load(self.project)?;
        if marks.any_damaged() {
            return Ok(Vec::new());
        }
        let doomed = marks.packs();
        let free = packs.into_iter().filter(|pack| !doomed.contains(pack));
        Ok(free.collect())
    }

    /// The lease, for whoever stores in the name of this run.
    #[must_use]
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Tells that this run builds on a backup, of whose tree it will not look at every part.
    ///
    /// It may have been committed while a prune marked what it uses, and nobody but its record keeps that from being
    /// deleted. So a mark that was there at first must either have seen the record, or the record the mark; else
    /// the whole tree is looked at before the commit.
    pub fn build_on(&mut self, base: &Backup) {
        let is_known = |mark: &Mark| {
            let names_packs = !mark.packs.is_empty() || mark.damaged;
            !names_packs || mark.records.contains(&base.id) || base.marks.contains(&mark.name)
        };
        if !self.first_marks.all().iter().all(is_known) {
            self.distrusts_base = true;
        }
    }

    /// Tells that these trees are about to be committed, then looks around.
    pub fn clear(&mut self, index: &Index, tops: &[BlobId]) -> Result<CommitCheck, RepoError> {
        self.lease.intend(tops)?;
        self.look(index)
    }

    fn look(&mut self, index: &Index) -> Result<CommitCheck, RepoError> {
        let marks = Marks::load(self.project)?;
        let lost = index.lost_since(&mut self.segments)?;
        let is_new = marks.names().any(|name| !self.marks.contains(&name));
        let distrusts = std::mem::take(&mut self.distrusts_base);
        // All of them are asked.
        let lapsed = self.lease.has_lapsed();
        let gave_up = index.take_excluded_used();
        let disturbed = [is_new, lost.is_some(), lapsed, distrusts, gave_up];
        if disturbed == [false; 5] {
            let marks = marks.names().collect();
            let lease = Arc::clone(&self.lease);
            let records = RefCell::default();
            return Ok(CommitCheck::Permitted(CommitPermit {
                lease,
                marks,
                records,
            }));
        }
        // From here on this is what counts.
        self.marks = marks.names().collect();
        index.exclude(marks.packs());
        index.exclude(lost.into_iter().flatten());
        index.require_present()?;
        Ok(CommitCheck::Disturbed)
    }

    /// After the commit: whether the clearance may have run out before the record was there, since this process
    /// was held up for minutes. Then nobody knows whether all that it relied on is still there.
    #[must_use]
    pub fn came_too_late(&self) -> bool {
        self.lease.has_lapsed()
    }
}
