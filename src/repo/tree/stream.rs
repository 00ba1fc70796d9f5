//! The tree of a stream. Each node lists chunks, or nodes of the level below. The ids in the list
//! decide where a node ends, so that an insertion changes only the nodes near it.

use super::nodes::NodeStore;
use crate::base::BlobId;
use crate::format::{StreamEntries, StreamEntry};
use crate::repo::error::RepoError;

/// A node ends after an id that ends in six zero bits, if the node has at least [`ENTRIES_MIN`]
/// entries. It also ends when it has [`StreamEntries::MAX`] entries.
const CUT_MASK: u8 = 0x3f;
/// The minimum number of entries in a node that ends after such an id. Without this minimum, a
/// level could be as long as the level below.
const ENTRIES_MIN: usize = 8;

/// The tree of a stream that is being written, chunk by chunk.
pub struct StreamTree<'a, S> {
    store: &'a S,
    levels: Vec<Vec<StreamEntry>>,
}

impl<'a, S: NodeStore> StreamTree<'a, S> {
    /// Begins an empty tree.
    pub fn new(store: &'a S) -> Self {
        Self {
            store,
            levels: vec![Vec::new()],
        }
    }

    /// Appends a chunk, or a run of zeros.
    pub fn push(&mut self, chunk: StreamEntry) -> Result<(), RepoError> {
        self.push_at(0, chunk)
    }

    /// Stores the remaining nodes and returns the id of the top node. Returns `None` for an empty
    /// stream.
    pub fn finish(mut self) -> Result<Option<BlobId>, RepoError> {
        let mut level = 0;
        loop {
            let highest = level + 1 == self.levels.len();
            match (&self.levels[level][..], highest) {
                ([], true) => return Ok(None),
                ([top], true) if level > 0 => return Ok(top.id),
                ([], false) => {}
                _ => self.close(level)?,
            }
            level += 1;
        }
    }

    fn push_at(&mut self, level: usize, entry: StreamEntry) -> Result<(), RepoError> {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        let entries = &mut self.levels[level];
        entries.push(entry);
        let cut = entry.id.is_some_and(|id| id.as_bytes()[31] & CUT_MASK == 0);
        if entries.len() == StreamEntries::MAX || (cut && entries.len() >= ENTRIES_MIN) {
            self.close(level)?;
        }
        Ok(())
    }

    /// Stores the node that is open at this level and appends it to the level above.
    fn close(&mut self, level: usize) -> Result<(), RepoError> {
        let entries = std::mem::take(&mut self.levels[level]);
        let len = entries.iter().map(|entry| entry.len).sum();
        let mut plain = Vec::new();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "8^16 entries are beyond any stream"
        )]
        StreamEntries {
            level: level as u8,
            entries,
        }
        .encode_into(&mut plain);
        let id = Some(self.store.store(&plain)?);
        self.push_at(level + 1, StreamEntry { len, id })
    }
}
