//! What was stored together is asked for together: the contents of the packs that were hit last.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::base::{BlobId, ObjectHash};
use crate::format::{Blob, BlobKind, PACK_HEAD_LEN, PackListing, Run};

/// Where everything in a pack lies.
#[derive(Debug)]
pub struct PackMap {
    listing: PackListing,
    /// Of each run: where it begins in the pack, and the number of its first blob.
    runs: Vec<(u64, u32)>,
    blobs: u32,
}

/// Where a blob lies, and what it takes to open it.
#[derive(Debug, Clone)]
pub struct Location {
    pack: Arc<PackMap>,
    run: usize,
    blob: usize,
}

impl PackMap {
    /// Works out the places from the lengths.
    #[must_use]
    pub fn new(listing: PackListing) -> Self {
        let (mut offset, mut blobs) = (PACK_HEAD_LEN as u64, 0);
        let mut runs = Vec::with_capacity(listing.contents.runs.len());
        for run in &listing.contents.runs {
            runs.push((offset, blobs));
            offset += u64::from(run.stored_len);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a run has 1024 blobs at most"
            )]
            let count = run.blobs.len() as u32;
            blobs += count;
        }
        Self {
            listing,
            runs,
            blobs,
        }
    }

    /// The blob of this number, counted through all runs.
    #[must_use]
    pub fn location(self: &Arc<Self>, number: u32) -> Option<Location> {
        if number >= self.blobs {
            return None;
        }
        let run = self
            .runs
            .partition_point(|(_, first)| *first <= number)
            .checked_sub(1)?;
        let blob = (number - self.runs[run].1) as usize;
        Some(Location {
            pack: Arc::clone(self),
            run,
            blob,
        })
    }

    /// All blobs, in order.
    pub fn locations(self: &Arc<Self>) -> impl Iterator<Item = Location> {
        (0..self.blobs).filter_map(|number| self.location(number))
    }

    fn pack(&self) -> ObjectHash {
        self.listing.pack
    }

    fn ids(&self) -> impl Iterator<Item = BlobId> {
        self.listing.contents.blobs().map(|blob| blob.id)
    }
}

impl Location {
    /// In which pack.
    #[must_use]
    pub fn pack(&self) -> ObjectHash {
        self.pack.pack()
    }

    /// The pack's nonce.
    #[must_use]
    pub fn nonce(&self) -> [u8; 16] {
        self.pack.listing.nonce
    }

    /// What all blobs of the pack are.
    #[must_use]
    pub fn kind(&self) -> BlobKind {
        self.pack.listing.contents.kind
    }

    /// The ordinal of its run.
    #[must_use]
    pub fn run_number(&self) -> usize {
        self.run
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.pack.listing.contents.runs[self.run]
    }

    /// Where its run lies in the pack, in bytes.
    #[must_use]
    pub fn run_range(&self) -> Range<u64> {
        let start = self.pack.runs[self.run].0;
        start..start + u64::from(self.run().stored_len)
    }

    /// The blob.
    #[must_use]
    pub fn blob(&self) -> &Blob {
        &self.run().blobs[self.blob]
    }

    /// Where it lies in its opened run, in bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        let before = &self.run().blobs[..self.blob];
        let start: usize = before.iter().map(|blob| blob.plain_len as usize).sum();
        start..start + self.blob().plain_len as usize
    }
}

/// Blobs in all packs that are kept: about 110 bytes each.
const BLOBS_MAX: usize = 128 << 10;

/// The packs that were loaded last, first in, first out.
#[derive(Default)]
pub(super) struct Locality {
    packs: VecDeque<Arc<PackMap>>,
    by_id: HashMap<BlobId, (Arc<PackMap>, u32)>,
    blobs: usize,
}

impl Locality {
    pub(super) fn find(&self, id: &BlobId) -> Option<Location> {
        let (pack, number) = self.by_id.get(id)?;
        pack.location(*number)
    }

    pub(super) fn put(&mut self, pack: Arc<PackMap>) {
        if self.packs.iter().any(|p| p.pack() == pack.pack()) {
            return;
        }
        self.blobs += pack.blobs as usize;
        for (number, id) in (0..).zip(pack.ids()) {
            self.by_id.insert(id, (Arc::clone(&pack), number));
        }
        self.packs.push_back(pack);
        while self.blobs > BLOBS_MAX && self.packs.len() > 1 {
            let Some(oldest) = self.packs.pop_front() else {
                break;
            };
            self.blobs -= oldest.blobs as usize;
            for id in oldest.ids() {
                let still = self
                    .by_id
                    .get(&id)
                    .is_some_and(|(pack, _)| Arc::ptr_eq(pack, &oldest));
                if still {
                    self.by_id.remove(&id);
                }
            }
        }
    }
}
