//! A reader's lease and index. While the lease is valid, no prune deletes the data that the reader
//! needs. The reasons are in `docs/concurrency.md`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::{BlobId, Notice, Observer, lock};
use crate::repo::error::{RepoError, RepoErrorKind};
use crate::repo::index::Index;
use crate::repo::leases::{self, Lease, Marks, Worker};
use crate::repo::project::Project;
use crate::storage;

/// Minimum time between two attempts to renew a lease that had lapsed.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// A reader's lease, and the index, which was opened after the lease was stored.
///
/// A reader stores its lease, then lists the marks, then reads the index. A prune stores its mark,
/// removes packs from the index, lists leases, and then deletes the packs. If the prune sees the
/// lease, it keeps the data of the reader. Otherwise the reader sees the mark, or an index that no
/// longer names the packs. Then it reads the data from other packs.
pub struct ReadSession {
    /// `None` if the store cannot be written.
    lease: Option<Lease>,
    index: Arc<Index>,
    observer: Arc<dyn Observer>,
    /// The time of the last attempt to renew a lapsed lease. `None` before the first attempt, and
    /// if the next one may follow immediately.
    resumed: Mutex<Option<Duration>>,
}

impl ReadSession {
    /// Stores a lease that names `tops`, the top nodes of the trees to read. Then opens the index
    /// in `cache`, or in memory if `cache` is `None`.
    ///
    /// If the store cannot be written, there is no lease, so a prune may delete data that is being
    /// read. The observer gets a notice of this.
    pub fn open(
        project: &Project,
        tops: &[BlobId],
        worker: Worker<'_>,
        cache: Option<&Path>,
        observer: &Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let lease = lease_for_reading(project, tops, worker, &**observer)?;
        let marks = Marks::load_readable(project)?;
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
        session.exclude_endangered(&marks)?;
        Ok(Arc::new(session))
    }

    /// Returns the index. It prefers packs that no prune is going to delete.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns whether there is a lease. Without one, prunes may delete the data that is read.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// Must be called before blobs are located. If this machine was suspended, or the store was out
    /// of reach for minutes, the lease has lapsed and a prune may have moved the blobs. In this
    /// case, renews the lease and brings the index up to date.
    pub(crate) fn resume(&self) -> Result<(), RepoError> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        if !lease.may_have_expired() {
            return Ok(());
        }
        let mut resumed = lock(&self.resumed);
        let now = leases::now();
        let recently = resumed.is_some_and(|then| now.saturating_sub(then) < RETRY_EVERY);
        if recently || !lease.may_have_expired() {
            return Ok(());
        }
        *resumed = Some(now);
        match lease.renew() {
            Ok(()) => {}
            Err(error) if is_unwritable(&error) => self.observer.notice(no_lease(&error)),
            Err(error) => return Err(error),
        }
        // `has_lapsed` also resets the flag. Call it before the index is read, so that a lapse
        // during the reading is noticed, too.
        let _ = lease.has_lapsed();
        let synced = self.sync();
        if synced.is_err() {
            lease.distrust();
            *resumed = None;
        }
        synced
    }

    /// Excludes packs that are marked or that no segment names. The reader uses such a pack only
    /// for blobs that are in no other pack.
    fn exclude_endangered(&self, marks: &Marks) -> Result<(), RepoError> {
        self.index.exclude(self.index.unnamed()?);
        self.index.exclude(marks.packs());
        Ok(())
    }

    /// Lists the marks, then brings the index up to date.
    fn sync(&self) -> Result<(), RepoError> {
        let marks = Marks::load_readable(self.index.project())?;
        self.index.sync()?;
        self.exclude_endangered(&marks)
    }
}

/// Stores a lease that names `tops`, the top nodes of the trees to read. If there are more than
/// [`Lease::TOPS_MAX`] trees, the lease names only the first of them. If the store cannot be
/// written, returns `None` and sends a notice.
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

/// Whether an error shows that the store cannot be written. It may still be readable.
fn is_unwritable(error: &RepoError) -> bool {
    use storage::StorageErrorKind::{Denied, Full, ReadOnly};
    matches!(
        error.kind(),
        RepoErrorKind::Storage(Denied | Full | ReadOnly)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkSize, ObjectHash, Silent};
    use crate::crypto::KdfParams;
    use crate::format::{BlobKind, SlotInfo};
    use crate::repo::blobs::BlobReader;
    use crate::repo::index::UnreadableSegments;
    use crate::repo::init::InitOptions;
    use crate::repo::keys::NewKey;
    use crate::repo::object_ref::ObjectRef;
    use crate::repo::packs::{Packer, PackerOptions, UnindexedPacks};
    use crate::repo::repository::Repository;
    use crate::storage::{Fault, FaultBackend, Plan, StorageErrorKind};

    const WORKER: Worker<'static> = Worker {
        host: None,
        tool: "test",
    };

    fn new_project(store: &FaultBackend) -> Project {
        let options = InitOptions {
            key: NewKey {
                password: b"password",
                kdf: KdfParams::new(8, 1, 1).unwrap(),
                info: SlotInfo::default(),
            },
            project: "default",
            chunk_size: ChunkSize::new(64 << 10).unwrap(),
            parity: None,
            created: 1_800_000_000,
            created_text: "2027-01-15T08:00:00Z".into(),
        };
        let repository = Repository::init(Arc::new(store.clone()), &options).unwrap();
        repository.project("default", &Silent).unwrap()
    }

    fn open_index(project: &Project) -> Arc<Index> {
        Index::in_memory(project, Arc::new(Silent)).unwrap()
    }

    /// Stores a chunk in a new pack, unless the index finds it. Returns its id and its pack.
    fn store_chunk(index: &Index, plain: &[u8]) -> (BlobId, ObjectHash) {
        let id = index.project().chunk_keys().unwrap().id(plain);
        let unindexed = UnindexedPacks::none().0;
        Packer::scope(index, unindexed, PackerOptions::default(), |packer| {
            let mut worker = packer.worker()?;
            packer.store_chunks(&mut worker, plain, [(id, 0..plain.len())])?;
            packer.flush(&mut worker)
        })
        .unwrap();
        (id, index.find_trusted(&id).unwrap().unwrap().pack())
    }

    /// Repacks `pack` like a prune. Returns the pack that now holds the chunk.
    fn repack(project: &Project, pack: ObjectHash, plain: &[u8]) -> ObjectHash {
        let index = open_index(project);
        index.exclude([pack]);
        let (_, moved) = store_chunk(&index, plain);
        let without = [pack].into_iter().collect();
        let rewritten =
            index.rewrite_segments(&without, Vec::new(), UnreadableSegments::Replace, || {
                Ok::<_, RepoError>(())
            });
        for segment in rewritten.unwrap().replaced {
            let object = ObjectRef::Index(project.id, segment);
            project.objects.delete(object).unwrap();
        }
        let object = ObjectRef::Pack(project.id, pack);
        project.objects.delete(object).unwrap();
        moved
    }

    #[test]
    fn a_reader_whose_lease_lapsed_finds_blobs_where_a_prune_moved_them() {
        let store = FaultBackend::new();
        let project = new_project(&store);
        let (id, old) = store_chunk(&open_index(&project), b"data");
        let observer: Arc<dyn Observer> = Arc::new(Silent);
        let session = ReadSession::open(&project, &[], WORKER, None, &observer).unwrap();
        let reader = BlobReader::under(&session);
        let located = || reader.locate(BlobKind::Chunk, &id).map(|at| at.pack());
        assert_eq!(located().unwrap(), old);
        let new = repack(&project, old, b"data");
        assert_ne!(new, old);
        assert_eq!(
            located().unwrap(),
            old,
            "a reader with a valid lease does not look at the store"
        );

        let lease = session.lease.as_ref().unwrap();
        lease.distrust();
        // If the lease cannot be renewed, a later call tries again after some time.
        store.set_plan(Plan::at(1, Fault::Fail(StorageErrorKind::Io)));
        assert!(located().is_err());
        assert!(lease.may_have_expired());
        *lock(&session.resumed) = None;
        // If the index cannot be read, the lease still counts as lapsed, and the next call tries
        // again.
        store.set_plan(Plan::at(3, Fault::Fail(StorageErrorKind::Io)));
        assert!(located().is_err());
        assert!(lease.may_have_expired());
        assert_eq!(located().unwrap(), new);
        assert!(!lease.may_have_expired());
        assert_eq!(reader.chunk(&id).unwrap(), b"data");
    }

    #[test]
    fn a_reader_without_a_lease_finds_blobs_that_are_moved_again_and_again() {
        let store = FaultBackend::new();
        let project = new_project(&store);
        let index = open_index(&project);
        let (id, mut pack) = store_chunk(&index, b"data");
        let reader = BlobReader::new(&index);
        for _ in 0..4 {
            pack = repack(&project, pack, b"data");
            assert_eq!(reader.chunk(&id).unwrap(), b"data");
            assert_eq!(index.find_trusted(&id).unwrap().unwrap().pack(), pack);
        }
    }

    #[test]
    fn repeated_searches_for_a_missing_blob_do_not_ask_the_store_each_time() {
        let store = FaultBackend::new();
        let project = new_project(&store);
        let index = open_index(&project);
        store_chunk(&index, b"data");
        let reader = BlobReader::new(&index);
        let missing = project.chunk_keys().unwrap().id(b"other data");
        assert!(reader.chunk(&missing).is_err());
        let _ = store.take_log();
        for _ in 0..10 {
            assert!(reader.chunk(&missing).is_err());
        }
        assert!(store.take_log().is_empty());
    }
}
