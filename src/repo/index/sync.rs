//! What the cache takes from the store: segments, and packs that no segment names.

use std::collections::HashSet;

use super::db::{Db, SegmentRow, Taken, attempt};
use super::{Failure, Index};
use crate::base::{Notice, ObjectHash, RebuildReason};
use crate::format::{IndexSegment, Magic};
use crate::repo::error::RepoError;
use crate::repo::layout::ObjectRef;
use crate::repo::pack_listing::read_listing;
use crate::repo::project::Project;
use crate::storage::Listed;

/// Blobs that are sorted and put in at once while the cache is filled: about 50 MB.
const BATCH_BLOBS: usize = 512 << 10;

/// Which of the segments that the cache knows count.
pub(super) struct EffectiveSegments {
    rows: Vec<SegmentRow>,
    listed: HashSet<ObjectHash>,
    /// By one that is there.
    superseded: HashSet<ObjectHash>,
}

impl EffectiveSegments {
    fn new(rows: Vec<SegmentRow>, listed: HashSet<ObjectHash>) -> Self {
        let there = rows.iter().filter(|row| listed.contains(&row.name));
        let superseded = there.flat_map(|row| row.superseded.iter().copied());
        Self {
            superseded: superseded.collect(),
            rows,
            listed,
        }
    }

    fn counts(&self, name: &ObjectHash) -> bool {
        self.listed.contains(name) && !self.superseded.contains(name)
    }

    /// Those that count.
    pub(super) fn effective(&self) -> impl Iterator<Item = &SegmentRow> {
        self.rows.iter().filter(|row| self.counts(&row.name))
    }

    /// Those that are there and cannot be read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = ObjectHash> {
        let known: HashSet<_> = self.rows.iter().map(|row| row.name).collect();
        self.listed
            .iter()
            .copied()
            .filter(move |name| !known.contains(name))
    }

    /// Those that are there and do not count.
    pub(super) fn replaced(&self) -> impl Iterator<Item = ObjectHash> {
        self.superseded.intersection(&self.listed).copied()
    }

    /// Whether a segment went away and no other one stands for it.
    fn is_cut(&self) -> bool {
        let explained = |row: &SegmentRow| {
            row.packs.is_empty()
                || self.listed.contains(&row.name)
                || self.superseded.contains(&row.name)
        };
        !self.rows.iter().all(explained)
    }
}

impl Index {
    /// Takes in the segments that the cache does not have yet, and lets go of those that others stand for.
    pub fn sync(&self) -> Result<(), RepoError> {
        let listed = self.list_segments()?;
        let standing = self.take_in(&listed)?;
        if standing.is_cut() || self.lost_unnamed()? {
            // With them maybe packs went away that the cache still believes in.
            let mut current = self.write();
            self.say(&current, RebuildReason::Stale);
            return self.refill(&mut current);
        }
        self.retried(|db| self.settle(db, &listed))
    }

    /// The same with the segments that were seen a moment ago, which need not be listed again; unless the cache knows
    /// of newer ones, from another process on this host.
    pub(super) fn sync_as_of(&self, seen: &SegmentsSeen) -> Result<(), RepoError> {
        if !self.unnamed()?.is_empty() {
            return self.sync();
        }
        let standing = self.take_in(&seen.listed)?;
        if standing.is_cut() {
            return self.sync();
        }
        self.retried(|db| self.settle(db, &seen.listed))
    }

    /// Reads the listed segments that the cache does not have yet. Which ones count now.
    pub(super) fn take_in(
        &self,
        listed: &HashSet<ObjectHash>,
    ) -> Result<EffectiveSegments, RepoError> {
        self.retried(|db| self.take_into(db, listed))
    }

    /// The same with this database. The numbers of packs are those that it has for them.
    pub(super) fn take_into(
        &self,
        db: &Db,
        listed: &HashSet<ObjectHash>,
    ) -> Result<EffectiveSegments, Failure> {
        let loaded = attempt(|| db.segments())?;
        let loaded: HashSet<_> = loaded.into_iter().map(|row| row.name).collect();
        let missing: Vec<_> = listed.difference(&loaded).copied().collect();
        self.load(db, &missing)?;
        let rows = attempt(|| db.segments())?;
        Ok(EffectiveSegments::new(rows, listed.clone()))
    }

    /// Lets go of what does not count any more.
    fn settle(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), Failure> {
        let standing = EffectiveSegments::new(attempt(|| db.segments())?, listed.clone());
        let settled = |row: &&SegmentRow| row.packs.is_empty() && listed.contains(&row.name);
        let gone: Vec<_> = standing
            .rows
            .iter()
            .filter(|row| !standing.counts(&row.name) && !settled(row))
            .map(|row| row.name)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let replaced: Vec<_> = standing.replaced().collect();
        attempt(|| db.forget(&gone, &replaced))?;
        self.forget_locality();
        Ok(())
    }

    /// Looks again at the segments. None if all that counted before still count; else the packs that the cache
    /// knows and that no segment names any more. From now on `seen` is what is there now.
    pub(crate) fn lost_since(
        &self,
        seen: &mut SegmentsSeen,
    ) -> Result<Option<Vec<ObjectHash>>, RepoError> {
        let listed = self.list_segments()?;
        let (lost, packs) = self.retried(|db| {
            let lost = seen.lost_until(&self.take_into(db, &listed)?);
            let packs = attempt(|| db.pack_names(&lost.packs))?;
            Ok((lost, packs))
        })?;
        seen.listed = listed;
        seen.lost.extend(lost.segments);
        Ok(lost.any.then_some(packs))
    }

    /// Whether a pack that no segment names is gone: nothing else would tell.
    fn lost_unnamed(&self) -> Result<bool, RepoError> {
        let unnamed = self.unnamed()?;
        if unnamed.is_empty() {
            return Ok(false);
        }
        self.rely_on_unnamed();
        let there: HashSet<_> = self
            .list_packs()?
            .into_iter()
            .map(|(pack, _)| pack)
            .collect();
        Ok(unnamed.iter().any(|pack| !there.contains(pack)))
    }

    /// The packs in the store, with their sizes and when they were put.
    pub fn list_packs(&self) -> Result<Vec<(ObjectHash, Listed)>, RepoError> {
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

    /// The segments in the store, whether they count or not.
    pub(super) fn list_segments(&self) -> Result<HashSet<ObjectHash>, RepoError> {
        list_segments(&self.project)
    }

    /// Reads these segments into the database.
    fn load(&self, db: &Db, segments: &[ObjectHash]) -> Result<(), Failure> {
        let mut damaged = false;
        let (mut taken, mut blobs) = (Vec::new(), 0);
        for name in segments {
            let segment = match read_segment(&self.project, *name) {
                Ok(segment) => segment,
                // It was removed since it was listed: another process merged it.
                Err(e) if e.is_missing() => continue,
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
            taken.push(Taken {
                name: *name,
                segment,
            });
            if blobs >= BATCH_BLOBS {
                attempt(|| db.insert(&taken))?;
                (taken, blobs) = (Vec::new(), 0);
            }
        }
        if !taken.is_empty() {
            attempt(|| db.insert(&taken))?;
        }
        if damaged {
            // It may have stood for others, and those name packs that were deleted since.
            self.require_present()?;
            self.ask_packs(db, &HashSet::new())?;
        }
        Ok(())
    }

    /// Reads all that this run may rely on into a database that is empty.
    pub(super) fn fill(&self, db: &Db, listed: &HashSet<ObjectHash>) -> Result<(), Failure> {
        let segments: Vec<_> = listed.iter().copied().collect();
        self.load(db, &segments)?;
        self.settle(db, listed)?;
        if self.relies_on_unnamed() {
            self.ask_packs(db, &HashSet::new())?;
        }
        Ok(())
    }

    /// Takes in packs of the store that no segment names, from their own contents, but for those of `not`. Which ones.
    pub(super) fn ask_packs(
        &self,
        db: &Db,
        not: &HashSet<ObjectHash>,
    ) -> Result<Vec<ObjectHash>, Failure> {
        let mut taken = Vec::new();
        for (pack, listed) in self.list_packs()? {
            if not.contains(&pack) || attempt(|| db.has_pack(&pack))? {
                continue;
            }
            match read_listing(&self.project, pack, Some(listed.size)) {
                Ok(listing) => {
                    self.rely_on_unnamed();
                    attempt(|| db.insert_unnamed(&[listing]))?;
                    taken.push(pack);
                }
                // It was deleted since it was listed.
                Err(e) if e.is_missing() => {}
                // Without its hash having been checked, a newer version may be a flipped bit.
                Err(e @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    let problem = e.to_string();
                    self.observer.notice(Notice::ListingDamaged { problem });
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(taken)
    }
}

/// What somebody who relies on segments has seen of them.
pub(crate) struct SegmentsSeen {
    /// Those that were there, whether they counted or not.
    listed: HashSet<ObjectHash>,
    /// Those that do not count any more.
    lost: HashSet<ObjectHash>,
}

/// What somebody has lost who relies on segments.
struct Lost {
    /// Whether there is anything that was not known to be lost.
    any: bool,
    /// Those that the cache has packs of and that do not count.
    segments: Vec<ObjectHash>,
    /// Packs of the cache that no segment names any more.
    packs: Vec<u32>,
}

impl SegmentsSeen {
    /// As they are now.
    pub(crate) fn look(project: &Project) -> Result<Self, RepoError> {
        Ok(Self {
            listed: list_segments(project)?,
            lost: HashSet::new(),
        })
    }

    fn lost_until(&self, now: &EffectiveSegments) -> Lost {
        let rows = now.rows.iter();
        let then: HashSet<_> = rows
            .filter(|row| self.listed.contains(&row.name))
            .flat_map(|row| row.superseded.iter().copied())
            .collect();
        // One that came since and stands for others may have taken away names that came and went since, too.
        let is_new =
            |row: &SegmentRow| !self.listed.contains(&row.name) && now.listed.contains(&row.name);
        let replaces = |row: &SegmentRow| is_new(row) && !row.superseded.is_empty();
        let mut counted = self.listed.difference(&then);
        let all_count = counted.all(|name| now.counts(name)) && !now.rows.iter().any(replaces);
        let mut lost = Lost {
            any: !all_count,
            segments: Vec::new(),
            packs: Vec::new(),
        };
        let (mut named, mut nameless) = (HashSet::new(), HashSet::new());
        for row in &now.rows {
            let packs = row.packs.iter().copied();
            if now.counts(&row.name) {
                named.extend(packs);
            } else if !row.packs.is_empty() {
                // All that had packs counted when the cache was opened, and so did those that were stored since.
                lost.any |= !self.lost.contains(&row.name);
                lost.segments.push(row.name);
                nameless.extend(packs);
            }
        }
        if lost.any {
            lost.packs.extend(nameless.difference(&named));
        }
        lost
    }
}

/// The segments in the store, whether they count or not.
fn list_segments(project: &Project) -> Result<HashSet<ObjectHash>, RepoError> {
    let directory = ObjectRef::Index(project.id, ObjectHash::from_bytes([0; 32])).directory();
    let listed = project.objects.list(&directory)?;
    let hashes = listed.into_iter().filter_map(|(object, ..)| match object {
        ObjectRef::Index(_, hash) => Some(hash),
        _ => None,
    });
    Ok(hashes.collect())
}

pub(super) fn read_segment(project: &Project, hash: ObjectHash) -> Result<IndexSegment, RepoError> {
    let object = ObjectRef::Index(project.id, hash);
    let key = (project.id, project.keys.object());
    let limit = IndexSegment::BODY_MAX;
    let body = project
        .objects
        .get_sealed(object, hash, Magic::Index, key, limit)?;
    IndexSegment::decode(&body).map_err(|e| RepoError::format(object, e))
}
