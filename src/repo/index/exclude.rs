//! Decides in which packs an index finds blobs.

use std::collections::HashSet;

use super::db::Db;
use super::state::Index;
use super::stored_packs::StoredPacks;
use crate::base::{ObjectHash, read_lock, write_lock};
use crate::repo::error::RepoError;
use crate::repo::location::BlobLocation;
use crate::repo::removals::Removals;

impl Index {
    /// Lists the packs in the store. From now on, look-ups find blobs only in packs that exist and
    /// are long enough, since a segment may name packs that were lost.
    pub fn require_present(&self) -> Result<(), RepoError> {
        let packs = self.stored_packs()?;
        write_lock(&self.usable).set_present(packs);
        Ok(())
    }

    /// Lists the packs in the store. Returns the lost packs: those in the index that are missing or
    /// too short. Leaves out packs that are [excluded](Self::exclude) or that the log removes. If
    /// there are lost packs, look-ups find blobs from now on only in packs that exist, as after
    /// [`require_present`](Self::require_present).
    pub fn lost_packs(&self) -> Result<Vec<ObjectHash>, RepoError> {
        if self.lost_among(&self.stored_packs()?)?.is_empty() {
            return Ok(Vec::new());
        }
        // A prune may have deleted these packs since the index was read. Then no segment names them
        // now, and they are not lost.
        self.sync()?;
        let stored = self.stored_packs()?;
        let lost = self.lost_among(&stored)?;
        if !lost.is_empty() {
            write_lock(&self.usable).set_present(stored);
        }
        Ok(lost)
    }

    /// Returns all packs that count, whether they exist or not. A pack does not count if only
    /// superseded segments name it.
    pub fn counted_packs(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let named = self.expected_sizes()?.into_iter();
        Ok(named.map(|(pack, _)| pack).collect())
    }

    /// Returns all packs that count, with the sizes in bytes that they should have.
    pub fn expected_sizes(&self) -> Result<Vec<(ObjectHash, u64)>, RepoError> {
        self.query(Db::sizes)
    }

    /// Returns the packs that count, but are not in `stored` or are too short there. Leaves out
    /// packs that are [excluded](Self::exclude) or that the log removes.
    pub(super) fn lost_among(&self, stored: &StoredPacks) -> Result<Vec<ObjectHash>, RepoError> {
        let named = self.expected_sizes()?.into_iter();
        let lost = named.filter(|(pack, size)| !stored.has(pack, *size) && !self.is_excluded(pack));
        Ok(lost.map(|(pack, _)| pack).collect())
    }

    /// Lists the packs in the store, with their sizes.
    pub(super) fn stored_packs(&self) -> Result<StoredPacks, RepoError> {
        let packs = self.list_packs()?.into_iter();
        Ok(packs
            .map(|pack| ((pack.kind, pack.hash), pack.info.size))
            .collect())
    }

    /// From now on, look-ups find no blob in these packs, which are going to be deleted, or may be
    /// deleted already. Only [`find_anywhere`](Self::find_anywhere) still finds them.
    pub fn exclude(&self, packs: impl IntoIterator<Item = ObjectHash>) {
        write_lock(&self.usable).exclude(packs);
    }

    /// From now on, look-ups find no blob in the packs that the log removes.
    pub(crate) fn exclude_removed(&self, removals: Removals) {
        write_lock(&self.usable).set_removed(removals);
    }

    /// Undoes [`exclude`](Self::exclude) for these packs.
    pub fn include_again(&self, packs: &[ObjectHash]) {
        write_lock(&self.usable).include(packs);
    }

    /// Like [`exclude`](Self::exclude), for packs that this process may already rely on. If there
    /// are any, the next call of [`take_excluded_used`](Self::take_excluded_used) returns true.
    pub(crate) fn exclude_used(&self, packs: HashSet<ObjectHash>) {
        if !packs.is_empty() {
            self.exclude(packs);
            self.set_excluded_used();
        }
    }

    /// Whether this pack is [excluded](Self::exclude), or the log removes it.
    pub(crate) fn is_excluded(&self, pack: &ObjectHash) -> bool {
        read_lock(&self.usable).excludes(pack)
    }

    /// Whether a blob may be read from this location.
    pub(super) fn is_usable(&self, location: &BlobLocation) -> bool {
        read_lock(&self.usable).has(location)
    }
}
