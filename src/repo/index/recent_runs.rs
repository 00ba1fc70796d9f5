//! The runs that were found last. Blobs that were stored together are usually looked up together.
//! So most look-ups find the blob here, without a query of the database.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::base::BlobId;
use crate::repo::location::{BlobLocation, PlacedRun};

/// Maximum number of blobs in all kept runs. Each takes about 110 bytes of memory.
const BLOBS_MAX: usize = 128 << 10;

/// The runs that were found last. If they have too many blobs, the oldest runs are dropped.
#[derive(Default)]
pub(super) struct RecentRuns {
    runs: VecDeque<Arc<PlacedRun>>,
    by_id: HashMap<BlobId, BlobLocation>,
    blobs: usize,
}

impl RecentRuns {
    /// The place of a blob, if one of the runs holds it.
    pub(super) fn find(&self, id: &BlobId) -> Option<BlobLocation> {
        self.by_id.get(id).cloned()
    }

    /// Adds a run.
    pub(super) fn put(&mut self, run: &Arc<PlacedRun>) {
        self.blobs += run.run.blobs.len();
        for location in run.locations() {
            self.by_id.insert(location.blob().id, location);
        }
        self.runs.push_back(Arc::clone(run));
        while self.blobs > BLOBS_MAX && self.runs.len() > 1 {
            let Some(oldest) = self.runs.pop_front() else {
                break;
            };
            self.blobs -= oldest.run.blobs.len();
            for blob in &oldest.run.blobs {
                let still = |held: &BlobLocation| Arc::ptr_eq(held.placed(), &oldest);
                if self.by_id.get(&blob.id).is_some_and(still) {
                    self.by_id.remove(&blob.id);
                }
            }
        }
    }
}
