//! Brings the cache up to date with the store: segments, and packs that no segment names.

use std::collections::HashSet;

use super::db::Db;
use super::db_write::NewSegment;
use super::panics::catch;
use super::segments::{EffectiveSegments, SegmentsSeen, list_segments, read_segment};
use super::state::{Index, StepError};
use crate::base::{Notice, ObjectHash, RebuildReason, write_lock};
use crate::format::IndexSegment;
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::pack_listing::read_listing;
use crate::storage::ObjectInfo;

/// Blobs that are sorted and inserted together while the cache is filled: about 50 MB.
const BATCH_BLOBS: usize = 512 << 10;

impl Index {
    /// Reads the segments that the cache lacks, and forgets those that others supersede.
    pub fn sync(&self) -> Result<(), RepoError> {
        let listed = self.list_segments()?;
        let segments = self.read_missing(&listed)?;
        if segments.is_cut() || self.has_lost_unnamed()? {
            // Packs that the cache still knows may be gone with them.
            let mut current = self.current_mut();
            self.notify_rebuild(&current, RebuildReason::Stale);
            return self.refill(&mut current);
        }
        self.run_step(|db| self.forget_obsolete(db, &listed))
    }

    /// Updates the cache like [`sync`](Self::sync), with segments that were listed a moment ago.
    /// Lists them again only if another process on this host put newer ones into the cache.
    pub(super) fn sync_as_of(&self, seen: &SegmentsSeen) -> Result<(), RepoError> {
        if !self.unnamed()?.is_empty() {
            return self.sync();
        }
        let segments = self.read_missing(&seen.listed)?;
        if segments.is_cut() {
            return self.sync();
        }
        self.run_step(|db| self.forget_obsolete(db, &seen.listed))
    }

    /// Reads the listed segments that the cache lacks, and returns which segments count now.
    pub(super) fn read_missing(
        &self,
        listed: &HashSet<ObjectHash>,
    ) -> Result<EffectiveSegments, RepoError> {
        self.run_step(|db| self.read_missing_into(db, listed))
    }

    /// Reads missing segments into this database. The result contains its pack numbers.
    pub(super) fn read_missing_into(
        &self,
        db: &Db,
        listed: &HashSet<ObjectHash>,
    ) -> Result<EffectiveSegments, StepError> {
        let loaded = catch(|| db.segments())?;
        let loaded: HashSet<_> = loaded.into_iter().map(|row| row.name).collect();
        let missing: Vec<_> = listed.difference(&loaded).copied().collect();
        self.load(db, &missing)?;
        let rows = catch(|| db.segments())?;
        Ok(EffectiveSegments::new(rows, listed.clone()))
    }

    /// Forgets the segments that no longer count.
    fn forget_obsolete(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), StepError> {
        let segments = EffectiveSegments::new(catch(|| db.segments())?, listed.clone());
        let obsolete = segments.obsolete();
        if obsolete.is_empty() {
            return Ok(());
        }
        let replaced: Vec<_> = segments.replaced().collect();
        catch(|| db.forget(&obsolete, &replaced))?;
        self.clear_recent_runs();
        Ok(())
    }

    /// Lists the segments again and updates `seen`. Returns `None` if all segments that counted
    /// before still count, and otherwise the packs of the cache that no segment names any longer.
    pub(crate) fn lost_since(
        &self,
        seen: &mut SegmentsSeen,
    ) -> Result<Option<Vec<ObjectHash>>, RepoError> {
        let listed = self.list_segments()?;
        let (lost, packs) = self.run_step(|db| {
            let lost = seen.lost_until(&self.read_missing_into(db, &listed)?);
            let packs = catch(|| db.pack_names(&lost.packs))?;
            Ok((lost, packs))
        })?;
        seen.listed = listed;
        seen.lost.extend(lost.segments);
        Ok(lost.any.then_some(packs))
    }

    /// Whether a pack that no segment names is gone. Only a listing of the packs shows that.
    fn has_lost_unnamed(&self) -> Result<bool, RepoError> {
        let unnamed = self.unnamed()?;
        if unnamed.is_empty() {
            return Ok(false);
        }
        self.set_relies_on_unnamed();
        let present: HashSet<_> = self
            .list_packs()?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        Ok(unnamed.iter().any(|pack| !present.contains(pack)))
    }

    /// Lists the packs in the store, with their sizes and the times when they were put.
    pub fn list_packs(&self) -> Result<Vec<(ObjectHash, ObjectInfo)>, RepoError> {
        let listed = self.project.list(ObjectKind::Pack)?;
        let packs = listed
            .into_iter()
            .filter_map(|(object, listed)| Some((object.hash()?, listed)));
        Ok(packs.collect())
    }

    /// Lists the segments in the store, whether they count or not.
    pub(super) fn list_segments(&self) -> Result<HashSet<ObjectHash>, RepoError> {
        list_segments(&self.project)
    }

    /// Reads these segments into the database.
    fn load(&self, db: &Db, segments: &[ObjectHash]) -> Result<(), StepError> {
        let mut damaged = false;
        let (mut taken, mut blobs) = (Vec::new(), 0);
        for name in segments {
            let segment = match read_segment(&self.project, *name) {
                Ok(segment) => segment,
                // Another process has merged it since it was listed.
                Err(e) if e.is_missing() => continue,
                Err(RepoError::Foreign { .. }) => continue,
                Err(e @ RepoError::Damaged { .. }) => {
                    let problem = e.to_string();
                    self.observer.notice(Notice::SegmentDamaged { problem });
                    damaged = true;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let packs = segment.packs.iter();
            blobs += packs.map(|p| p.contents.blobs().count()).sum::<usize>();
            taken.push(NewSegment {
                name: *name,
                segment,
            });
            if blobs >= BATCH_BLOBS {
                catch(|| db.insert(&taken))?;
                (taken, blobs) = (Vec::new(), 0);
            }
        }
        if !taken.is_empty() {
            catch(|| db.insert(&taken))?;
        }
        if damaged {
            // It may have superseded others, which name packs that were deleted since.
            self.require_present()?;
            self.add_unnamed(db, &HashSet::new())?;
        }
        Ok(())
    }

    /// Fills an empty database with everything that this run may rely on.
    pub(super) fn fill(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), StepError> {
        let segments: Vec<_> = listed.iter().copied().collect();
        self.load(db, &segments)?;
        self.forget_obsolete(db, listed)?;
        if self.relies_on_unnamed() {
            self.add_unnamed(db, &HashSet::new())?;
        }
        Ok(())
    }

    /// Adds the packs in the store that no segment names, except those in `skip`, from the listings
    /// in the packs. Returns their names.
    pub(super) fn add_unnamed(
        &self,
        db: &Db,
        skip: &HashSet<ObjectHash>,
    ) -> Result<Vec<ObjectHash>, StepError> {
        let mut taken = Vec::new();
        for (pack, listed) in self.list_packs()? {
            if skip.contains(&pack) || catch(|| db.has_pack(&pack))? {
                continue;
            }
            match read_listing(&self.project, pack, Some(listed.size)) {
                Ok(listing) => {
                    self.set_relies_on_unnamed();
                    catch(|| db.insert_unnamed(&[listing]))?;
                    taken.push(pack);
                }
                // It was deleted after it was listed.
                Err(e) if e.is_missing() => {}
                // The pack's hash was not checked, so that an unknown version may be a flipped bit.
                Err(
                    e @ (RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. }),
                ) => {
                    let problem = e.to_string();
                    self.observer.notice(Notice::ListingDamaged { problem });
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(taken)
    }

    /// Adds a segment that was just stored, and returns it.
    pub(super) fn insert(
        &self,
        name: ObjectHash,
        segment: IndexSegment,
    ) -> Result<IndexSegment, RepoError> {
        let packs = segment.packs.iter();
        let sizes = packs.map(|pack| (pack.pack, pack.contents.pack_size()));
        write_lock(&self.usable).add(sizes);
        let added = [NewSegment { name, segment }];
        self.query(|db| db.insert(&added))?;
        let [added] = added;
        Ok(added.segment)
    }

    /// Reads all segments in the store and returns the errors of those that are damaged or foreign.
    pub fn verify_segments(&self) -> Result<Vec<RepoError>, RepoError> {
        let mut errors = Vec::new();
        for hash in self.list_segments()? {
            match read_segment(&self.project, hash) {
                Err(e) if e.is_missing() => {}
                Err(e @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => errors.push(e),
                other => drop(other?),
            }
        }
        Ok(errors)
    }

    /// The segments in the store that others supersede.
    pub fn replaced_segments(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let segments = self.read_missing(&self.list_segments()?)?;
        Ok(segments.replaced().collect())
    }
}
