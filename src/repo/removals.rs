//! The objects that the log removes. Even if such an object exists, no process may rely on it: the
//! log already explains its absence, so nobody would notice if it vanished.

use std::sync::{Arc, RwLock};

use crate::base::{ObjectHash, read_lock, write_lock};
use crate::format::{LogItem, LogKind};

/// The objects that the log removed when it was read. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removals {
    /// The removed objects, in ascending order. Each item takes 33 bytes.
    items: Arc<Vec<LogItem>>,
}

/// The objects that the log removed when this process last read it or added an entry. `None` before
/// the log is read.
#[derive(Debug, Default)]
pub(super) struct KnownRemovals(RwLock<Option<Removals>>);

impl Removals {
    /// Makes a set of objects. `items` must be in ascending order.
    pub(super) fn new(items: Vec<LogItem>) -> Self {
        Self {
            items: Arc::new(items),
        }
    }

    /// Adds objects, in any order.
    pub(super) fn add(&mut self, items: &[LogItem]) {
        let all = Arc::make_mut(&mut self.items);
        all.extend(items);
        all.sort_unstable();
        all.dedup();
    }

    /// Returns whether the log removes this object.
    pub(super) fn has(&self, kind: LogKind, hash: ObjectHash) -> bool {
        self.items.binary_search(&LogItem { kind, hash }).is_ok()
    }

    /// Returns the hashes of the objects of this kind that the log removes, in ascending order.
    pub(super) fn of_kind(&self, kind: LogKind) -> impl Iterator<Item = ObjectHash> {
        let first = self.items.partition_point(|item| item.kind < kind);
        let rest = self.items[first..].iter();
        rest.take_while(move |item| item.kind == kind)
            .map(|item| item.hash)
    }

    /// Returns whether the log removes this index segment.
    pub(super) fn has_segment(&self, segment: &ObjectHash) -> bool {
        self.has(LogKind::Segment, *segment)
    }

    /// Returns whether the log removes this pack, of chunks or of nodes.
    pub(crate) fn has_pack(&self, pack: &ObjectHash) -> bool {
        let mut kinds = [LogKind::ChunkPack, LogKind::TreePack].into_iter();
        kinds.any(|kind| self.has(kind, *pack))
    }
}

impl KnownRemovals {
    /// Stores the objects that the log removes now.
    pub(super) fn note(&self, removals: &Removals) {
        *write_lock(&self.0) = Some(removals.clone());
    }

    /// Returns the stored objects, or `None` if this process has not read the log.
    pub(super) fn get(&self) -> Option<Removals> {
        read_lock(&self.0).clone()
    }
}
