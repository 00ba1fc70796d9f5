//! Which blob lies where: a cache in redb of what the index segments say.
//!
//! The segments are the truth. Whatever is wrong with the cache (damaged, stale, of another repository, its
//! disk full) makes it be filled again, in memory if need be, and said once.

mod db;
mod filter;
mod locality;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use super::error::RepoError;
use super::layout::ObjectRef;
use super::objects::is_missing;
use super::open::Project;
use super::packs::read_listing;
use crate::base::{BlobId, Notice, ObjectHash, Observer};
use crate::format::{IndexSegment, Magic, PackListing};
use crate::storage::Listed;
use db::{Db, DbError, Opened};
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
    db: RwLock<Db>,
    locality: RwLock<Locality>,
    /// The packs that are in the store, with their sizes, once somebody wanted to know for sure.
    present: OnceLock<HashMap<ObjectHash, u64>>,
    /// Packs that no segment names have been looked for.
    searched: AtomicBool,
    /// A second failure of the database is answered by keeping the index in memory.
    failed_before: AtomicBool,
}

/// Blobs that are sorted and put in at once while the cache is filled: about 50 MB.
const BATCH_BLOBS: usize = 512 << 10;
/// Caches that processes of one project can have side by side on one host.
const SLOTS_MAX: usize = 64;

/// A project's cache on this host, as a directory.
pub struct Cache(PathBuf);

impl Cache {
    /// The one below `caches` that belongs to this project.
    #[must_use]
    pub fn new(project: &Project, caches: &Path) -> Self {
        Self(
            caches
                .join(project.repository.to_string())
                .join(project.id.to_string()),
        )
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes that it takes; 0 if there is none.
    pub fn size(&self) -> std::io::Result<u64> {
        match fs::read_dir(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            listed => listed?.map(|entry| Ok(entry?.metadata()?.len())).sum(),
        }
    }

    /// Deletes it. A process that uses it goes on with what it has open.
    pub fn clear(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn identity(project: &Project) -> Vec<u8> {
    [&project.repository.as_bytes()[..], project.id.as_bytes()].concat()
}

fn memory_db(project: &Project) -> Result<Db, RepoError> {
    Db::in_memory(&identity(project)).map_err(|source| RepoError::Cache {
        path: "memory".into(),
        source,
    })
}

impl<'a> Index<'a> {
    /// Opens the project's cache, makes or mends it as needed, and brings it up to date.
    pub fn open(
        project: &'a Project,
        cache: &Path,
        observer: &'a dyn Observer,
    ) -> Result<Self, RepoError> {
        let db = Self::open_file(project, cache, observer)?;
        Self::with(project, db, observer)
    }

    /// An index that is kept in memory only.
    pub fn in_memory(project: &'a Project, observer: &'a dyn Observer) -> Result<Self, RepoError> {
        Self::with(project, memory_db(project)?, observer)
    }

    fn with(project: &'a Project, db: Db, observer: &'a dyn Observer) -> Result<Self, RepoError> {
        let index = Self {
            project,
            observer,
            db: RwLock::new(db),
            locality: RwLock::default(),
            present: OnceLock::new(),
            searched: AtomicBool::new(false),
            failed_before: AtomicBool::new(false),
        };
        index.sync()?;
        Ok(index)
    }

    /// The first cache file that no other process has.
    fn open_file(
        project: &Project,
        cache: &Path,
        observer: &dyn Observer,
    ) -> Result<Db, RepoError> {
        let Cache(directory) = Cache::new(project, cache);
        let fail = |path: &Path, source: DbError| RepoError::Cache {
            path: path.display().to_string(),
            source,
        };
        make_private(&directory).map_err(|e| fail(&directory, e.into()))?;
        for number in 0..SLOTS_MAX {
            let path = directory.join(format!("index-{number}.redb"));
            match Db::open(&path, &identity(project)) {
                Ok(Opened::Ready(db)) => return Ok(*db),
                Ok(Opened::Busy) => {}
                Err(error) => {
                    observer.notice(Notice::CacheRebuilt(error.to_string()));
                    let _ = fs::remove_file(&path);
                    match Db::open(&path, &identity(project)) {
                        Ok(Opened::Ready(db)) => return Ok(*db),
                        Ok(Opened::Busy) => {}
                        Err(_) => return memory_db(project),
                    }
                }
            }
        }
        memory_db(project)
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
        if loaded.iter().any(|segment| !listed.contains(segment)) {
            // Segments went away, and with them maybe packs that the cache still believes in.
            self.reset(true)?;
            return self.load(&listed.into_iter().collect::<Vec<_>>());
        }
        let missing: Vec<_> = listed.difference(&loaded).copied().collect();
        self.load(&missing)
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
    fn load(&self, segments: &[ObjectHash]) -> Result<(), RepoError> {
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
                Err(e) => return Err(e),
            }
            names.push(*hash);
            if blobs >= BATCH_BLOBS {
                self.put(&names, &packs)?;
                (names, packs, blobs) = (Vec::new(), Vec::new(), 0);
            }
        }
        if !names.is_empty() {
            self.put(&names, &packs)?;
        }
        if damaged {
            self.adopt_unlisted()
        } else {
            Ok(())
        }
    }

    fn put(&self, segments: &[ObjectHash], packs: &[PackListing]) -> Result<(), RepoError> {
        self.guarded(|db| db.insert(segments, packs))
    }

    /// Takes in packs of the store that no segment names, from their own contents.
    fn adopt_unlisted(&self) -> Result<(), RepoError> {
        for (pack, listed) in self.list_packs()? {
            if self.guarded(|db| db.has_pack(&pack))? {
                continue;
            }
            match read_listing(self.project, pack, Some(listed.size)) {
                Ok(listing) => self.put(&[], &[listing])?,
                Err(e @ RepoError::Damaged { .. }) => {
                    self.observer.notice(Notice::Text(e.to_string()));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn list_packs(&self) -> Result<Vec<(ObjectHash, Listed)>, RepoError> {
        let directory =
            ObjectRef::Pack(self.project.id, ObjectHash::from_bytes([0; 32])).directory();
        let listed = self.project.objects.list(&directory)?;
        let packs = listed
            .into_iter()
            .filter_map(|(object, _, listed)| match object {
                ObjectRef::Pack(_, hash) => Some((hash, listed)),
                _ => None,
            });
        Ok(packs.collect())
    }

    /// Takes in a segment that was just stored.
    pub fn insert(&self, segment: ObjectHash, packs: &[PackListing]) -> Result<(), RepoError> {
        self.put(&[segment], packs)
    }

    /// Whether the index knows this pack.
    pub fn has_pack(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.guarded(|db| db.has_pack(pack))
    }

    /// From now on blobs are only found in packs that are there, in their size: a segment may name
    /// packs that were lost. Lists the packs once.
    pub fn believe_only_what_is_there(&self) -> Result<(), RepoError> {
        let packs = self
            .list_packs()?
            .into_iter()
            .map(|(pack, listed)| (pack, listed.size));
        let _ = self.present.set(packs.collect());
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
        let Some(present) = self.present.get() else {
            return true;
        };
        let size = present.get(&location.pack());
        size.is_some_and(|size| location.run_range().end <= *size)
    }

    /// As [`find`](Self::find), but if no segment names the blob, the packs that none of them names are
    /// asked themselves: the index can be made up from the packs.
    pub fn search(&self, id: &BlobId) -> Result<Option<Location>, RepoError> {
        let found = self.find(id)?;
        if found.is_some() || self.searched.swap(true, Ordering::Relaxed) {
            return Ok(found);
        }
        self.adopt_unlisted()?;
        self.find(id)
    }

    /// All places where the blob lies: for when the first turns out to be damaged.
    pub fn find_all(&self, id: &BlobId) -> Result<Vec<Location>, RepoError> {
        let mut places = self.guarded(|db| db.places(id, false))?;
        places.retain(|location| self.is_there(location));
        Ok(places)
    }

    /// Calls `each` with every pack that the segments name.
    pub fn each_pack(
        &self,
        mut each: impl FnMut(PackListing) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        db.each_pack(|listing| each(listing).map_err(Stop::Caller))
            .map_err(|stop| match stop {
                Stop::Caller(error) => error,
                Stop::Db(source) => {
                    let path = db
                        .path()
                        .unwrap_or(Path::new("memory"))
                        .display()
                        .to_string();
                    RepoError::Cache { path, source }
                }
            })
    }

    /// What the cache holds.
    pub fn state(&self) -> Result<CacheState, RepoError> {
        let (packs, blobs) = self.guarded(Db::counts)?;
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        Ok(CacheState {
            path: db.path().map(Path::to_owned),
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
        self.db
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .close();
    }

    /// Runs a step on the database; if it fails, again on one that was made anew: first in the same
    /// file, then in memory.
    fn guarded<T>(&self, step: impl Fn(&Db) -> Result<T, DbError>) -> Result<T, RepoError> {
        loop {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let source = match step(&db) {
                Ok(value) => return Ok(value),
                Err(source) => source,
            };
            if db.path().is_none() {
                return Err(RepoError::Cache {
                    path: "memory".into(),
                    source,
                });
            }
            drop(db);
            self.observer
                .notice(Notice::CacheRebuilt(source.to_string()));
            let in_file = !self.failed_before.swap(true, Ordering::Relaxed);
            self.reset(in_file)?;
            self.load(&self.list_segments()?.into_iter().collect::<Vec<_>>())?;
        }
    }

    /// Empties the index; it stays in its file, if that can be made anew.
    fn reset(&self, in_file: bool) -> Result<(), RepoError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *db, memory_db(self.project)?);
        if let Some(path) = old.path().map(Path::to_owned) {
            drop(old);
            let _ = fs::remove_file(&path);
            if let (true, Ok(Opened::Ready(new))) =
                (in_file, Db::open(&path, &identity(self.project)))
            {
                *db = *new;
            }
        }
        *self
            .locality
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Locality::default();
        Ok(())
    }
}

/// Why a walk over the packs stopped.
enum Stop {
    Db(DbError),
    Caller(RepoError),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Db(error)
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
