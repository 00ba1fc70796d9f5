//! What stands between a backup that runs and prunes beside it. `docs/concurrency.md` has the argument.
//!
//! A backup tells what it intends to commit before it looks whether anything that it relies on is to be deleted.
//! A prune tells what it is about to delete before it looks what anybody intends. So of the two at least one sees the other.

use std::collections::HashSet;

use super::error::RepoError;
use super::index::{Index, SegmentsSeen};
use super::lease::{Lease, Work, Worker};
use super::marks::Marks;
use super::open::Project;
use crate::base::{BlobId, ObjectHash};

/// Held by a backup from before it reads records until after it has committed.
pub struct Guard<'a> {
    project: &'a Project,
    lease: Lease,
    /// Marks that were there when the index was made sure of.
    marks: HashSet<ObjectHash>,
    /// Segments that were there then.
    segments: SegmentsSeen,
    /// Packs that are going to be deleted.
    doomed: HashSet<ObjectHash>,
}

/// Nothing that the trees of this backup rely on is to be deleted. Needed to commit a record.
#[derive(Debug)]
pub struct Cleared(());

/// What a look around came to.
#[derive(Debug)]
pub enum Clearance {
    /// The record may be committed, if that happens at once.
    Cleared(Cleared),
    /// Something was marked, or lost its name. The index now avoids it; the tree has to be made whole, and then
    /// asked again.
    Disturbed,
}

impl<'a> Guard<'a> {
    /// Takes a lease and notes how things are. Before records are read: what they rely on is there as long as they
    /// are, and what changes later is noticed.
    pub fn begin(project: &'a Project, worker: Worker<'_>) -> Result<Self, RepoError> {
        let lease = Lease::take(project, Work::Backup, worker)?;
        // In this order: what has lost its name by now was marked before, and the mark is still there or done with.
        let segments = SegmentsSeen::look(project)?;
        let marks = Marks::load(project)?;
        Ok(Self {
            project,
            lease,
            marks: marks.names().collect(),
            segments,
            doomed: marks.packs(),
        })
    }

    /// Makes an index find nothing in packs that are going to be deleted.
    pub fn watch(&self, index: &Index<'_>) {
        index.avoid(self.doomed.iter().copied());
    }

    /// Of packs that no segment names, those that may be relied on: others know of it, and nobody is about to
    /// delete them. Whether each is still there is to be looked at after this.
    pub fn adopt(&self, packs: Vec<ObjectHash>) -> Result<Vec<ObjectHash>, RepoError> {
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

    /// Tells that this run builds on a tree, of which it will not look at every part. Whether the record that names
    /// it is still there is to be looked at after this.
    ///
    /// What is marked by now may have got into use since, by that very record; and once it is forgotten,
    /// only this lease keeps it from being deleted. Marks that are made later are noticed.
    pub fn build_on(&self, top: &BlobId) -> Result<(), RepoError> {
        if self.marks.is_empty() {
            return Ok(());
        }
        self.lease.rely_on_tree(top)
    }

    /// Tells that these trees are about to be committed, then looks around.
    pub fn clear(&mut self, index: &Index<'_>, tops: &[BlobId]) -> Result<Clearance, RepoError> {
        self.lease.intend(tops)?;
        self.look(index)
    }

    fn look(&mut self, index: &Index<'_>) -> Result<Clearance, RepoError> {
        let marks = Marks::load(self.project)?;
        let lost = index.lost_since(&mut self.segments)?;
        let is_new = marks.names().any(|name| !self.marks.contains(&name));
        if !is_new && lost.is_none() && !self.lease.has_lapsed() {
            return Ok(Clearance::Cleared(Cleared(())));
        }
        // From here on this is what counts.
        self.marks = marks.names().collect();
        index.avoid(marks.packs());
        index.avoid(lost.into_iter().flatten());
        index.believe_only_what_is_there()?;
        Ok(Clearance::Disturbed)
    }

    /// After the commit: whether the clearance may have run out before the record was there, since this process
    /// was held up for minutes. Then nobody knows whether all that it relied on is still there.
    #[must_use]
    pub fn came_too_late(&self) -> bool {
        self.lease.has_lapsed()
    }
}
