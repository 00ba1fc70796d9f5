//! What a reader holds so that prunes spare what it reads. `docs/concurrency.md` has the argument.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::{RepoError, RepoErrorKind};
use super::index::Index;
use super::lease::{self, Lease, Worker};
use super::marks::Marks;
use super::project::Project;
use crate::base::{BlobId, Notice, Observer, lock};
use crate::storage;

/// Minimum time between two attempts to renew a lease that had lapsed.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// A reader's lease, and the index as it was opened under it.
///
/// The order is what makes it safe: lease, marks, index. A prune stores its mark, takes names away, lists leases, and
/// then deletes. So either it sees the lease and spares what the reader needs; or the reader sees the mark, or an
/// index in which the pack has no name any more, and reads from elsewhere.
pub struct ReadSession {
    /// None if the store cannot be written.
    lease: Option<Lease>,
    index: Arc<Index>,
    observer: Arc<dyn Observer>,
    /// When a lapsed lease was last renewed, or when that was tried.
    resumed: Mutex<Option<Duration>>,
}

impl ReadSession {
    /// Takes a lease on these trees and opens the index: from `cache`, or in memory without one.
    ///
    /// Where the store cannot be written, it reads without a lease and notes that: then a prune may delete what it
    /// reads.
    pub fn open(
        project: &Project,
        tops: &[BlobId],
        worker: Worker<'_>,
        cache: Option<&Path>,
        observer: &Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let lease = lease_for_reading(project, tops, worker, &**observer)?;
        let marks = Marks::load(project)?;
        let index = match cache {
            Some(cache) => Index::open(project, cache, Arc::clone(observer))?,
            None => Index::in_memory(project, Arc::clone(observer))?,
        };
        let session = Self {
            lease,
            index,
            observer: Arc::clone(observer),
            resumed: Mutex::default(),
        };
        session.exclude_what_may_go(&marks)?;
        Ok(Arc::new(session))
    }

    /// The index. Blobs are found first where no prune will delete them.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Whether prunes know of this reader.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Called before blobs are located. If the lease has lapsed, since this machine was suspended or the store was
    /// out of reach for minutes, a prune may have moved them: renews the lease, then takes in where they are now.
    pub(super) fn resume(&self) -> Result<(), RepoError> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        if !lease.may_be_dead() {
            return Ok(());
        }
        let mut resumed = lock(&self.resumed);
        let now = lease::now();
        let recently = resumed.is_some_and(|then| now.saturating_sub(then) < RETRY_EVERY);
        if recently || !lease.may_be_dead() {
            return Ok(());
        }
        *resumed = Some(now);
        match lease.renew() {
            Ok(()) => {}
            Err(error) if is_unwritable(&error) => self.observer.notice(no_lease(&error)),
            Err(error) => return Err(error),
        }
        // Before the index is taken in: a lapse while that goes on has to be noticed, too.
        let _ = lease.has_lapsed();
        let taken_in = self.look_again();
        if taken_in.is_err() {
            lease.distrust();
            *resumed = None;
        }
        taken_in
    }

    /// Lets the index find blobs in packs that are marked, or that no segment names, only if they are nowhere else.
    fn exclude_what_may_go(&self, marks: &Marks) -> Result<(), RepoError> {
        self.index.exclude(self.index.unnamed()?);
        self.index.exclude(marks.packs());
        Ok(())
    }

    /// Lists the marks, then takes in the index.
    fn look_again(&self) -> Result<(), RepoError> {
        let marks = Marks::load(self.index.project())?;
        self.index.sync()?;
        self.exclude_what_may_go(&marks)
    }
}

/// Takes a lease on trees that are going to be read. Returns none, with a notice, if the store cannot be written.
pub fn lease_for_reading(
    project: &Project,
    tops: &[BlobId],
    worker: Worker<'_>,
    observer: &dyn Observer,
) -> Result<Option<Lease>, RepoError> {
    let tops = &tops[..tops.len().min(Lease::TOPS_MAX)];
    match Lease::take_reading(project, tops, worker) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if is_unwritable(&error) => {
            observer.notice(no_lease(&error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn no_lease(error: &RepoError) -> Notice {
    Notice::ReadWithoutLease {
        problem: error.to_string(),
    }
}

/// Whether an error says that the store cannot be written, though it may be read.
fn is_unwritable(error: &RepoError) -> bool {
    use storage::StorageErrorKind::{Denied, Full, ReadOnly};
    matches!(
        error.kind(),
        RepoErrorKind::Storage(Denied | Full | ReadOnly)
    )
}
