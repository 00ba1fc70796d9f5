//! The state of an open index, and the replacement of its database after an error.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use super::damage_notes::DamageNotes;
use super::db::{Db, OpenedDb};
use super::panics::{DbError, catch};
use super::recent_runs::RecentRuns;
use super::trust::Trust;
use super::usable_packs::UsablePacks;
use crate::base::{Notice, ObjectHash, Observer, RebuildReason, read_lock, write_lock};
use crate::repo::error::RepoError;
use crate::repo::project::Project;

/// The index of a project.
pub struct Index {
    pub(super) project: Project,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) current: RwLock<Current>,
    pub(super) recent_runs: RwLock<RecentRuns>,
    pub(super) usable: RwLock<UsablePacks>,
    /// The signers and packs that count for deduplication.
    pub(super) trust: RwLock<Trust>,
    /// Whether the index ever had packs that no segment names. This process may rely on them.
    relies_on_unnamed: AtomicBool,
    /// Whether packs were excluded that this process may rely on.
    excluded_used: AtomicBool,
    /// Whether [`close`](Index::close) was called: the work with the index has ended normally.
    pub(super) closes: AtomicBool,
    /// The damage that was noted, by this process or earlier ones.
    pub(super) damage: DamageNotes,
    /// The last [`resync`](Index::resync); `None` before the first one.
    pub(super) last_resync: Mutex<Option<LastResync>>,
}

/// The time and the result of a resync.
pub(super) struct LastResync {
    pub(super) started: Instant,
    pub(super) ended: Instant,
    /// Whether the resync changed the index.
    pub(super) found: bool,
    /// Packs that this resync or an earlier one found missing in the store.
    pub(super) gone: HashSet<ObjectHash>,
}

/// The database in use.
pub(super) struct Current {
    pub(super) db: Db,
    /// The number of rebuilds. From the second rebuild on, the database is in memory.
    pub(super) rebuilds: u32,
    /// Whether the last rebuild failed, so that the database may lack segments.
    pub(super) is_incomplete: bool,
}

/// The reason why a step on the database failed.
pub(super) enum StepError {
    /// The database failed and has to be rebuilt.
    Db(DbError),
    /// Something else failed.
    Repo(RepoError),
}

impl From<DbError> for StepError {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<RepoError> for StepError {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl Index {
    /// Returns an index with this database, which need not be up to date yet.
    pub(super) fn new(
        project: &Project,
        current: Current,
        damage: DamageNotes,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            project: project.clone(),
            observer,
            current: RwLock::new(current),
            recent_runs: RwLock::default(),
            usable: RwLock::default(),
            trust: RwLock::new(Trust::of(project)),
            relies_on_unnamed: AtomicBool::new(false),
            excluded_used: AtomicBool::new(false),
            closes: AtomicBool::new(false),
            damage,
            last_resync: Mutex::default(),
        }
    }

    /// The project of the index.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Ends the use of the index normally. When the last user drops the index, the cache is stamped
    /// as undamaged. Then the next process can open the cache without verifying it.
    pub fn close(self: Arc<Self>) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// The signers and packs that count for deduplication.
    pub(super) fn trust(&self) -> RwLockReadGuard<'_, Trust> {
        read_lock(&self.trust)
    }

    /// The database in use.
    pub(super) fn current(&self) -> RwLockReadGuard<'_, Current> {
        read_lock(&self.current)
    }

    /// The database in use, locked for its replacement.
    pub(super) fn current_mut(&self) -> RwLockWriteGuard<'_, Current> {
        write_lock(&self.current)
    }

    /// Returns how often the database was rebuilt.
    pub(super) fn rebuilds(&self) -> u32 {
        self.current().rebuilds
    }

    pub(super) fn relies_on_unnamed(&self) -> bool {
        self.relies_on_unnamed.load(Ordering::Relaxed)
    }

    pub(super) fn set_relies_on_unnamed(&self) {
        self.relies_on_unnamed.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_excluded_used(&self) {
        self.excluded_used.store(true, Ordering::SeqCst);
    }

    /// Whether packs that this process may rely on were [excluded](Self::exclude_used) since the
    /// last call.
    pub(crate) fn take_excluded_used(&self) -> bool {
        self.excluded_used.swap(false, Ordering::SeqCst)
    }

    pub(super) fn clear_recent_runs(&self) {
        *write_lock(&self.recent_runs) = RecentRuns::default();
    }

    /// Queries the database. If the query fails, rebuilds the database and queries it again. A
    /// database in memory is not rebuilt: then the query fails. If the last rebuild failed, first
    /// rebuilds the database. The query fails if that is still not possible.
    pub(super) fn query<T>(
        &self,
        query: impl Fn(&Db) -> Result<T, DbError>,
    ) -> Result<T, RepoError> {
        self.run_step(|db| Ok(catch(|| query(db))?))
    }

    /// Runs a step that does more than query the database. Rebuilds the database when
    /// [`query`](Self::query) does. The step must itself [`catch`] panics, and only those of the
    /// database: other panics are not a sign of a damaged cache.
    pub(super) fn run_step<T>(
        &self,
        step: impl Fn(&Db) -> Result<T, StepError>,
    ) -> Result<T, RepoError> {
        loop {
            let current = self.current();
            let why = if current.is_incomplete {
                None
            } else {
                match step(&current.db) {
                    Ok(value) => return Ok(value),
                    Err(StepError::Repo(error)) => return Err(error),
                    Err(StepError::Db(why)) => Some(why),
                }
            };
            let seen = current.rebuilds;
            drop(current);
            let mut current = self.current_mut();
            // If several threads find the same damage, only one of them rebuilds the database.
            if current.rebuilds != seen {
                continue;
            }
            if let Some(why) = why {
                if current.db.path().is_none() {
                    return Err(in_memory_failed(why));
                }
                self.notify_rebuild(&current, unusable(&why));
            }
            self.refill(&mut current)?;
        }
    }

    /// Notifies the observer why the cache is rebuilt. Only the first rebuild is reported.
    pub(super) fn notify_rebuild(&self, current: &Current, why: RebuildReason) {
        if current.rebuilds == 0 {
            self.observer.notice(Notice::IndexRebuilt(why));
        }
    }

    /// Replaces the database by one that is filled from the segments. The first time, the new
    /// database is in the same file if possible. Later ones are in memory. No look-up runs while
    /// the database is filled.
    ///
    /// If the index ever had packs that no segment names, their listings are read again. Chunks
    /// that were found in these packs were not stored again. So a segment must name the packs
    /// before the record is committed.
    ///
    /// If this fails, the next look-up fills the database again. An incomplete database would
    /// answer that the repository lacks blobs which it has.
    pub(super) fn refill(&self, current: &mut Current) -> Result<(), RepoError> {
        current.is_incomplete = true;
        self.replace(current)?;
        current.is_incomplete = false;
        Ok(())
    }

    fn replace(&self, current: &mut Current) -> Result<(), RepoError> {
        let old = std::mem::replace(&mut current.db, memory_db(&self.project)?);
        let path = old.path().map(Path::to_owned);
        old.discard();
        self.clear_recent_runs();
        let again = current.rebuilds > 0;
        current.rebuilds += 1;
        let segments = self.list_segments()?;
        if let Some(path) = path {
            let _ = fs::remove_file(&path);
            if !again && let Ok(OpenedDb::Ready(db)) = open_db(&self.project, &path) {
                match self.fill(&db, &segments) {
                    Ok(()) => {
                        current.db = *db;
                        return Ok(());
                    }
                    Err(StepError::Repo(error)) => return Err(error),
                    Err(StepError::Db(_)) => {
                        db.discard();
                        let _ = fs::remove_file(&path);
                    }
                }
            }
        }
        match self.fill(&current.db, &segments) {
            Ok(()) => Ok(()),
            Err(StepError::Repo(error)) => Err(error),
            Err(StepError::Db(why)) => Err(in_memory_failed(why)),
        }
    }

    /// Opens the database file again, which verifies all of it. Returns whether it was damaged and
    /// has been rebuilt; false for a database in memory.
    pub(super) fn verify(&self) -> Result<bool, RepoError> {
        let mut current = self.current_mut();
        let Some(path) = current.db.path().map(Path::to_owned) else {
            return Ok(false);
        };
        std::mem::replace(&mut current.db, memory_db(&self.project)?).discard();
        match open_db(&self.project, &path) {
            Ok(OpenedDb::Ready(db)) => {
                current.db = *db;
                Ok(false)
            }
            // Another process has opened the file meanwhile. This process continues in memory.
            Ok(OpenedDb::Busy) => self.refill(&mut current).map(|()| false),
            Err(why) => {
                self.notify_rebuild(&current, unusable(&why));
                let _ = fs::remove_file(&path);
                if let Ok(OpenedDb::Ready(db)) = open_db(&self.project, &path) {
                    current.db = *db;
                }
                self.refill(&mut current)?;
                Ok(true)
            }
        }
    }

    /// Rebuilds the cache from the segments. The observer is not notified of the rebuild.
    pub fn rebuild(&self) -> Result<(), RepoError> {
        self.refill(&mut self.current_mut())
    }
}

/// Returns the bytes that identify the index of a project in its database.
fn identity(project: &Project) -> Vec<u8> {
    [&project.repository.as_bytes()[..], project.id.as_bytes()].concat()
}

/// Opens or creates the database in this file.
pub(super) fn open_db(project: &Project, path: &Path) -> Result<OpenedDb, DbError> {
    catch(|| Db::open(path, &identity(project)))
}

/// Creates an empty database in memory.
pub(super) fn memory_db(project: &Project) -> Result<Db, RepoError> {
    Db::in_memory(&identity(project)).map_err(in_memory_failed)
}

/// The reason to rebuild a database that failed with this error.
pub(super) fn unusable(error: &DbError) -> RebuildReason {
    RebuildReason::Unusable {
        problem: error.to_string(),
    }
}

fn in_memory_failed(source: DbError) -> RepoError {
    RepoError::Cache {
        path: "memory".into(),
        source,
    }
}
