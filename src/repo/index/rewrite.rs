//! Stores index segments, and replaces segments to merge small ones or to leave out deleted packs.

use std::collections::HashSet;

use super::db::Db;
use super::panics::catch;
use super::segments::EffectiveSegments;
use super::state::{Index, StepError};
use crate::base::ObjectHash;
use crate::format::{IndexSegment, PackListing};
use crate::repo::error::RepoError;
use crate::repo::object_ref::ObjectRef;
use crate::repo::pack_listing::{read_listing, read_whole};

/// A new segment is full at this many blobs: about 11 MB before compression.
const SEGMENT_BLOBS: usize = 256 << 10;
/// A new segment is full at this many packs.
const SEGMENT_PACKS: usize = 512;
/// A segment that names fewer packs than this is small.
const SMALL_PACKS: usize = SEGMENT_PACKS / 4;
/// Small segments are replaced only if at least this many segments are replaced in all.
const SMALL_MANY: usize = 8;

/// How [`Index::rewrite_segments`] treats segments that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableSegments {
    /// Replaces them: the index has the content of all packs that backups need.
    Replace,
    /// Leaves them as they are, since only they may state where lost data is.
    Keep,
}

/// The result of [`Index::rewrite_segments`].
#[derive(Debug, Clone, Default)]
pub struct Rewritten {
    /// The segments in the store that other segments supersede now, or that the log removes. They
    /// can be deleted when no running backup relies on them.
    pub replaced: Vec<ObjectHash>,
    /// Bytes of the segments that were stored, before compression.
    pub bytes_stored: u64,
}

/// Collects packs of old segments and stores them in new ones.
struct Rewriter<'i, S> {
    index: &'i Index,
    still_valid: S,
    packs: Vec<PackListing>,
    blobs: usize,
    /// The old segments whose packs are all in new segments, or in the one that is being filled.
    superseded: Vec<ObjectHash>,
    result: Rewritten,
}

impl Index {
    /// Replaces the segments that name a pack in `without`, and small segments if there are many.
    /// New segments name all other packs of the replaced ones, and the packs in `also`.
    ///
    /// At every moment, a segment that is not superseded names each of these packs. For this, each
    /// old segment is superseded by the new one that names the last of its packs. `still_valid` is
    /// called before each segment is stored. It must fail if the data on which the caller decided
    /// may be out of date.
    pub fn rewrite_segments<E: From<RepoError>>(
        &self,
        without: &HashSet<ObjectHash>,
        also: Vec<PackListing>,
        unreadable: UnreadableSegments,
        still_valid: impl Fn() -> Result<(), E>,
    ) -> Result<Rewritten, E> {
        let listed = self.list_segments()?;
        let (segments, picked) = self.run_step(|db| {
            let segments = self.read_missing_into(db, &listed)?;
            let picked = pick(db, &segments, without)?;
            Ok((segments, picked))
        })?;
        let mut replaced: Vec<_> = segments.replaced().collect();
        // With `Replace`, unreadable segments are replaced, too: the listings of their packs were
        // read instead.
        let unreadable: Vec<_> = match unreadable {
            UnreadableSegments::Replace => segments.unreadable().collect(),
            UnreadableSegments::Keep => Vec::new(),
        };
        // If someone stored a segment again that the log removes, this segment is deleted only
        // after another one supersedes it.
        let any_to_name = !unreadable.is_empty() || segments.any_put_back();
        replaced.extend(unreadable);
        if picked.is_empty() && also.is_empty() && !any_to_name {
            return Ok(Rewritten {
                replaced,
                ..Rewritten::default()
            });
        }
        let mut rewriter = Rewriter::new(self, &still_valid);
        let mut named: HashSet<ObjectHash> = without.clone();
        for listing in also {
            named.insert(listing.pack);
            rewriter.add(listing)?;
        }
        let mut all = Vec::with_capacity(picked.len());
        for (segment, packs) in picked {
            still_valid()?;
            let mut listings = Vec::with_capacity(packs.len());
            for pack in packs {
                if !named.contains(&pack) {
                    listings.push(self.verified_listing(&pack)?);
                }
            }
            // Keep a segment if one of its packs cannot be read: only this segment lists the
            // content of the pack.
            let Some(listings) = listings.into_iter().collect::<Option<Vec<_>>>() else {
                continue;
            };
            for listing in listings {
                if named.insert(listing.pack) {
                    rewriter.add(listing)?;
                }
            }
            rewriter.superseded.push(segment);
            all.push(segment);
        }
        // The new segments also supersede those that the replaced ones superseded. Otherwise these
        // would count again after the replaced segments are deleted.
        rewriter.superseded.extend(&replaced);
        rewriter.store()?;
        let mut result = rewriter.result;
        result.replaced = replaced;
        result.replaced.extend(all);
        self.sync()?;
        Ok(result)
    }

    /// Stores segments that name these packs. The last one supersedes the segments in `superseded`.
    /// This client must have read all bytes of the packs, and no prune may delete them or replace
    /// segments meanwhile. `still_valid` is called before each segment is stored, as by
    /// [`rewrite_segments`](Self::rewrite_segments).
    pub fn replace_segments<E: From<RepoError>>(
        &self,
        superseded: Vec<ObjectHash>,
        packs: Vec<PackListing>,
        still_valid: impl Fn() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rewriter = Rewriter::new(self, &still_valid);
        for listing in packs {
            rewriter.add(listing)?;
        }
        rewriter.superseded = superseded;
        rewriter.store()
    }

    /// Returns a verified listing of a pack for a new segment, since other clients will rely on
    /// this segment. Takes the listing from the index if this client has read the whole pack, or if
    /// a segment of a full key names it. Otherwise reads the listing from the pack. If no segment
    /// of the pack's signer names the pack, reads the whole pack.
    ///
    /// Returns `None` if the pack is damaged or foreign, if it has an unknown version, or if the
    /// index does not know it.
    fn verified_listing(&self, pack: &ObjectHash) -> Result<Option<PackListing>, RepoError> {
        let authority = self.project.keys.authority();
        let named = self.query(|db| db.named(pack))?;
        let (Some(named), Some(listing)) = (named, self.listing(pack)?) else {
            return Ok(None);
        };
        if named.whole || named.signers.contains(authority) {
            return Ok(Some(listing));
        }
        let object = ObjectRef::of_pack(self.project.id, listing.contents.kind, *pack);
        let read = read_listing(&self.project, object, None).and_then(|listing| {
            // If no segment of the pack's signer names the pack, its runs may not be the ones that
            // this signer stored. So verify all bytes.
            if named.signers.contains(&listing.signer) {
                Ok(listing)
            } else {
                read_whole(&self.project, object)
            }
        });
        match read {
            Ok(listing) => Ok(Some(listing)),
            Err(
                RepoError::Damaged { .. }
                | RepoError::Foreign { .. }
                | RepoError::Unsupported { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores a segment and adds it to the index. Returns it, and the number of bytes of its body.
    /// All packs that it names must be durable.
    pub(crate) fn store_segment(
        &self,
        segment: IndexSegment,
    ) -> Result<(IndexSegment, u64), RepoError> {
        let body = segment.encode();
        let hash = self.project.put_encoded::<IndexSegment>(&body, |_| {})?;
        Ok((self.insert(hash, segment)?, body.len() as u64))
    }
}

/// Returns the segments to replace and their packs. The segments are in the order in which the
/// first pack of each was added to the database.
fn pick(
    db: &Db,
    segments: &EffectiveSegments,
    without: &HashSet<ObjectHash>,
) -> Result<Vec<(ObjectHash, Vec<ObjectHash>)>, StepError> {
    let (mut picked, mut small) = (Vec::new(), Vec::new());
    for row in segments.effective() {
        let packs = catch(|| db.pack_names(&row.packs))?;
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

impl<'i, E: From<RepoError>, S: Fn() -> Result<(), E>> Rewriter<'i, S> {
    fn new(index: &'i Index, still_valid: S) -> Self {
        Self {
            index,
            still_valid,
            packs: Vec::new(),
            blobs: 0,
            superseded: Vec::new(),
            result: Rewritten::default(),
        }
    }

    /// Adds a pack to the segment being filled.
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

    /// Stores the segment being filled.
    fn store(&mut self) -> Result<(), E> {
        (self.still_valid)()?;
        let segment = IndexSegment {
            packs: std::mem::take(&mut self.packs),
            superseded: std::mem::take(&mut self.superseded),
        };
        self.blobs = 0;
        let (_, bytes) = self.index.store_segment(segment)?;
        self.result.bytes_stored += bytes;
        Ok(())
    }
}
