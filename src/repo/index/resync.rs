//! A second attempt to find a blob that the index does not know.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::db::Db;
use super::state::Index;
use crate::base::{Notice, ObjectHash, lock};
use crate::repo::error::RepoError;
use crate::repo::marks::Marks;

/// Minimum time between two resyncs.
const RESYNC_EVERY: Duration = Duration::from_secs(10);

impl Index {
    /// Looks for blobs that the index does not know, or knows in damaged packs only. Returns
    /// whether the index may know more now.
    ///
    /// Reads segments that others have stored meanwhile, since a prune may have repacked the blob.
    /// Verifies the cache the first time, since it may have been damaged. Reads the listings of the
    /// packs that no segment names, since a segment may be lost; packs that are going to be deleted
    /// are among them, since a backup may have begun to use one. Within 10 seconds of a call,
    /// returns the result of that call.
    pub fn resync(&self) -> Result<bool, RepoError> {
        let mut last = lock(&self.last_resync);
        let is_first = last.is_none();
        if let Some((when, found)) = *last
            && when.elapsed() < RESYNC_EVERY
        {
            return Ok(found);
        }
        let rebuilds = self.rebuilds();
        let known = self.query(Db::segments)?.len();
        self.sync()?;
        let new = self.rebuilds() != rebuilds || self.query(Db::segments)?.len() != known;
        let repaired = is_first && self.verify()?;
        let added = self.scan_except(&HashSet::new())?;
        let found = new || repaired || added;
        *last = Some((Instant::now(), found));
        Ok(found)
    }

    /// Verifies the cache, and reads the listings of the packs that no segment names, except those
    /// that are going to be deleted: their names were removed on purpose.
    pub fn scan_unindexed(&self) -> Result<(), RepoError> {
        self.verify()?;
        let marked = Marks::load(&self.project)?.packs();
        self.scan_except(&marked).map(drop)
    }

    /// Adds the packs that no segment names, except those in `skip`. Returns whether there were
    /// any.
    fn scan_except(&self, skip: &HashSet<ObjectHash>) -> Result<bool, RepoError> {
        let added = self.run_step(|db| self.add_unnamed(db, skip))?;
        if added.is_empty() {
            return Ok(false);
        }
        // The names of packs that are going to be deleted were removed on purpose.
        let marked = Marks::load(&self.project)?.packs();
        let lost = added.iter().filter(|pack| !marked.contains(pack)).count();
        if lost > 0 {
            self.observer
                .notice(Notice::PacksUnindexed { packs: lost as u64 });
        }
        Ok(true)
    }
}
