//! Finds chunks that no pack in the store can deliver.

use std::collections::HashMap;
use std::sync::Mutex;

use super::state::Index;
use super::stored_packs::{PackName, StoredPacks};
use crate::base::{BlobId, lock};
use crate::repo::error::{Damage, RepoError, RepoErrorKind};
use crate::repo::location::BlobLocation;

/// Finds lost chunks without reading chunks. A chunk is lost if each of its packs is missing, too
/// short, or known to be damaged where the chunk is.
pub struct LostChunks<'a> {
    index: &'a Index,
    listed: StoredPacks,
    /// The sizes in bytes of packs that were queried one by one; 0 if the pack is missing. The
    /// listing lacks packs that a prune stored later.
    others: Mutex<HashMap<PackName, u64>>,
}

impl<'a> LostChunks<'a> {
    /// Lists the packs in the store. If that fails, the size of each pack is queried when it is
    /// needed.
    pub fn new(index: &'a Index) -> Result<Self, RepoError> {
        let listed = match index.stored_packs() {
            Err(error) if error.kind() == RepoErrorKind::Cancelled => return Err(error),
            listed => listed.unwrap_or_default(),
        };
        Ok(Self {
            index,
            listed,
            others: Mutex::default(),
        })
    }

    /// Fails if this chunk is lost.
    pub fn check(&self, id: &BlobId) -> Result<(), RepoError> {
        let found = self.index.find_readable(id)?;
        if found.is_some_and(|location| self.listed.hold(&location)) {
            return Ok(());
        }
        let mut places = self.index.find_anywhere(id)?;
        let holds = |at: &BlobLocation| self.listed.hold(at) && !self.index.is_damaged(at);
        if places.iter().any(holds) {
            return Ok(());
        }
        if places.is_empty() {
            self.index.resync()?;
            places = self.index.find_anywhere(id)?;
        }
        // A prune or a repair may have moved the chunk.
        let is_gone = |at: &&BlobLocation| self.ask(at).is_err_and(|error| error.is_missing());
        let gone: Vec<_> = places
            .iter()
            .filter(is_gone)
            .map(BlobLocation::pack)
            .collect();
        if !gone.is_empty() {
            if !self.index.was_resynced_without(&gone) {
                self.index.resync_after_loss(&gone)?;
            }
            places = self.index.find_anywhere(id)?;
        }
        let mut failure = None;
        for place in &places {
            match self.ask(place) {
                Ok(()) if self.index.is_damaged(place) => {
                    let object = place.object(self.index.project().id);
                    let why = Damage::Impossible("a part of it cannot be decrypted");
                    failure = failure.or(Some(RepoError::damaged(object, why)));
                }
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == RepoErrorKind::Damaged => {
                    failure = failure.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or(RepoError::Missing {
            kind: "chunk",
            id: *id,
        }))
    }

    /// Queries the store for the size of a blob's pack, unless this was done before. Fails if the
    /// pack is missing, or ends before the blob's run does.
    fn ask(&self, location: &BlobLocation) -> Result<(), RepoError> {
        let project = self.index.project();
        let object = location.object(project.id);
        let name = (location.kind(), location.pack());
        let known = lock(&self.others).get(&name).copied();
        let size = match known {
            Some(size) => size,
            None => match project.objects.backend().size(&object.name()) {
                Ok(size) => *lock(&self.others).entry(name).or_insert(size),
                Err(error) => match RepoError::reading(object, error) {
                    error if error.is_missing() => {
                        lock(&self.others).insert(name, 0);
                        return Err(error);
                    }
                    error => return Err(error),
                },
            },
        };
        let end = location.run_range().end;
        match size {
            0 => Err(RepoError::damaged(object, Damage::Missing)),
            size if size < end => Err(RepoError::damaged(
                object,
                Damage::Impossible("it is cut short"),
            )),
            _ => Ok(()),
        }
    }
}
