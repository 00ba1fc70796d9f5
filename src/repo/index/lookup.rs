//! Look-ups in an index.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::db::Db;
use super::location::BlobLocation;
use super::state::Index;
use crate::base::{BlobId, ObjectHash, read_lock, write_lock};
use crate::format::PackListing;
use crate::repo::error::RepoError;

/// The contents of the cache of a project, in numbers, for `cache` and `stats`.
#[derive(Debug, Clone)]
pub struct CacheState {
    /// The file, or `None` if it is in memory.
    pub path: Option<PathBuf>,
    /// The packs that it knows.
    pub packs: u64,
    /// The blobs that it knows. A blob counts once for each of its places.
    pub blobs: u64,
}

impl Index {
    /// Returns the first place of a blob in a pack that is not excluded, or `None` if there is
    /// none.
    pub fn find(&self, id: &BlobId) -> Result<Option<BlobLocation>, RepoError> {
        let recent = read_lock(&self.recent_runs).find(id);
        if let Some(location) = recent.filter(|location| self.is_usable(location)) {
            return Ok(Some(location));
        }
        let found = self.query(|db| {
            let mut found = None;
            db.each_place(id, |location| {
                let is_usable = self.is_usable(&location);
                if is_usable {
                    found = Some(location);
                }
                is_usable
            })?;
            Ok(found)
        })?;
        if let Some(location) = &found {
            write_lock(&self.recent_runs).put(location.placed());
        }
        Ok(found)
    }

    /// Returns all places of a blob in packs that are not excluded, for when the first is damaged.
    pub fn find_all(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let mut places = self.find_anywhere(id)?;
        places.retain(|location| self.is_usable(location));
        Ok(places)
    }

    /// Returns all places of a blob, in packs that are [excluded](Self::exclude) or may not exist,
    /// too.
    pub fn find_anywhere(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        self.query(|db| {
            let mut places = Vec::new();
            db.each_place(id, |location| {
                places.push(location);
                false
            })?;
            Ok(places)
        })
    }

    /// Whether the index knows this pack.
    pub fn has_pack(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.query(|db| db.has_pack(pack))
    }

    /// Whether a segment names this pack.
    pub fn is_named(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.query(|db| Ok(db.has_pack(pack)? && !db.unnamed()?.contains(pack)))
    }

    /// The packs that no segment names.
    pub fn unnamed(&self) -> Result<Vec<ObjectHash>, RepoError> {
        self.query(Db::unnamed)
    }

    /// The listing of a pack, if the index knows the pack.
    pub fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, RepoError> {
        self.query(|db| db.listing(pack))
    }

    /// Calls `each` with the listing of every pack that the index knows.
    pub fn each_pack(
        &self,
        mut each: impl FnMut(PackListing) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        // If the database is rebuilt meanwhile, its packs get other numbers.
        let mut seen = HashSet::new();
        let (mut rebuilds, mut number) = (self.rebuilds(), 0);
        loop {
            let found = self.query(|db| db.pack_from(number))?;
            let now = self.rebuilds();
            if now != rebuilds {
                (rebuilds, number) = (now, 0);
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

    /// Returns the contents of the cache in numbers.
    pub fn state(&self) -> Result<CacheState, RepoError> {
        let (packs, blobs) = self.query(Db::counts)?;
        Ok(CacheState {
            path: self.current().db.path().map(Path::to_owned),
            packs,
            blobs,
        })
    }
}
