//! Index segments made anew: without packs that are going to be deleted, and fewer of them.

use std::collections::HashSet;

use super::db::{Db, attempt};
use super::sync::EffectiveSegments;
use super::{Failure, Index};
use crate::base::ObjectHash;
use crate::format::{IndexSegment, Magic, PackListing};
use crate::repo::error::RepoError;
use crate::repo::layout::ObjectRef;

/// A segment that is made anew is full at so many blobs: about 11 MB before it is compressed.
const SEGMENT_BLOBS: usize = 256 << 10;
/// It is full at so many packs.
const SEGMENT_PACKS: usize = 512;
/// One that names fewer packs is small.
const SMALL_PACKS: usize = SEGMENT_PACKS / 4;
/// So many small ones are worth being joined.
const SMALL_MANY: usize = 8;

/// What became of the index segments.
#[derive(Debug, Clone, Default)]
pub struct Rewritten {
    /// Segments that are there and that others stand for now: to be deleted some day.
    pub replaced: Vec<ObjectHash>,
    /// Bytes of segments that were stored, before they were compressed.
    pub bytes_stored: u64,
}

/// Segments on their way into new ones.
struct Pile<'i, S> {
    index: &'i Index,
    stand: S,
    packs: Vec<PackListing>,
    blobs: usize,
    /// Of these all packs are in a new segment by now, or in the one that is being filled.
    done: Vec<ObjectHash>,
    result: Rewritten,
}

impl Index {
    /// Makes segments anew: those that name one of `without`, and the small ones if there are many. What they name,
    /// but for `without`, is named by new ones that stand for them, and so are the packs `also`.
    ///
    /// Each new segment is good by itself: only the one that completes an old one stands for it. Before each of
    /// them `stand` is asked whether what this run knows still holds.
    pub fn rewrite_segments<E: From<RepoError>>(
        &self,
        without: &HashSet<ObjectHash>,
        also: Vec<PackListing>,
        stand: impl Fn() -> Result<(), E>,
    ) -> Result<Rewritten, E> {
        let listed = self.list_segments()?;
        let (standing, picked) = self.retried(|db| {
            let standing = self.take_into(db, &listed)?;
            let picked = pick(db, &standing, without)?;
            Ok((standing, picked))
        })?;
        let mut replaced: Vec<_> = standing.replaced().collect();
        // What they named was found out from the packs themselves.
        let unreadable: Vec<_> = standing.unreadable().collect();
        let mended = !unreadable.is_empty();
        replaced.extend(unreadable);
        if picked.is_empty() && also.is_empty() && !mended {
            return Ok(Rewritten {
                replaced,
                ..Rewritten::default()
            });
        }
        let mut pile = Pile {
            index: self,
            stand: &stand,
            packs: Vec::new(),
            blobs: 0,
            done: Vec::new(),
            result: Rewritten::default(),
        };
        let mut named: HashSet<ObjectHash> = without.clone();
        for listing in also {
            named.insert(listing.pack);
            pile.add(listing)?;
        }
        let all: Vec<_> = picked.iter().map(|(name, _)| *name).collect();
        for (segment, packs) in picked {
            stand()?;
            for pack in packs {
                if named.insert(pack)
                    && let Some(listing) = self.listing(&pack)?
                {
                    pile.add(listing)?;
                }
            }
            pile.done.push(segment);
        }
        // If what stands for the older ones goes away, they must not count again.
        pile.done.extend(&replaced);
        pile.store()?;
        let mut result = pile.result;
        result.replaced = replaced;
        result.replaced.extend(all);
        self.sync()?;
        Ok(result)
    }

    /// Stores a segment and takes it into the index. Returns it, and the bytes of its body. All packs
    /// that it names must be durable.
    pub(crate) fn store_segment(
        &self,
        segment: IndexSegment,
    ) -> Result<(IndexSegment, u64), RepoError> {
        let project = &self.project;
        let body = segment.encode();
        let key = (project.id, project.keys.object());
        let object = |hash| ObjectRef::Index(project.id, hash);
        let hash = project
            .objects
            .put_sealed(object, Magic::Index, key, &body)?;
        Ok((self.insert(hash, segment)?, body.len() as u64))
    }
}

/// The segments to make anew, oldest packs first, and what they name.
fn pick(
    db: &Db,
    standing: &EffectiveSegments,
    without: &HashSet<ObjectHash>,
) -> Result<Vec<(ObjectHash, Vec<ObjectHash>)>, Failure> {
    let (mut picked, mut small) = (Vec::new(), Vec::new());
    for row in standing.effective() {
        let packs = attempt(|| db.pack_names(&row.packs))?;
        let first = row.packs.iter().min().copied();
        if packs.iter().any(|pack| without.contains(pack)) {
            picked.push((first, row.name, packs));
        } else if packs.len() < SMALL_PACKS {
            small.push((first, row.name, packs));
        }
    }
    if small.len() + picked.len() >= SMALL_MANY {
        picked.append(&mut small);
    }
    picked.sort_unstable_by_key(|(first, name, _)| (*first, *name));
    let named = picked.into_iter().map(|(_, name, packs)| (name, packs));
    Ok(named.collect())
}

impl<E: From<RepoError>, S: Fn() -> Result<(), E>> Pile<'_, S> {
    fn add(&mut self, listing: PackListing) -> Result<(), E> {
        let blobs = listing.contents.blobs().count();
        let full = self.packs.len() >= SEGMENT_PACKS || self.blobs + blobs > SEGMENT_BLOBS;
        if full && !self.packs.is_empty() {
            self.store()?;
        }
        self.blobs += blobs;
        self.packs.push(listing);
        Ok(())
    }

    fn store(&mut self) -> Result<(), E> {
        (self.stand)()?;
        let segment = IndexSegment {
            packs: std::mem::take(&mut self.packs),
            superseded: std::mem::take(&mut self.done),
        };
        self.blobs = 0;
        let (_, bytes) = self.index.store_segment(segment)?;
        self.result.bytes_stored += bytes;
        Ok(())
    }
}
