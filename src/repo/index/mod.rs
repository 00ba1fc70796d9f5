//! Which blob lies where: a cache in redb of what the index segments say.
//!
//! The segments are the truth. Whatever is wrong with the cache (damaged, stale, of another repository, its
//! disk full) makes it be filled again, in memory if need be, and said once. Where segments themselves are
//! damaged or missing, packs are asked what they hold; the next backup names them in a segment again.

mod db;
mod filter;
mod locality;
mod sync;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::cache_dir::CacheDir;
use super::error::RepoError;
use super::marks::Marks;
use super::private_dir::create_private_dir;
use super::project::Project;
use crate::base::{
    BlobId, Notice, ObjectHash, Observer, RebuildReason, lock, read_lock, recover, write_lock,
};
use crate::format::{IndexSegment, PackListing};
use db::{Db, DbError, Opened, Taken, attempt};
use locality::Locality;
pub use locality::{Location, PlacedRun};
pub(super) use sync::SegmentsSeen;
pub use upkeep::Rewritten;

/// What the cache of a project holds, for `cache` and `stats`.
#[derive(Debug, Clone)]
pub struct CacheState {
    /// The file; none if it is kept in memory.
    pub path: Option<PathBuf>,
    /// Packs it knows.
    pub packs: u64,
    /// Blobs it knows, each place counted.
    pub blobs: u64,
}

/// The index of a project.
pub struct Index {
    project: Project,
    observer: Arc<dyn Observer>,
    current: RwLock<Current>,
    locality: RwLock<Locality>,
    /// Which packs blobs are found in.
    trusted: RwLock<Trusted>,
    /// Whether packs that no segment names were ever known to this run: it may rely on them by now.
    relies_on_unnamed: AtomicBool,
    /// Whether packs were given up that this run may rely on.
    gave_up: AtomicBool,
    /// Whether the work with it ended as it should.
    closes: AtomicBool,
    /// What [`resync`](Index::resync) came to.
    looked_again: Mutex<Option<(Instant, bool)>>,
}

/// Which packs blobs are found in.
#[derive(Default)]
struct Trusted {
    /// The packs that are in the store, with their sizes, once somebody wanted to know for sure.
    present: Option<HashMap<ObjectHash, u64>>,
    /// Packs that are going to be deleted.
    avoided: HashSet<ObjectHash>,
}

impl Trusted {
    fn has(&self, location: &Location) -> bool {
        let pack = location.pack();
        let there = match &self.present {
            None => true,
            Some(present) => present
                .get(&pack)
                .is_some_and(|size| location.run_range().end <= *size),
        };
        there && !self.avoided.contains(&pack)
    }
}

/// The database in use.
struct Current {
    db: Db,
    /// How often it was made anew. After the first time it is kept in memory.
    rebuilt: u32,
}

/// Who looks again in vain may do so again after this time.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
/// Caches that processes of one project can have side by side on one host.
const SLOTS_MAX: usize = 64;

fn identity(project: &Project) -> Vec<u8> {
    [&project.repository.as_bytes()[..], project.id.as_bytes()].concat()
}

fn memory_db(project: &Project) -> Result<Db, RepoError> {
    Db::in_memory(&identity(project)).map_err(in_memory_failed)
}

impl Index {
    /// Opens the project's cache, makes or mends it as needed, and brings it up to date.
    pub fn open(
        project: &Project,
        cache: &Path,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let current = Self::open_file(project, cache, &*observer)?;
        let index = Self::with(project, current, observer);
        index.sync()?;
        Ok(Arc::new(index))
    }

    /// The same, as of a moment when somebody looked at the segments, or later.
    pub(crate) fn open_as_of(
        project: &Project,
        cache: &Path,
        observer: Arc<dyn Observer>,
        seen: &SegmentsSeen,
    ) -> Result<Arc<Self>, RepoError> {
        let current = Self::open_file(project, cache, &*observer)?;
        let index = Self::with(project, current, observer);
        index.sync_as_of(seen)?;
        Ok(Arc::new(index))
    }

    /// An index that is kept in memory only.
    pub fn in_memory(
        project: &Project,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, RepoError> {
        let db = memory_db(project)?;
        let index = Self::with(project, Current { db, rebuilt: 0 }, observer);
        index.sync()?;
        Ok(Arc::new(index))
    }

    fn with(project: &Project, current: Current, observer: Arc<dyn Observer>) -> Self {
        Self {
            project: project.clone(),
            observer,
            current: RwLock::new(current),
            locality: RwLock::default(),
            trusted: RwLock::default(),
            relies_on_unnamed: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
            closes: AtomicBool::new(false),
            looked_again: Mutex::default(),
        }
    }

    /// The first cache file that no other process has.
    fn open_file(
        project: &Project,
        cache: &Path,
        observer: &dyn Observer,
    ) -> Result<Current, RepoError> {
        let directory = CacheDir::new(project.repository, project.id, cache);
        let mut rebuilt = 0;
        let mut said = |why: RebuildReason| {
            observer.notice(Notice::IndexRebuilt(why));
            rebuilt = 1;
        };
        let mut found = None;
        if let Err(error) = create_private_dir(directory.path()) {
            said(RebuildReason::Directory {
                path: directory.path().to_owned(),
                problem: error.to_string(),
            });
        } else {
            for number in 0..SLOTS_MAX {
                let path = directory.path().join(format!("index-{number}.redb"));
                let opened = open_db(project, &path).or_else(|error| {
                    said(unusable(&error));
                    let _ = fs::remove_file(&path);
                    open_db(project, &path)
                });
                match opened {
                    Ok(Opened::Busy) => {}
                    Ok(Opened::Ready(db)) => {
                        found = Some(*db);
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        let db = found.map_or_else(|| memory_db(project), Ok)?;
        Ok(Current { db, rebuilt })
    }

    /// The project it is for.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    fn relies_on_unnamed(&self) -> bool {
        self.relies_on_unnamed.load(Ordering::Relaxed)
    }

    fn rely_on_unnamed(&self) {
        self.relies_on_unnamed.store(true, Ordering::Relaxed);
    }

    fn forget_locality(&self) {
        let mut locality = write_lock(&self.locality);
        *locality = Locality::default();
    }

    /// To be called when a blob is in no pack, or in none that is whole: takes in what others stored meanwhile, since
    /// a prune may have packed it again; verifies the cache, which may have been damaged since it was
    /// trusted; and asks the packs that no segment names, since a segment may be missing, those that are going to be
    /// deleted among them: a backup may have come to use one, and no prune have looked since. It does so now and then
    /// at most, and leaves nothing for a second look. Whether the index may now know what it did not.
    pub fn resync(&self) -> Result<bool, RepoError> {
        let mut looked = lock(&self.looked_again);
        let first = looked.is_none();
        if let Some((when, more)) = *looked
            && when.elapsed() < LOOK_PATIENCE
        {
            return Ok(more);
        }
        let before = self.read().rebuilt;
        let known = self.guarded(Db::segments)?.len();
        self.sync()?;
        let news = self.read().rebuilt != before || self.guarded(Db::segments)?.len() != known;
        let mended = first && self.verify()?;
        let asked = self.ask(&HashSet::new())?;
        let more = news || mended || asked;
        *looked = Some((Instant::now(), more));
        Ok(more)
    }

    /// Verifies the cache, and asks the packs that no segment names what they hold; but not those that are going to
    /// be deleted, which are named no more on purpose.
    pub fn scan_unindexed(&self) -> Result<(), RepoError> {
        self.verify()?;
        let marked = Marks::load(&self.project)?.packs();
        self.ask(&marked).map(drop)
    }

    /// Asks the packs that no segment names, but for those of `not`. Whether there were any.
    fn ask(&self, not: &HashSet<ObjectHash>) -> Result<bool, RepoError> {
        let asked = self.retried(|db| self.ask_packs(db, not))?;
        if asked.is_empty() {
            return Ok(false);
        }
        // What is going to be deleted is named no more on purpose.
        let marked = Marks::load(&self.project)?.packs();
        let lost = asked.iter().filter(|pack| !marked.contains(pack)).count();
        if lost > 0 {
            self.observer
                .notice(Notice::PacksUnindexed { packs: lost as u64 });
        }
        Ok(true)
    }

    /// Fills the cache again from the segments: what it says cannot be.
    pub fn rebuild(&self) -> Result<(), RepoError> {
        self.refill(&mut self.write())
    }

    /// Opens the cache anew, which verifies all of it. Whether it was damaged and is mended.
    fn verify(&self) -> Result<bool, RepoError> {
        let mut current = self.write();
        let Some(path) = current.db.path().map(Path::to_owned) else {
            return Ok(false);
        };
        std::mem::replace(&mut current.db, memory_db(&self.project)?).discard();
        match open_db(&self.project, &path) {
            Ok(Opened::Ready(db)) => {
                current.db = *db;
                Ok(false)
            }
            // Another process was quicker; this one has what it needs in memory.
            Ok(Opened::Busy) => self.refill(&mut current).map(|()| false),
            Err(why) => {
                self.say(&current, unusable(&why));
                let _ = fs::remove_file(&path);
                if let Ok(Opened::Ready(db)) = open_db(&self.project, &path) {
                    current.db = *db;
                }
                self.refill(&mut current)?;
                Ok(true)
            }
        }
    }

    /// The packs that no segment names.
    pub fn unnamed(&self) -> Result<Vec<ObjectHash>, RepoError> {
        self.guarded(Db::unnamed)
    }

    /// Takes in a segment that was just stored.
    pub(crate) fn insert(
        &self,
        name: ObjectHash,
        segment: IndexSegment,
    ) -> Result<IndexSegment, RepoError> {
        if let Some(present) = &mut self.trusted_mut().present {
            let packs = segment.packs.iter();
            present.extend(packs.map(|p| (p.pack, p.contents.pack_size())));
        }
        let taken = [Taken { name, segment }];
        self.guarded(|db| db.insert(&taken))?;
        let [taken] = taken;
        Ok(taken.segment)
    }

    /// Whether the index knows this pack.
    pub fn has_pack(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.guarded(|db| db.has_pack(pack))
    }

    /// Whether a segment names this pack.
    pub fn is_named(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.guarded(|db| Ok(db.has_pack(pack)? && !db.unnamed()?.contains(pack)))
    }

    /// What a pack holds, if the index knows it.
    pub fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, RepoError> {
        self.guarded(|db| db.listing(pack))
    }

    /// From now on blobs are only found in packs that are there, in their size: a segment may name
    /// packs that were lost. Lists the packs once.
    pub fn require_present(&self) -> Result<(), RepoError> {
        let packs = self.list_packs()?;
        let sizes = packs.into_iter().map(|(pack, listed)| (pack, listed.size));
        self.trusted_mut().present = Some(sizes.collect());
        Ok(())
    }

    /// From now on blobs are not found in these packs, which are going to be deleted.
    pub fn exclude(&self, packs: impl IntoIterator<Item = ObjectHash>) {
        self.trusted_mut().avoided.extend(packs);
    }

    /// Finds what is in these packs again.
    pub fn avoid_no_more(&self, packs: &[ObjectHash]) {
        let mut trusted = self.trusted_mut();
        trusted.avoided.retain(|pack| !packs.contains(pack));
    }

    /// [Avoids](Self::avoid) packs that this run may rely on already.
    pub(crate) fn exclude_used(&self, packs: HashSet<ObjectHash>) {
        if !packs.is_empty() {
            self.exclude(packs);
            self.gave_up.store(true, Ordering::SeqCst);
        }
    }

    /// Whether any pack was [given up](Self::exclude_used) since this was last asked.
    pub(crate) fn has_given_up(&self) -> bool {
        self.gave_up.swap(false, Ordering::SeqCst)
    }

    /// Whether this pack is [avoided](Self::avoid).
    pub(crate) fn avoids(&self, pack: &ObjectHash) -> bool {
        let trusted = read_lock(&self.trusted);
        trusted.avoided.contains(pack)
    }

    /// Where the blob lies, if it is in the project.
    pub fn find(&self, id: &BlobId) -> Result<Option<Location>, RepoError> {
        let locality = read_lock(&self.locality);
        if let Some(location) = locality.find(id).filter(|l| self.is_there(l)) {
            return Ok(Some(location));
        }
        drop(locality);
        let mut places = self.guarded(|db| db.places(id, true))?;
        if !places.iter().all(|l| self.is_there(l)) {
            places = self.find_all(id)?;
        }
        let Some(location) = places.into_iter().next() else {
            return Ok(None);
        };
        let mut locality = write_lock(&self.locality);
        locality.put(location.placed());
        Ok(Some(location))
    }

    fn is_there(&self, location: &Location) -> bool {
        let trusted = read_lock(&self.trusted);
        trusted.has(location)
    }

    fn trusted_mut(&self) -> RwLockWriteGuard<'_, Trusted> {
        write_lock(&self.trusted)
    }

    /// All places where the blob lies: for when the first turns out to be damaged.
    pub fn find_all(&self, id: &BlobId) -> Result<Vec<Location>, RepoError> {
        let mut places = self.find_anywhere(id)?;
        places.retain(|location| self.is_there(location));
        Ok(places)
    }

    /// The same, also in packs that are [avoided](Self::avoid) or may not be there.
    pub fn find_anywhere(&self, id: &BlobId) -> Result<Vec<Location>, RepoError> {
        self.guarded(|db| db.places(id, false))
    }

    /// Calls `each` with every pack that the index knows.
    pub fn each_pack(
        &self,
        mut each: impl FnMut(PackListing) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        // If the database has to be made anew meanwhile, its packs get other numbers.
        let mut seen = HashSet::new();
        let (mut rebuilt, mut number) = (self.read().rebuilt, 0);
        loop {
            let found = self.guarded(|db| db.pack_from(number))?;
            let now = self.read().rebuilt;
            if now != rebuilt {
                (rebuilt, number) = (now, 0);
                continue;
            }
            let Some((at, listing)) = found else {
                return Ok(());
            };
            number = at + 1;
            if seen.insert(listing.pack) {
                each(listing)?;
            }
        }
    }

    /// What the cache holds.
    pub fn state(&self) -> Result<CacheState, RepoError> {
        let (packs, blobs) = self.guarded(Db::counts)?;
        Ok(CacheState {
            path: self.read().db.path().map(Path::to_owned),
            packs,
            blobs,
        })
    }

    /// What is wrong with the index segments in the store.
    pub fn verify_segments(&self) -> Result<Vec<RepoError>, RepoError> {
        let mut errors = Vec::new();
        for hash in self.list_segments()? {
            match sync::read_segment(&self.project, hash) {
                Err(e) if e.is_missing() => {}
                Err(e @ RepoError::Damaged { .. }) => errors.push(e),
                other => drop(other?),
            }
        }
        Ok(errors)
    }

    /// The segments in the store that others stand for.
    pub fn replaced_segments(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let standing = self.take_in(&self.list_segments()?)?;
        Ok(standing.replaced().collect())
    }

    /// Ends the work with the index: once its last reader is gone too, the cache is noted to be whole, so that the
    /// next run need not verify it.
    pub fn close(self: Arc<Self>) {
        self.closes.store(true, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        read_lock(&self.current)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        write_lock(&self.current)
    }

    /// Asks the database; if that fails, again one that was made anew.
    fn guarded<T>(&self, step: impl Fn(&Db) -> Result<T, DbError>) -> Result<T, RepoError> {
        self.retried(|db| Ok(attempt(|| step(db))?))
    }

    /// The same for steps that do more than that: only what the database does is [`attempt`]ed, since a
    /// panic of somebody else is no damage of the cache.
    fn retried<T>(&self, step: impl Fn(&Db) -> Result<T, Failure>) -> Result<T, RepoError> {
        loop {
            let current = self.read();
            let why = match step(&current.db) {
                Ok(value) => return Ok(value),
                Err(Failure::Repo(error)) => return Err(error),
                Err(Failure::Db(why)) => why,
            };
            let seen = current.rebuilt;
            drop(current);
            let mut current = self.write();
            // Of several threads that came upon the same damage, one makes it anew.
            if current.rebuilt == seen {
                if current.db.path().is_none() {
                    return Err(in_memory_failed(why));
                }
                self.say(&current, unusable(&why));
                self.refill(&mut current)?;
            }
        }
    }

    /// Reports why the cache is rebuilt, the first time only.
    fn say(&self, current: &Current, why: RebuildReason) {
        if current.rebuilt == 0 {
            self.observer.notice(Notice::IndexRebuilt(why));
        }
    }

    /// Makes the database anew from the segments: the first time in the same file, if that works, else in
    /// memory. Nobody sees it half filled.
    ///
    /// Packs that no segment names are asked again if there ever were any: chunks that were found in them were
    /// not stored, and if they were forgotten here, nobody would name them before the record is committed.
    fn refill(&self, current: &mut Current) -> Result<(), RepoError> {
        let old = std::mem::replace(&mut current.db, memory_db(&self.project)?);
        let path = old.path().map(Path::to_owned);
        old.discard();
        self.forget_locality();
        let again = current.rebuilt > 0;
        current.rebuilt += 1;
        let segments = self.list_segments()?;
        if let Some(path) = path {
            let _ = fs::remove_file(&path);
            if !again && let Ok(Opened::Ready(db)) = open_db(&self.project, &path) {
                match self.fill(&db, &segments) {
                    Ok(()) => {
                        current.db = *db;
                        return Ok(());
                    }
                    Err(Failure::Repo(error)) => return Err(error),
                    Err(Failure::Db(_)) => {
                        db.discard();
                        let _ = fs::remove_file(&path);
                    }
                }
            }
        }
        match self.fill(&current.db, &segments) {
            Ok(()) => Ok(()),
            Err(Failure::Repo(error)) => Err(error),
            Err(Failure::Db(why)) => Err(in_memory_failed(why)),
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let current = recover(self.current.get_mut());
        if !*self.closes.get_mut() || current.db.path().is_none() {
            return;
        }
        if let Ok(empty) = memory_db(&self.project) {
            let db = std::mem::replace(&mut current.db, empty);
            let _ = attempt(|| {
                db.close();
                Ok(())
            });
        }
    }
}

/// Why a step on the database stopped.
enum Failure {
    Db(DbError),
    Repo(RepoError),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

fn open_db(project: &Project, path: &Path) -> Result<Opened, DbError> {
    attempt(|| Db::open(path, &identity(project)))
}

fn unusable(error: &DbError) -> RebuildReason {
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

#[cfg(test)]
mod tests;
