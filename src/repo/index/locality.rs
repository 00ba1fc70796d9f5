//! What was stored together is asked for together: the listings of the packs that were hit last.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Location;
use crate::base::{BlobId, ObjectHash};
use crate::format::{Entry, PACK_HEAD_LEN, PackListing};

/// A pack's listing with the offset of each blob.
#[derive(Debug)]
pub(super) struct LoadedPack {
    listing: PackListing,
    offsets: Vec<u32>,
}

impl LoadedPack {
    pub(super) fn new(listing: PackListing) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a pack has 256 MiB at most"
        )]
        let mut at = PACK_HEAD_LEN as u32;
        let offsets = listing
            .entries
            .iter()
            .map(|entry| {
                let offset = at;
                at = at.saturating_add(entry.stored_len);
                offset
            })
            .collect();
        Self { listing, offsets }
    }

    pub(super) fn location(&self, ordinal: u32) -> Option<Location> {
        let at = ordinal as usize;
        Some(Location {
            pack: self.listing.pack,
            nonce: self.listing.nonce,
            ordinal,
            offset: (*self.offsets.get(at)?).into(),
            entry: *self.listing.entries.get(at)?,
        })
    }

    fn entries(&self) -> &[Entry] {
        &self.listing.entries
    }

    fn pack(&self) -> ObjectHash {
        self.listing.pack
    }
}

/// Blobs in all listings that are kept: about 110 bytes each.
const ENTRIES_MAX: usize = 128 << 10;

/// The listings that were loaded last, first in, first out.
#[derive(Default)]
pub(super) struct Locality {
    packs: VecDeque<Arc<LoadedPack>>,
    by_id: HashMap<BlobId, (Arc<LoadedPack>, u32)>,
    entries: usize,
}

impl Locality {
    pub(super) fn find(&self, id: &BlobId) -> Option<Location> {
        let (pack, ordinal) = self.by_id.get(id)?;
        pack.location(*ordinal)
    }

    pub(super) fn put(&mut self, pack: Arc<LoadedPack>) {
        if self.packs.iter().any(|p| p.pack() == pack.pack()) {
            return;
        }
        self.entries += pack.entries().len();
        for (ordinal, entry) in (0u32..).zip(pack.entries()) {
            self.by_id.insert(entry.id, (Arc::clone(&pack), ordinal));
        }
        self.packs.push_back(pack);
        while self.entries > ENTRIES_MAX && self.packs.len() > 1 {
            let Some(oldest) = self.packs.pop_front() else {
                break;
            };
            self.entries -= oldest.entries().len();
            for entry in oldest.entries() {
                if self
                    .by_id
                    .get(&entry.id)
                    .is_some_and(|(pack, _)| Arc::ptr_eq(pack, &oldest))
                {
                    self.by_id.remove(&entry.id);
                }
            }
        }
    }
}
