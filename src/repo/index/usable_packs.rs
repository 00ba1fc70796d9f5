//! The packs in which an index finds blobs.

use std::collections::HashSet;

use super::stored_packs::{PackName, StoredPacks};
use crate::base::ObjectHash;
use crate::repo::location::BlobLocation;
use crate::repo::removals::Removals;

/// The packs in which blobs are found: all packs, except those that are known to be missing, too
/// short, excluded, or removed by the log. In the remaining packs, no blob is found in a run that
/// is known to be damaged.
#[derive(Default)]
pub(super) struct UsablePacks {
    /// The packs in the store; `None` until they are listed.
    present: Option<StoredPacks>,
    /// Packs that are going to be deleted, or may be deleted already.
    excluded: HashSet<ObjectHash>,
    /// Runs that are known to be damaged, by pack and ordinal.
    damaged: HashSet<(ObjectHash, u64)>,
    /// The objects that the log removes. Empty if the caller may rely on removed objects.
    removed: Removals,
}

impl UsablePacks {
    /// Whether a blob may be read from this location.
    pub(super) fn has(&self, location: &BlobLocation) -> bool {
        let pack = location.pack();
        let present = self.present.as_ref();
        present.is_none_or(|present| present.hold(location))
            && !self.excludes(&pack)
            && !self.is_damaged(location)
    }

    /// From now on, look-ups find no blob in these runs, given by pack and ordinal. They replace
    /// the damaged runs that were known before.
    pub(super) fn set_damaged(&mut self, runs: HashSet<(ObjectHash, u64)>) {
        self.damaged = runs;
    }

    /// From now on, look-ups also find no blob in these runs, given by pack and ordinal.
    pub(super) fn add_damaged(&mut self, runs: impl IntoIterator<Item = (ObjectHash, u64)>) {
        self.damaged.extend(runs);
    }

    /// Whether this place is in a run that is known to be damaged.
    pub(super) fn is_damaged(&self, location: &BlobLocation) -> bool {
        !self.damaged.is_empty()
            && self
                .damaged
                .contains(&(location.pack(), location.ordinal()))
    }

    /// From now on, only these packs count as present.
    pub(super) fn set_present(&mut self, packs: StoredPacks) {
        self.present = Some(packs);
    }

    /// From now on, look-ups also find no blob in these packs.
    pub(super) fn exclude(&mut self, packs: impl IntoIterator<Item = ObjectHash>) {
        self.excluded.extend(packs);
    }

    /// From now on, look-ups find no blob in the packs that the log removes.
    pub(super) fn set_removed(&mut self, removals: Removals) {
        self.removed = removals;
    }

    /// Undoes [`exclude`](Self::exclude) for these packs.
    pub(super) fn include(&mut self, packs: &[ObjectHash]) {
        self.excluded.retain(|pack| !packs.contains(pack));
    }

    /// Whether this pack is [excluded](Self::exclude), or removed by the log.
    pub(super) fn excludes(&self, pack: &ObjectHash) -> bool {
        self.excluded.contains(pack) || self.removed.has_pack(pack)
    }

    /// Notes packs that were just stored, with their sizes.
    pub(super) fn add(&mut self, packs: impl Iterator<Item = (PackName, u64)>) {
        if let Some(present) = &mut self.present {
            present.add(packs);
        }
    }
}
