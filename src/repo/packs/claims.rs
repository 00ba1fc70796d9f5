//! The ids that a run has taken upon itself to store.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::BlobId;

const SHARDS: usize = 16;

/// A set of ids that many threads ask at once.
#[derive(Default)]
pub(super) struct Claims([Mutex<HashSet<BlobId>>; SHARDS]);

impl Claims {
    fn shard(&self, id: &BlobId) -> MutexGuard<'_, HashSet<BlobId>> {
        let shard = &self.0[usize::from(id.as_bytes()[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody had claimed it.
    pub(super) fn claim(&self, id: BlobId) -> bool {
        self.shard(&id).insert(id)
    }

    pub(super) fn forget(&self, ids: impl IntoIterator<Item = BlobId>) {
        for id in ids {
            self.shard(&id).remove(&id);
        }
    }
}
