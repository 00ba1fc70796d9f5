//! The packs in a store.

use std::collections::HashMap;

use crate::base::ObjectHash;
use crate::format::BlobKind;
use crate::repo::location::BlobLocation;

/// The kind and the hash of a pack. The kind determines in which directory the pack is.
pub(super) type PackName = (BlobKind, ObjectHash);

/// The packs that a listing of the store contained, with their sizes in bytes.
#[derive(Debug, Default)]
pub(super) struct StoredPacks(HashMap<PackName, u64>);

impl StoredPacks {
    /// Returns whether the pack exists, and is long enough for the blob.
    pub(super) fn hold(&self, location: &BlobLocation) -> bool {
        let size = self.0.get(&(location.kind(), location.pack()));
        size.is_some_and(|size| location.run_range().end <= *size)
    }

    /// Returns whether a pack with this hash, of either kind, exists and has at least this number
    /// of bytes.
    pub(super) fn has(&self, pack: &ObjectHash, bytes: u64) -> bool {
        let mut kinds = [BlobKind::Chunk, BlobKind::Node].into_iter();
        kinds.any(|kind| {
            self.0
                .get(&(kind, *pack))
                .is_some_and(|size| bytes <= *size)
        })
    }

    /// Adds packs with their sizes.
    pub(super) fn add(&mut self, packs: impl Iterator<Item = (PackName, u64)>) {
        self.0.extend(packs);
    }
}

impl FromIterator<(PackName, u64)> for StoredPacks {
    fn from_iter<I: IntoIterator<Item = (PackName, u64)>>(packs: I) -> Self {
        Self(packs.into_iter().collect())
    }
}
