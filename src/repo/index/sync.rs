//! Brings the cache up to date: reads new segments, and the listings of packs that no segment
//! names.

use std::collections::HashSet;

use super::db::Db;
use super::db_write::NewSegment;
use super::panics::catch;
use super::segments::{EffectiveSegments, SegmentsSeen, list_segments, read_segment};
use super::state::{Index, StepError};
use super::tables::SegmentRow;
use crate::base::{Notice, ObjectHash, ProjectId, RebuildReason, write_lock};
use crate::format::{BlobKind, IndexSegment};
use crate::repo::audits::Audits;
use crate::repo::error::RepoError;
use crate::repo::object_kind::ObjectKind;
use crate::repo::object_ref::ObjectRef;
use crate::repo::pack_listing::read_listing;
use crate::storage::ObjectInfo;

/// The cache is filled in batches of at least this number of blobs, except the last batch. The
/// blobs of a batch are sorted and inserted together, and take about 50 MB of memory.
const BATCH_BLOBS: usize = 512 << 10;

/// A pack in the store.
#[derive(Debug, Clone)]
pub struct ListedPack {
    /// The kind of its blobs, which decides in which directory the pack is.
    pub kind: BlobKind,
    /// Its name.
    pub hash: ObjectHash,
    /// Its size, and the time when it was stored.
    pub info: ObjectInfo,
}

impl ListedPack {
    /// Returns the pack as an object of this project.
    #[must_use]
    pub fn object(&self, project: ProjectId) -> ObjectRef {
        ObjectRef::of_pack(project, self.kind, self.hash)
    }
}

impl Index {
    /// Reads the segments that the cache lacks, and forgets those that no longer count. Rebuilds
    /// the cache if a segment has vanished that no other segment supersedes and that the log does
    /// not remove. Also rebuilds it if a pack of the cache has vanished that no segment names.
    pub fn sync(&self) -> Result<(), RepoError> {
        let listed = self.list_segments()?;
        let segments = self.read_missing(&listed)?;
        if segments.is_cut() || self.has_lost_unnamed()? {
            // The packs of the vanished segments may have been deleted, too.
            let mut current = self.current_mut();
            self.notify_rebuild(&current, RebuildReason::Stale);
            return self.refill(&mut current);
        }
        self.run_step(|db| self.forget_obsolete(db, &listed))
    }

    /// Reads the audits, if the project has packs or segments of signers that this client does not
    /// trust. Of the packs of these signers, only those that an audit names count for
    /// deduplication.
    pub(super) fn load_audits(&self) -> Result<(), RepoError> {
        let signers = self.query(Db::signers)?;
        let trusted = signers.iter().all(|signer| self.trust().signer(signer));
        if !trusted {
            let audited = Audits::load(&self.project)?.into_packs();
            write_lock(&self.trust).set_audited(audited);
        }
        Ok(())
    }

    /// Updates the cache like [`sync`](Self::sync), with segments that were listed a moment ago.
    /// Lists the segments again if another process on this host has added newer segments to the
    /// cache. Also lists them again if the cache has packs that no segment names.
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

    /// Reads the listed segments that this database lacks. Returns which segments count now, with
    /// the pack numbers of this database.
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
        Ok(self.effective(rows, listed))
    }

    /// Returns which of these segments count. Considers the log only if this process has read it.
    /// Callers that rely on segments must have read it before.
    fn effective(&self, rows: Vec<SegmentRow>, listed: &HashSet<ObjectHash>) -> EffectiveSegments {
        let removals = self.project.removals.get().unwrap_or_default();
        EffectiveSegments::new(rows, listed.clone(), &removals)
    }

    /// Forgets the segments that no longer count.
    fn forget_obsolete(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), StepError> {
        let segments = self.effective(catch(|| db.segments())?, listed);
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
    /// before certainly still count. Otherwise, returns the packs of the cache that no segment
    /// names any longer; there may be none.
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

    /// Whether the store lacks a pack that is in the cache and that no segment names. Lists the
    /// packs to find out.
    fn has_lost_unnamed(&self) -> Result<bool, RepoError> {
        let unnamed = self.unnamed()?;
        if unnamed.is_empty() {
            return Ok(false);
        }
        self.set_relies_on_unnamed();
        let present: HashSet<_> = self
            .list_packs()?
            .into_iter()
            .map(|pack| pack.hash)
            .collect();
        Ok(unnamed.iter().any(|pack| !present.contains(pack)))
    }

    /// Lists the packs in the store, with their sizes and the times when they were stored.
    pub fn list_packs(&self) -> Result<Vec<ListedPack>, RepoError> {
        let mut packs = Vec::new();
        for directory in [ObjectKind::Pack, ObjectKind::Tree] {
            let listed = self.project.list(directory)?;
            packs.extend(listed.into_iter().filter_map(|(object, info)| {
                Some(ListedPack {
                    kind: object.blob_kind()?,
                    hash: object.hash()?,
                    info,
                })
            }));
        }
        Ok(packs)
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
            let (signer, mut segment) = match read_segment(&self.project, *name) {
                Ok(read) => read,
                // Another process has deleted the segment after it was listed.
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
            if signer != *self.project.keys.authority() {
                // Only a full key may supersede segments.
                segment.superseded.clear();
            }
            let packs = segment.packs.iter();
            blobs += packs.map(|p| p.contents.blobs().count()).sum::<usize>();
            taken.push(NewSegment {
                name: *name,
                signer,
                segment,
            });
            if blobs >= BATCH_BLOBS {
                self.insert_into(db, &taken)?;
                (taken, blobs) = (Vec::new(), 0);
            }
        }
        if !taken.is_empty() {
            self.insert_into(db, &taken)?;
        }
        if damaged {
            // The unreadable segment may have superseded others. These may name packs that were
            // deleted since then.
            self.require_present()?;
            self.add_unnamed(db, &HashSet::new(), false)?;
        }
        Ok(())
    }

    /// Adds segments to this database. If segments of write keys state different contents for a
    /// pack, reads the contents from the pack.
    fn insert_into(&self, db: &Db, segments: &[NewSegment]) -> Result<(), StepError> {
        let authority = self.project.keys.authority();
        for pack in catch(|| db.insert(segments, authority))? {
            for kind in [BlobKind::Chunk, BlobKind::Node] {
                let object = ObjectRef::of_pack(self.project.id, kind, pack);
                match read_listing(&self.project, object, None) {
                    Ok(listing) => catch(|| db.insert_read(&[listing], authority))?,
                    Err(
                        RepoError::Damaged { .. }
                        | RepoError::Foreign { .. }
                        | RepoError::Unsupported { .. },
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Fills an empty database with all packs that this process may rely on.
    pub(super) fn fill(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), StepError> {
        let segments: Vec<_> = listed.iter().copied().collect();
        self.load(db, &segments)?;
        self.forget_obsolete(db, listed)?;
        if self.relies_on_unnamed() {
            self.add_unnamed(db, &HashSet::new(), false)?;
        }
        Ok(())
    }

    /// Adds the packs in the store that no segment names, except those in `skip`, from the listings
    /// in the packs. With `doubts`, also reads the listings of packs that only segments of other
    /// write keys name. Returns the packs that are new, or have other contents now.
    pub(super) fn add_unnamed(
        &self,
        db: &Db,
        skip: &HashSet<ObjectHash>,
        doubts: bool,
    ) -> Result<Vec<ObjectHash>, StepError> {
        let mut taken = Vec::new();
        for pack in self.list_packs()? {
            let named = catch(|| db.named(&pack.hash))?;
            let is_known = named
                .is_some_and(|named| !doubts || named.by_itself || self.trust().listing(&named));
            if skip.contains(&pack.hash) || is_known {
                continue;
            }
            let object = pack.object(self.project.id);
            match read_listing(&self.project, object, Some(pack.info.size)) {
                Ok(listing) => {
                    let before = catch(|| db.listing(&pack.hash))?;
                    if before.as_ref() != Some(&listing) {
                        self.set_relies_on_unnamed();
                        self.clear_recent_runs();
                        taken.push(pack.hash);
                    }
                    catch(|| db.insert_read(&[listing], self.project.keys.authority()))?;
                }
                // The pack was deleted after it was listed.
                Err(e) if e.is_missing() => {}
                // The pack's hash was not verified, so a flipped bit may look like an unknown
                // version.
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

    /// Adds a segment that this process has just stored, and returns it.
    pub(super) fn insert(
        &self,
        name: ObjectHash,
        segment: IndexSegment,
    ) -> Result<IndexSegment, RepoError> {
        let packs = segment.packs.iter();
        let sizes = packs.map(|pack| {
            let contents = &pack.contents;
            ((contents.kind, pack.pack), contents.pack_size())
        });
        write_lock(&self.usable).add(sizes);
        let signer = self.project.keys.signing().public();
        let added = [NewSegment {
            name,
            signer,
            segment,
        }];
        self.run_step(|db| self.insert_into(db, &added))?;
        let [added] = added;
        Ok(added.segment)
    }

    /// Reads all segments in the store and returns the errors of those that are damaged or foreign.
    /// A damaged segment that another one supersedes is no error. Remembers the other damaged
    /// segments, so that the next prune replaces them.
    pub fn verify_segments(&self) -> Result<Vec<RepoError>, RepoError> {
        let mut errors = Vec::new();
        let replaced: HashSet<_> = self.replaced_segments()?.into_iter().collect();
        for hash in self.list_segments()? {
            match read_segment(&self.project, hash) {
                Err(e) if e.is_missing() => {}
                Err(RepoError::Damaged { .. }) if replaced.contains(&hash) => {}
                Err(e @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
                    if matches!(e, RepoError::Damaged { .. }) {
                        self.note_damaged_segment(hash);
                    }
                    errors.push(e);
                }
                other => drop(other?),
            }
        }
        Ok(errors)
    }

    /// The segments in the store that can be read.
    pub fn segments(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let segments = self.read_missing(&self.list_segments()?)?;
        Ok(segments.known().collect())
    }

    /// The segments in the store that another segment in the store supersedes.
    pub fn replaced_segments(&self) -> Result<Vec<ObjectHash>, RepoError> {
        let segments = self.read_missing(&self.list_segments()?)?;
        Ok(segments.superseded().collect())
    }
}
