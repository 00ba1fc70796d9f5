//! Look-ups in an index. All look-ups of blobs except [`Index::find_anywhere`] ignore places from
//! which a blob must not be read: see [`UsablePacks`](super::usable_packs::UsablePacks).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::db::Db;
use super::state::Index;
use crate::base::{BlobId, ObjectHash, read_lock, write_lock};
use crate::format::PackListing;
use crate::repo::error::RepoError;
use crate::repo::location::BlobLocation;

/// How much the cached index of a project contains.
#[derive(Debug, Clone)]
pub struct CacheState {
    /// The file of the index, or `None` if the index is in memory.
    pub path: Option<PathBuf>,
    /// The number of packs that the index knows.
    pub packs: u64,
    /// The number of blobs that the index knows. A blob counts once for each of its places.
    pub blobs: u64,
}

impl Index {
    /// Returns a usable place of a blob, but only a place that counts for deduplication. `None` if
    /// there is no such place. Packs of other write keys count only if a full key has verified
    /// them, or if the project trusts all write keys.
    pub fn find_trusted(&self, id: &BlobId) -> Result<Option<BlobLocation>, RepoError> {
        self.find(id, BlobLocation::is_trusted)
    }

    /// Returns a usable place of a blob, or `None` if there is none. Prefers a place that counts
    /// for deduplication.
    pub fn find_readable(&self, id: &BlobId) -> Result<Option<BlobLocation>, RepoError> {
        let all: fn(&BlobLocation) -> bool = |_| true;
        for wanted in [BlobLocation::is_trusted, BlobLocation::counts, all] {
            if let Some(location) = self.find(id, wanted)? {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    fn find(
        &self,
        id: &BlobId,
        wanted: fn(&BlobLocation) -> bool,
    ) -> Result<Option<BlobLocation>, RepoError> {
        let wanted = |location: &BlobLocation| wanted(location) && self.is_usable(location);
        let recent = read_lock(&self.recent_runs).find(id);
        if let Some(location) = recent.filter(|location| wanted(location)) {
            return Ok(Some(location));
        }
        let trust = self.trust();
        let found = self.query(|db| {
            let mut found = None;
            db.each_place(id, &trust, |location| {
                let is_wanted = wanted(&location);
                if is_wanted {
                    found = Some(location);
                }
                is_wanted
            })?;
            Ok(found)
        })?;
        if let Some(location) = &found {
            write_lock(&self.recent_runs).put(location.placed());
        }
        Ok(found)
    }

    /// Returns all usable places of a blob that count for deduplication.
    pub fn find_all_trusted(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let mut places = self.find_all_readable(id)?;
        places.retain(BlobLocation::is_trusted);
        Ok(places)
    }

    /// Returns all usable places of a blob. A caller needs several if the first one is damaged.
    /// Places that count for deduplication come first. Places in packs that only superseded
    /// segments name come last.
    pub fn find_all_readable(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let mut places = self.find_anywhere(id)?;
        places.retain(|location| self.is_usable(location));
        Ok(places)
    }

    /// Returns all places of a blob, usable or not: their packs may be [excluded](Self::exclude),
    /// damaged or missing. Of the places that do not count for deduplication, returns at most 64
    /// for each signer that names their packs. The places are in the order of
    /// [`find_all_readable`](Self::find_all_readable).
    pub fn find_anywhere(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let trust = self.trust();
        let mut places = self.query(|db| {
            let mut places = Vec::new();
            db.each_place(id, &trust, |location| {
                places.push(location);
                false
            })?;
            Ok(places)
        })?;
        places.sort_by_key(|place| (!place.is_trusted(), !place.counts()));
        Ok(places)
    }

    /// Returns whether the index knows this pack.
    pub fn has_pack(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        self.query(|db| db.has_pack(pack))
    }

    /// Returns whether a segment that is not superseded names this pack.
    pub fn is_named(&self, pack: &ObjectHash) -> Result<bool, RepoError> {
        let named = self.query(|db| db.named(pack))?;
        Ok(named.is_some_and(|named| named.counts() && !named.signers.is_empty()))
    }

    /// Returns whether this client trusts that the pack holds the blobs of this listing. The
    /// segment that names the pack may be superseded.
    pub fn may_rely_on(&self, listing: &PackListing) -> Result<bool, RepoError> {
        let trust = self.trust();
        let named = self.query(|db| db.named(&listing.pack))?;
        Ok(named.is_some_and(|named| trust.pack(&listing.pack, &listing.signer, &named)))
    }

    /// Returns the packs that only superseded segments name. Some of them may no longer exist.
    pub fn retired(&self) -> Result<Vec<ObjectHash>, RepoError> {
        self.query(Db::retired)
    }

    /// Returns the packs that no segment names.
    pub fn unnamed(&self) -> Result<Vec<ObjectHash>, RepoError> {
        self.query(Db::unnamed)
    }

    /// Returns the listing of a pack. `None` if the index does not know the pack.
    pub fn listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, RepoError> {
        self.query(|db| db.listing(pack))
    }

    /// Calls `each` with the listing of every pack that the index knows.
    pub fn each_pack(
        &self,
        mut each: impl FnMut(PackListing) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        // Remember the packs that were seen: if the database is rebuilt meanwhile, its packs get
        // other numbers.
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

    /// Returns how many packs and blobs the index knows, and the path of its file.
    pub fn state(&self) -> Result<CacheState, RepoError> {
        let (packs, blobs) = self.query(Db::counts)?;
        Ok(CacheState {
            path: self.current().db.path().map(Path::to_owned),
            packs,
            blobs,
        })
    }
}
