//! The walk over all trees: whether each blob that a backup names is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::task::CheckTask;
use crate::base::{BlobId, LEAF_SIZE, ObjectHash, Phase, Progress, to_usize};
use crate::format::{BlobKind, Children, ContentKind, Node, StreamEntries};
use crate::ops::context::thread_pool;
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobLocation, BlobReader, ImageReader, Index, NodeReader, Records, RepoError,
    RepoErrorKind, fetch_nodes,
};

/// So many reads go at once: the store may be far away.
const READS: usize = 8;
/// No more nodes are read ahead than name so many blobs in a tree that is as it should be: 17 MiB.
const READ_AHEAD: usize = 1 << 19;

/// What belongs into a place of a tree. A node may stand in several places and be right in some of
/// them only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// A node of this level, of an image whose chunks have so many bytes.
    Image { level: u8, chunk_size: u32 },
    /// A node of this level of a stream; whichever it is at the top.
    Stream { level: Option<u8> },
}

/// A walk over all trees that enters each node once for each place that it has.
struct Walk<'a, 'r> {
    run: &'a CheckTask<'r>,
    index: &'a Index,
    blobs: &'a BlobReader,
    pool: rayon::ThreadPool,
    /// Nodes that were read together, before the walk came to them.
    ready: HashMap<BlobId, Arc<Node>>,
    /// Returns whether a node and everything below it are undamaged, and how many bytes a stream's
    /// node spans.
    verdicts: HashMap<(BlobId, Place), (bool, u64)>,
    walked: Walked,
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Walked {
    /// Packs that no segment names, and blobs that lie nowhere else are needed.
    pub(super) needed: BTreeSet<ObjectHash>,
    /// Packs that the walk relied on and that should have been read before, with their sizes.
    pub(super) unread: BTreeMap<ObjectHash, u64>,
    pub(super) errors: Vec<RepoError>,
    /// Backups that cannot be restored whole.
    pub(super) affected: Vec<ObjectHash>,
}

/// Walks over the trees of all backups.
pub(super) fn walk(
    run: &CheckTask<'_>,
    index: &Arc<Index>,
    records: &Records,
) -> Result<Walked, OpsError> {
    let CheckTask { context, .. } = run;
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let mut walk = Walk {
        run,
        index,
        blobs: &blobs,
        pool: thread_pool(READS)?,
        ready: HashMap::new(),
        verdicts: HashMap::new(),
        walked: Walked::default(),
    };
    let total = records.all().len() as u64;
    for (done, backup) in (1..).zip(records.all()) {
        context.cancel.check()?;
        if !walk.backup(backup)? {
            walk.walked.affected.push(backup.id);
        }
        walk.ready.clear();
        let progress = Progress {
            phase: Phase::CheckStructure,
            done,
            total: Some(total),
        };
        context.observer.progress(progress);
    }
    Ok(walk.walked)
}

impl Walk<'_, '_> {
    /// Whether the backup is whole.
    fn backup(&mut self, backup: &Backup) -> Result<bool, RepoError> {
        let Some(top) = backup.top else {
            return Ok(true);
        };
        let content = &backup.record.content;
        let place = match content.kind {
            ContentKind::Image => Place::Image {
                level: backup.tree().level,
                chunk_size: content.chunk_size,
            },
            ContentKind::Stream => Place::Stream { level: None },
        };
        let (whole, len) = self.node(&top, place)?;
        let shape = match content.kind {
            ContentKind::Stream if whole && len != content.size => Err(RepoError::Tree),
            _ => ImageReader::new(self.blobs, backup).check_end(),
        };
        match shape {
            Ok(()) => Ok(whole),
            Err(error) if error.kind() == RepoErrorKind::Damaged => {
                if whole {
                    self.walked.errors.push(error);
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a node and all below it are whole; and the bytes it spans, if it is a stream's.
    fn node(&mut self, id: &BlobId, place: Place) -> Result<(bool, u64), RepoError> {
        if let Some(verdict) = self.verdicts.get(&(*id, place)) {
            return Ok(*verdict);
        }
        self.run.context.cancel.check()?;
        self.look_at(id)?;
        let read = match self.ready.remove(id) {
            Some(node) => Ok(node),
            None => self.blobs.read(id),
        };
        let verdict = match read {
            Ok(_) if !self.is_node_kept(id)? => (false, 0),
            Ok(node) => self.below(&node, place)?,
            Err(error) if error.kind() == RepoErrorKind::Damaged => {
                self.walked.errors.push(error);
                (false, 0)
            }
            Err(error) => return Err(error),
        };
        self.verdicts.insert((*id, place), verdict);
        Ok(verdict)
    }

    fn below(&mut self, node: &Node, place: Place) -> Result<(bool, u64), RepoError> {
        match (node, place) {
            (Node::Children(node), Place::Image { level, chunk_size })
                if node.level == level && (level > 0 || fills_leaf(node, chunk_size)) =>
            {
                Ok((self.children(node, chunk_size)?, 0))
            }
            (Node::Stream(node), Place::Stream { level })
                if level.is_none_or(|level| level == node.level) =>
            {
                self.entries(node)
            }
            _ => {
                self.walked.errors.push(RepoError::Tree);
                Ok((false, 0))
            }
        }
    }

    /// Whether all that an image's node names is whole.
    fn children(&mut self, node: &Children, chunk_size: u32) -> Result<bool, RepoError> {
        self.read_ahead(node, chunk_size)?;
        let mut whole = true;
        for child in node.ids.iter().flatten() {
            whole &= match node.level.checked_sub(1) {
                // Also the last one: it is filled up with zeros.
                None => self.chunk(child, chunk_size.into())?,
                Some(level) => self.node(child, Place::Image { level, chunk_size })?.0,
            };
        }
        Ok(whole)
    }

    /// Whether all that a stream's node names is whole, and the bytes that it spans.
    fn entries(&mut self, node: &StreamEntries) -> Result<(bool, u64), RepoError> {
        let mut whole = true;
        let mut total = 0;
        for entry in &node.entries {
            total += entry.len;
            let Some(child) = &entry.id else { continue };
            whole &= match node.level.checked_sub(1) {
                None => self.chunk(child, entry.len)?,
                level => {
                    let (whole, len) = self.node(child, Place::Stream { level })?;
                    if whole && len != entry.len {
                        self.walked.errors.push(RepoError::Tree);
                    }
                    whole && len == entry.len
                }
            };
        }
        Ok((whole, total))
    }

    /// Notes where a blob lies, if no segment names that.
    fn look_at(&mut self, id: &BlobId) -> Result<(), RepoError> {
        if !self.run.unnamed.is_empty() {
            let places = self
                .index
                .find_all(id)?
                .into_iter()
                .map(|place| place.pack());
            let places: Vec<_> = places.collect();
            // It is enough if one of them is named.
            if places.iter().all(|pack| self.run.unnamed.contains(pack)) {
                self.walked.needed.extend(places);
            }
        }
        Ok(())
    }

    /// Reads the nodes below a node of an image together, within a limit, to save round trips.
    fn read_ahead(&mut self, node: &Children, chunk_size: u32) -> Result<(), RepoError> {
        if node.level == 0 {
            return Ok(());
        }
        let in_leaf = to_usize(LEAF_SIZE / u64::from(chunk_size.max(1)));
        let widest = in_leaf.max(node.ids.len());
        let mut ids: Vec<BlobId> = node.ids.iter().flatten().copied().collect();
        for level in (0..node.level).rev().take(2) {
            let place = Place::Image { level, chunk_size };
            ids.retain(|id| !self.verdicts.contains_key(&(*id, place)));
            ids.sort_unstable();
            ids.dedup();
            if ids.len().saturating_mul(widest) > READ_AHEAD {
                break;
            }
            let unread = ids.iter().filter(|id| !self.ready.contains_key(*id));
            let unread: Vec<_> = unread.copied().collect();
            match self.pool.install(|| fetch_nodes(self.blobs, &unread)) {
                Ok(nodes) => self.ready.extend(unread.into_iter().zip(nodes)),
                // The walk will say which.
                Err(error) if error.kind() == RepoErrorKind::Damaged => break,
                Err(error) => return Err(error),
            }
            let nodes = ids.iter().filter_map(|id| match &**self.ready.get(id)? {
                Node::Children(node) if node.level > 0 => Some(node.ids.clone()),
                _ => None,
            });
            ids = nodes.flatten().flatten().collect();
        }
        Ok(())
    }

    /// Whether a chunk of this length is there.
    fn chunk(&mut self, id: &BlobId, len: u64) -> Result<bool, RepoError> {
        self.look_at(id)?;
        let run = self.run;
        let whole = |at: &&BlobLocation| self.is_whole(at, BlobKind::Chunk);
        let found = |location: &BlobLocation| u64::from(location.blob().plain_len);
        let first = self.index.find(id)?;
        let stays = |at: &&BlobLocation| !run.marked.contains(&at.pack());
        let first = first.iter().filter(stays).find(whole);
        if let Some(at) = first.filter(|at| found(at) == len) {
            return self.rely_on(at);
        }
        let places = self.places(id)?;
        let is_known = !places.is_empty() || !self.index.find_all(id)?.is_empty();
        let whole: Vec<_> = places.iter().filter(whole).collect();
        if let Some(at) = whole.iter().find(|at| found(at) == len) {
            return self.rely_on(at);
        }
        // What is wrong with packs has been told.
        if !is_known {
            self.walked.errors.push(RepoError::Missing {
                kind: "chunk",
                id: *id,
            });
        } else if let [at, ..] = whole[..] {
            self.walked.errors.push(RepoError::WrongLength {
                id: *id,
                expected: len,
                found: found(at),
            });
        }
        Ok(false)
    }

    /// Returns the locations of a blob. A prune deletes a marked pack if another existing pack has
    /// the blob, damaged or not. So a marked pack counts only if there is no other.
    fn places(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let find = || -> Result<Vec<BlobLocation>, RepoError> {
            let mut places = self.index.find_all(id)?;
            places.retain(|at| !self.run.gone.contains(&at.pack()));
            Ok(places)
        };
        let mut places = find()?;
        if places.is_empty() {
            // Another thread's resync may have found them, so look again in any case.
            self.index.resync()?;
            places = find()?;
        }
        let stays = |at: &BlobLocation| !self.run.marked.contains(&at.pack());
        if places.iter().any(stays) {
            places.retain(stays);
        }
        Ok(places)
    }

    /// Whether it is not known to be damaged there.
    fn is_whole(&self, at: &BlobLocation, kind: BlobKind) -> bool {
        at.kind() == kind
            && !self.run.bad_packs.contains(&at.pack())
            && !self.run.bad_runs.contains(&(at.pack(), at.ordinal()))
    }

    /// Whether a node that could be read will stay so.
    fn is_node_kept(&self, id: &BlobId) -> Result<bool, RepoError> {
        if self.run.bad_packs.is_empty() && self.run.bad_runs.is_empty() {
            return Ok(true);
        }
        let mut places = self.places(id)?.into_iter();
        Ok(places.any(|at| self.is_whole(&at, BlobKind::Node)))
    }

    /// Notes the pack, if it should have been read and was not. That the blob is there, as far as
    /// is known by now.
    fn rely_on(&mut self, at: &BlobLocation) -> Result<bool, RepoError> {
        let pack = at.pack();
        if self
            .run
            .read
            .as_ref()
            .is_some_and(|read| !read.contains(&pack))
            && let Some(listing) = self.index.listing(&pack)?
        {
            let size = listing.contents.pack_size();
            self.walked.unread.insert(pack, size);
        }
        Ok(true)
    }
}

/// Whether a leaf is as long as a leaf is with chunks of this size.
fn fills_leaf(leaf: &Children, chunk_size: u32) -> bool {
    leaf.ids.len() as u64 * u64::from(chunk_size) == LEAF_SIZE
}
