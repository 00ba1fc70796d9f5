//! Which blob lies where: a cache in redb of what the index segments say.
//!
//! The segments are the truth. Whatever is wrong with the cache (damaged, stale, of another repository, its
//! disk full) makes it be filled again, in memory if need be, and said once. Where segments themselves are
//! damaged or missing, packs are asked what they hold; the next backup names them in a segment again.

mod cache;
mod db;
mod filter;
mod locality;

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::RepoError;
use super::layout::ObjectRef;
use super::objects::is_missing;
use super::open::Project;
use super::packs::read_listing;
use crate::base::{BlobId, Notice, ObjectHash, Observer};
use crate::format::{IndexSegment, Magic, PackListing};
pub use cache::Cache;
use db::{Db, DbError, Opened, attempt};
use locality::Locality;
pub use locality::{Location, PlacedRun};

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
pub struct Index<'a> {
    project: &'a Project,
    observer: &'a dyn Observer,
    current: RwLock<Current>,
    locality: RwLock<Locality>,
    /// The packs that are in the store, with their sizes, once somebody wanted to know for sure.
    present: RwLock<Option<HashMap<ObjectHash, u64>>>,
    /// Whether packs that no segment names were ever known to this run: it may rely on them by now.
    relies_on_unnamed: AtomicBool,
    /// What [`look_again`](Index::look_again) came to.
    looked_again: Mutex<Option<bool>>,
}

/// The database in use.
struct Current {
    db: Db,
    /// How often it was made anew. After the first time it is kept in memory.
    rebuilt: u32,
}

/// Blobs that are sorted and put in at once while the cache is filled: about 50 MB.
const BATCH_BLOBS: usize = 512 << 10;
/// Caches that processes of one project can have side by side on one host.
const SLOTS_MAX: usize = 64;

fn identity(project: &Project) -> Vec<u8> {
    [&project.repository.as_bytes()[..], project.id.as_bytes()].concat()
}

fn memory_db(project: &Project) -> Result<Db, RepoError> {
    Db::in_memory(&identity(project)).map_err(in_memory_failed)
}

impl<'a> Index<'a> {
    /// Opens the project's cache, makes or mends it as needed, and brings it up to date.
    pub fn open(
        project: &'a Project,
        cache: &Path,
        observer: &'a dyn Observer,
    ) -> Result<Self, RepoError> {
        Self::with(
            project,
            Self::open_file(project, cache, observer)?,
            observer,
        )
    }

    /// An index that is kept in memory only.
    pub fn in_memory(project: &'a Project, observer: &'a dyn Observer) -> Result<Self, RepoError> {
        let db = memory_db(project)?;
        Self::with(project, Current { db, rebuilt: 0 }, observer)
    }

    fn with(
        project: &'a Project,
        current: Current,
        observer: &'a dyn Observer,
    ) -> Result<Self, RepoError> {
        let index = Self {
            project,
            observer,
            current: RwLock::new(current),
            locality: RwLock::default(),
            present: RwLock::new(None),
            relies_on_unnamed: AtomicBool::new(false),
            looked_again: Mutex::default(),
        };
        index.sync()?;
        Ok(index)
    }

    /// The first cache file that no other process has.
    fn open_file(
        project: &Project,
        cache: &Path,
        observer: &dyn Observer,
    ) -> Result<Current, RepoError> {
        let directory = Cache::new(project, cache).path().to_owned();
        let mut rebuilt = 0;
        let mut said = |why: String| {
            observer.notice(Notice::CacheRebuilt(why));
            rebuilt = 1;
        };
        let mut found = None;
        if let Err(error) = make_private(&directory) {
            said(format!("{}: {error}", directory.display()));
        } else {
            for number in 0..SLOTS_MAX {
                let path = directory.join(format!("index-{number}.redb"));
                let opened = open_db(project, &path).or_else(|error| {
                    said(error.to_string());
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
    pub fn project(&self) -> &'a Project {
        self.project
    }

    /// Takes in the segments that the cache does not have yet.
    pub fn sync(&self) -> Result<(), RepoError> {
        let listed = self.list_segments()?;
        let loaded: HashSet<_> = self.guarded(Db::segments)?.into_iter().collect();
        if loaded.iter().any(|segment| !listed.contains(segment)) || self.lost_unnamed()? {
            // With them maybe packs went away that the cache still believes in.
            let why = "segments or packs that it was made from are gone";
            let mut current = self.write();
            self.say(&current, &why);
            return self.refill(&mut current);
        }
        let missing: Vec<_> = listed.difference(&loaded).copied().collect();
        self.retried(|db| self.load(db, &missing))
    }

    /// Whether a pack that no segment names is gone: nothing else would tell.
    fn lost_unnamed(&self) -> Result<bool, RepoError> {
        let unnamed = self.unnamed()?;
        if unnamed.is_empty() {
            return Ok(false);
        }
        self.relies_on_unnamed.store(true, Ordering::Relaxed);
        let there: HashSet<_> = self
            .list_packs()?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        Ok(unnamed.iter().any(|pack| !there.contains(pack)))
    }

    /// The packs in the store, with their sizes.
    pub fn list_packs(&self) -> Result<Vec<(ObjectHash, u64)>, RepoError> {
        let directory =
            ObjectRef::Pack(self.project.id, ObjectHash::from_bytes([0; 32])).directory();
        let listed = self.project.objects.list(&directory)?;
        let packs = listed
            .into_iter()
            .filter_map(|(object, _, listed)| match object {
                ObjectRef::Pack(_, hash) => Some((hash, listed.size)),
                _ => None,
            });
        Ok(packs.collect())
    }

    fn list_segments(&self) -> Result<HashSet<ObjectHash>, RepoError> {
        let directory =
            ObjectRef::Index(self.project.id, ObjectHash::from_bytes([0; 32])).directory();
        let listed = self.project.objects.list(&directory)?;
        let hashes = listed.into_iter().filter_map(|(object, ..)| match object {
            ObjectRef::Index(_, hash) => Some(hash),
            _ => None,
        });
        Ok(hashes.collect())
    }

    /// Reads these segments into the database.
    fn load(&self, db: &Db, segments: &[ObjectHash]) -> Result<(), Failure> {
        let mut damaged = false;
        let (mut names, mut packs, mut blobs) = (Vec::new(), Vec::new(), 0);
        for hash in segments {
            match read_segment(self.project, *hash) {
                Ok(segment) => {
                    blobs += segment
                        .packs
                        .iter()
                        .map(|p| p.contents.blobs().count())
                        .sum::<usize>();
                    packs.extend(segment.packs);
                }
                // It was removed since it was listed: another process merged it.
                Err(e) if is_missing(&e) => continue,
                Err(e @ RepoError::Damaged { .. }) => {
                    let text = format!("{e}; its packs are asked themselves what they hold");
                    self.observer.notice(Notice::Text(text));
                    damaged = true;
                }
                Err(e) => return Err(e.into()),
            }
            names.push(*hash);
            if blobs >= BATCH_BLOBS {
                attempt(|| db.insert(&names, &packs))?;
                (names, packs, blobs) = (Vec::new(), Vec::new(), 0);
            }
        }
        if !names.is_empty() {
            attempt(|| db.insert(&names, &packs))?;
        }
        if damaged {
            self.ask_packs(db)?;
        }
        Ok(())
    }

    /// Reads all that this run may rely on into a database that is empty.
    fn fill(&self, db: &Db, segments: &[ObjectHash]) -> Result<(), Failure> {
        self.load(db, segments)?;
        if self.relies_on_unnamed.load(Ordering::Relaxed) {
            self.ask_packs(db)?;
        }
        Ok(())
    }

    /// Takes in packs of the store that no segment names, from their own contents. How many.
    fn ask_packs(&self, db: &Db) -> Result<u64, Failure> {
        let mut taken = 0;
        for (pack, size) in self.list_packs()? {
            if attempt(|| db.has_pack(&pack))? {
                continue;
            }
            match read_listing(self.project, pack, Some(size)) {
                Ok(listing) => {
                    self.relies_on_unnamed.store(true, Ordering::Relaxed);
                    attempt(|| db.insert_unnamed(&[listing]))?;
                    taken += 1;
                }
                // Without its hash having been checked, a newer version may be a flipped bit.
                Err(e @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    self.observer.notice(Notice::Text(e.to_string()));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(taken)
    }

    /// To be called when a blob is in no pack, or in none that is whole: verifies the cache, which may have
    /// been damaged since it was trusted, and asks the packs that no segment names, since a segment may
    /// be missing. It does so once. Whether the index now knows what it did not.
    pub fn look_again(&self) -> Result<bool, RepoError> {
        let mut looked = self
            .looked_again
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = *looked {
            return Ok(more);
        }
        let mended = self.verify()?;
        let asked = self.retried(|db| self.ask_packs(db))?;
        if asked > 0 {
            let text = format!("{asked} packs are in no index segment: they were asked themselves");
            self.observer.notice(Notice::Text(text));
        }
        let more = mended || asked > 0;
        *looked = Some(more);
        Ok(more)
    }

    /// Opens the cache anew, which verifies all of it. Whether it was damaged and is mended.
    fn verify(&self) -> Result<bool, RepoError> {
        let mut current = self.write();
        let Some(path) = current.db.path().map(Path::to_owned) else {
            return Ok(false);
        };
        std::mem::replace(&mut current.db, memory_db(self.project)?).discard();
        match open_db(self.project, &path) {
            Ok(Opened::Ready(db)) => {
                current.db = *db;
                Ok(false)
            }
            // Another process was quicker; this one has what it needs in memory.
            Ok(Opened::Busy) => self.refill(&mut current).map(|()| false),
            Err(why) => {
                self.say(&current, &why);
                let _ = fs::remove_file(&path);
                if let Ok(Opened::Ready(db)) = open_db(self.project, &path) {
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
    pub fn insert(&self, segment: ObjectHash, packs: &[PackListing]) -> Result<(), RepoError> {
        if let Some(present) = &mut *self.present.write().unwrap_or_else(PoisonError::into_inner) {
            present.extend(packs.iter().map(|p| (p.pack, p.contents.pack_size())));
        }
        self.guarded(|db| db.insert(&[segment], packs))
    }

    /// Whether the index knows this pack.
    pub fn has_pack(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.guarded(|db| db.has_pack(pack))
    }

    /// What a pack holds, if the index knows it.
    pub fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, RepoError> {
        self.guarded(|db| db.listing(pack))
    }

    /// From now on blobs are only found in packs that are there, in their size: a segment may name
    /// packs that were lost. Lists the packs once.
    pub fn believe_only_what_is_there(&self) -> Result<(), RepoError> {
        let packs = self.list_packs()?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) =
            Some(packs.into_iter().collect());
        Ok(())
    }

    /// Where the blob lies, if it is in the project.
    pub fn find(&self, id: &BlobId) -> Result<Option<Location>, RepoError> {
        let locality = self.locality.read().unwrap_or_else(PoisonError::into_inner);
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
        let mut locality = self
            .locality
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        locality.put(location.placed());
        Ok(Some(location))
    }

    fn is_there(&self, location: &Location) -> bool {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let Some(present) = &*present else {
            return true;
        };
        let size = present.get(&location.pack());
        size.is_some_and(|size| location.run_range().end <= *size)
    }

    /// All places where the blob lies: for when the first turns out to be damaged.
    pub fn find_all(&self, id: &BlobId) -> Result<Vec<Location>, RepoError> {
        let mut places = self.guarded(|db| db.places(id, false))?;
        places.retain(|location| self.is_there(location));
        Ok(places)
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
            let listing = self.guarded(|db| db.pack(number))?;
            let now = self.read().rebuilt;
            if now != rebuilt {
                (rebuilt, number) = (now, 0);
                continue;
            }
            let Some(listing) = listing else {
                return Ok(());
            };
            number += 1;
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
            match read_segment(self.project, hash) {
                Err(e) if is_missing(&e) => {}
                Err(e @ RepoError::Damaged { .. }) => errors.push(e),
                other => drop(other?),
            }
        }
        Ok(errors)
    }

    /// Notes that the cache is whole, so that the next run need not look.
    pub fn close(self) {
        let current = self
            .current
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = attempt(|| {
            current.db.close();
            Ok(())
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
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
                self.say(&current, &why);
                self.refill(&mut current)?;
            }
        }
    }

    /// Says why the cache is made anew; once is enough.
    fn say(&self, current: &Current, why: &dyn Display) {
        if current.rebuilt == 0 {
            self.observer.notice(Notice::CacheRebuilt(why.to_string()));
        }
    }

    /// Makes the database anew from the segments: the first time in the same file, if that works, else in
    /// memory. Nobody sees it half filled.
    ///
    /// Packs that no segment names are asked again if there ever were any: chunks that were found in them were
    /// not stored, and if they were forgotten here, nobody would name them before the record is committed.
    fn refill(&self, current: &mut Current) -> Result<(), RepoError> {
        let old = std::mem::replace(&mut current.db, memory_db(self.project)?);
        let path = old.path().map(Path::to_owned);
        old.discard();
        *self
            .locality
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Locality::default();
        let again = current.rebuilt > 0;
        current.rebuilt += 1;
        let segments: Vec<_> = self.list_segments()?.into_iter().collect();
        if let Some(path) = path {
            let _ = fs::remove_file(&path);
            if !again && let Ok(Opened::Ready(db)) = open_db(self.project, &path) {
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

fn in_memory_failed(source: DbError) -> RepoError {
    RepoError::Cache {
        path: "memory".into(),
        source,
    }
}

fn read_segment(project: &Project, hash: ObjectHash) -> Result<IndexSegment, RepoError> {
    let object = ObjectRef::Index(project.id, hash);
    let key = (project.id, project.keys.object());
    let limit = IndexSegment::BODY_MAX;
    let body = project
        .objects
        .get_sealed(object, hash, Magic::Index, key, limit)?;
    IndexSegment::decode(&body).map_err(|e| RepoError::format(object, e))
}

/// Makes a directory that only its owner can enter.
fn make_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(test)]
mod tests;
