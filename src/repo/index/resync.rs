//! Updates the index after a look-up found no undamaged copy of a blob.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::db::Db;
use super::state::{Index, LastResync};
use crate::base::{Notice, ObjectHash, lock};
use crate::repo::error::RepoError;
use crate::repo::leases::Marks;

/// Minimum time until the next resync after one that changed nothing.
const RESYNC_EVERY: Duration = Duration::from_secs(10);

impl Index {
    /// Updates the index after a look-up found no undamaged copy of a blob. Returns whether this
    /// resync, or one of another thread at the same time, changed the index. The caller must repeat
    /// the look-up in any case: a resync of another thread may have ended between the look-up and
    /// this call.
    ///
    /// Reads the new segments of other processes, since a prune may have repacked the blob.
    /// Verifies the cache at the first call, since the cache may be damaged. Reads the listings of
    /// packs that no segment names, since a segment may be lost. This includes packs that are going
    /// to be deleted, since a backup may have begun to use one. Also reads the listings of packs
    /// that only segments of other write keys name, since these segments may be wrong.
    ///
    /// If the last resync changed nothing, another one within 10 seconds is skipped, and the result
    /// is false. So many missing blobs cost little time. Threads that call this at the same time
    /// share one resync.
    pub fn resync(&self) -> Result<bool, RepoError> {
        self.resync_after_loss(&[])
    }

    /// Updates the index like [`resync`](Self::resync), after a look-up returned these packs, which
    /// do not exist. If one of them existed at the last resync, this resync is not skipped: a prune
    /// or a repair may have moved the blobs of that pack.
    pub(crate) fn resync_after_loss(&self, missing: &[ObjectHash]) -> Result<bool, RepoError> {
        let asked = Instant::now();
        let mut last = lock(&self.last_resync);
        let is_first = last.is_none();
        let mut gone = HashSet::new();
        if let Some(last) = &*last {
            let ran_meanwhile = last.started >= asked;
            let was_in_vain = !last.found && last.ended.elapsed() < RESYNC_EVERY;
            let knows_all = missing.iter().all(|pack| last.gone.contains(pack));
            if ran_meanwhile || was_in_vain && knows_all {
                return Ok(last.found);
            }
            gone.clone_from(&last.gone);
        }
        if !missing.is_empty() {
            // Remember all missing packs, so that one resync is enough for all of them. When a blob
            // is moved, it is in another pack before its old pack is deleted. So list the packs
            // before the segments.
            gone.extend(missing);
            gone.extend(self.lost_among(&self.stored_packs()?)?);
        }
        let started = Instant::now();
        let rebuilds = self.rebuilds();
        let known = self.segment_names()?;
        self.sync()?;
        let new = self.rebuilds() != rebuilds || self.segment_names()? != known;
        let repaired = is_first && self.verify()?;
        let added = self.scan_except(&HashSet::new(), true)?;
        let found = new || repaired || added;
        *last = Some(LastResync {
            started,
            ended: Instant::now(),
            found,
            gone,
        });
        Ok(found)
    }

    /// Returns whether an earlier [resync](Self::resync_after_loss) found all of these packs
    /// missing.
    pub(super) fn was_resynced_without(&self, missing: &[ObjectHash]) -> bool {
        let last = lock(&self.last_resync);
        let last = last.as_ref();
        last.is_some_and(|last| missing.iter().all(|pack| last.gone.contains(pack)))
    }

    /// Returns the names of the segments in the database, in the order of the database.
    fn segment_names(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let segments = self.query(Db::segments)?;
        Ok(segments.into_iter().map(|segment| segment.name).collect())
    }

    /// Verifies the cache, and reads the listings of the packs that no segment names. Leaves out
    /// packs that are going to be deleted, since these were removed from the segments on purpose.
    pub fn scan_unindexed(&self) -> Result<(), RepoError> {
        self.verify()?;
        let marked = Marks::load_readable(&self.project)?.packs();
        self.scan_except(&marked, false).map(drop)
    }

    /// Adds the packs that no segment names, except those in `skip`. If `doubts` is set, also reads
    /// the listings of packs that only segments of other write keys name. Returns whether the index
    /// has new packs, or other contents of a pack, now.
    fn scan_except(&self, skip: &HashSet<ObjectHash>, doubts: bool) -> Result<bool, RepoError> {
        let added = self.run_step(|db| self.add_unnamed(db, skip, doubts))?;
        if added.is_empty() {
            return Ok(false);
        }
        // Do not report packs that are going to be deleted: a prune removed them from the segments
        // on purpose.
        let marked = Marks::load_readable(&self.project)?.packs();
        let lost = added.iter().filter(|pack| !marked.contains(pack)).count();
        if lost > 0 {
            self.observer
                .notice(Notice::PacksUnindexed { packs: lost as u64 });
        }
        Ok(true)
    }
}
