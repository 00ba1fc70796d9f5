//! Protects a running backup from concurrent prunes. `docs/concurrency.md` has the proof.
//!
//! A backup announces in its lease the trees that it will commit. Then it checks whether data that
//! it relies on is going to be deleted. A prune announces in a mark the packs that it will delete.
//! Then it reads the leases. So at least one of the two sees the announcement of the other.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::backup::Backup;
use super::error::RepoError;
use super::index::{Index, IndexContent, SegmentsSeen};
use super::leases::{Lease, Mark, Marks, Work, Worker};
use super::log::{Log, removed_record};
use super::project::Project;
use crate::base::{BlobId, ObjectHash, Observer};
use crate::format::{BackupRecord, RemovedRecord};

/// Protects a backup from concurrent prunes. The protection begins before the backup reads records,
/// and ends after its commit.
pub struct PruneGuard<'a> {
    project: &'a Project,
    lease: Arc<Lease>,
    /// The marks that existed when the index was last checked.
    marks: HashSet<ObjectHash>,
    /// The segments that existed when the index was last checked.
    segments: SegmentsSeen,
    /// The marks that existed at the beginning. The index finds no blobs in the packs that they
    /// name.
    first_marks: Marks,
    /// Whether the base, which is the earlier backup that this one builds on, may use marked packs.
    distrusts_base: bool,
}

/// Proof that no data of this backup's trees is going to be deleted. Needed to commit a record.
pub struct CommitPermit {
    lease: Arc<Lease>,
    /// The marks that existed when the permit was given. The backup uses nothing that they name.
    marks: Vec<ObjectHash>,
    /// The records that were stored with this permit, or may have been.
    records: RefCell<Vec<RemovedRecord>>,
}

impl CommitPermit {
    /// Fails if other processes may have seen the lease as expired, because this process was
    /// suspended after it got the permit.
    pub(super) fn stands(&self) -> Result<(), RepoError> {
        self.lease.confirm()?;
        if self.lease.may_have_expired() {
            return Err(RepoError::LostRace);
        }
        Ok(())
    }

    /// Returns the marks that existed when the permit was given. The backup uses nothing that they
    /// name.
    #[must_use]
    pub fn marks(&self) -> &[ObjectHash] {
        &self.marks
    }

    /// Notes a record before it is stored. Even if storing it fails, the store may have it.
    pub(super) fn note(&self, id: ObjectHash, record: &BackupRecord) {
        // Only a client with a full key adds these details to the log, and that client signs its
        // records with the same key. So `is_full` is true.
        let noted = removed_record(id, record, true, "withdrawn");
        self.records.borrow_mut().push(noted);
    }

    /// Returns the records that may have been stored with this permit, in the form that the log
    /// needs if they are withdrawn.
    #[must_use]
    pub fn records(&self) -> Vec<RemovedRecord> {
        self.records.borrow().clone()
    }
}

/// The result of [`PruneGuard::clear`].
pub enum CommitCheck {
    /// The caller may commit the record, but must do so immediately.
    Permitted(CommitPermit),
    /// Packs that the tree needs may have been deleted, or may be deleted soon. From now on, the
    /// index excludes packs that were marked, and packs that no segment names now. The caller must
    /// store the missing blobs of the tree before the next attempt.
    Disturbed,
}

impl<'a> PruneGuard<'a> {
    /// Takes a lease and lists segments and marks. Call this before records are read. While a
    /// record exists, its data exists, too. [`clear`](Self::clear) notices later changes of
    /// segments and marks.
    pub fn begin(project: &'a Project, worker: Worker<'_>) -> Result<Self, RepoError> {
        let lease = Arc::new(Lease::take(project, Work::Backup, worker)?);
        // List the segments before the marks: if a prune has removed a pack from the segments by
        // now, it has marked the pack before. The mark still exists, or was removed after the pack
        // was deleted.
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

    /// Opens the index with the state of [`begin`](Self::begin) or of a later time. It finds no
    /// blobs in packs that are going to be deleted, or that the log removes. With the `content` of
    /// an earlier index of this process, reads no cache, and only segments that are new.
    pub fn index(
        &self,
        content: Option<IndexContent>,
        cache: Option<&Path>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Index>, RepoError> {
        let removals = Log::removals(self.project)?;
        let (project, seen) = (self.project, &self.segments);
        let index = match (content, cache) {
            (Some(content), _) => Index::continue_as_of(project, content, observer, seen)?,
            (None, Some(cache)) => Index::open_as_of(project, cache, observer, seen)?,
            (None, None) => Index::in_memory(project, observer)?,
        };
        index.exclude(self.first_marks.packs());
        index.exclude_removed(removals);
        Ok(index)
    }

    /// Announces that this backup relies on packs that no segment names. Returns those that are not
    /// going to be deleted, or none if a mark is damaged. The caller must then check that each of
    /// these still exists.
    pub fn adopt(&self, mut packs: Vec<ObjectHash>) -> Result<Vec<ObjectHash>, RepoError> {
        // Do not announce packs that must not be used, since a prune would keep them. These are
        // marked packs, and packs that the log removes: if such a pack vanished, nobody would
        // notice.
        let marked = self.first_marks.packs();
        let removed = Log::removals(self.project)?;
        packs.retain(|pack| !marked.contains(pack) && !removed.has_pack(pack));
        if packs.is_empty() {
            return Ok(packs);
        }
        self.lease.rely_on(&packs)?;
        let marks = Marks::load(self.project)?;
        if marks.any_damaged() {
            return Ok(Vec::new());
        }
        let marked = marks.packs();
        let free = packs.into_iter().filter(|pack| !marked.contains(pack));
        Ok(free.collect())
    }

    /// Returns the lease of this backup.
    #[must_use]
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Must be called before this backup builds on `base` without reading the whole tree of `base`.
    /// Announces nothing.
    ///
    /// The base may have been committed while a prune marked its packs. Then only the record of the
    /// base prevents the deletion of these packs. So each mark of packs that existed at the
    /// beginning must name the record, or the record must name the mark. Otherwise the next call of
    /// [`clear`](Self::clear) refuses the permit, so that the caller reads the whole tree.
    pub fn build_on(&mut self, base: &Backup) {
        let is_known = |mark: &Mark| {
            let names_packs = !mark.packs.is_empty() || mark.damaged;
            !names_packs
                || mark.records.contains(&base.id)
                || base.record.marks.contains(&mark.name)
        };
        if !self.first_marks.all().iter().all(is_known) {
            self.distrusts_base = true;
        }
    }

    /// Announces that the trees with these top nodes will be committed. Then returns
    /// [`CommitCheck::Disturbed`] if one of these is true:
    ///
    /// - There are new marks.
    /// - Segments that counted before no longer count.
    /// - The lease has lapsed.
    /// - The base may use marked packs.
    /// - Packs were excluded although this backup may rely on them.
    pub fn clear(&mut self, index: &Index, tops: &[BlobId]) -> Result<CommitCheck, RepoError> {
        self.lease.intend(tops)?;
        self.look(index)
    }

    fn look(&mut self, index: &Index) -> Result<CommitCheck, RepoError> {
        let marks = Marks::load(self.project)?;
        let lost = index.lost_since(&mut self.segments)?;
        let is_new = marks.names().any(|name| !self.marks.contains(&name));
        let distrusts = std::mem::take(&mut self.distrusts_base);
        // Call both functions in any case, since each call resets a flag.
        let lapsed = self.lease.has_lapsed();
        let excluded_used = index.take_excluded_used();
        let disturbed = [is_new, lost.is_some(), lapsed, distrusts, excluded_used];
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
        self.marks = marks.names().collect();
        index.exclude(marks.packs());
        index.exclude(lost.into_iter().flatten());
        index.require_present()?;
        Ok(CommitCheck::Disturbed)
    }

    /// Call this after a commit. Returns whether the permit may have expired before the record was
    /// stored, because this process was suspended for minutes. Then data that the record relies on
    /// may have been deleted.
    #[must_use]
    pub fn came_too_late(&self) -> bool {
        // If the store does not answer, the result depends on the clocks of this machine alone.
        let _ = self.lease.confirm();
        self.lease.has_lapsed()
    }
}
