//! Walks over all trees, and tests whether each blob that a backup names exists.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::causes::Causes;
use super::task::CheckTask;
use crate::base::{BlobId, LEAF_SIZE, ObjectHash, Phase, Progress, to_usize};
use crate::format::{BlobKind, Children, Content, ContentKind, Node, StreamEntries};
use crate::ops::affected::{AffectedBackup, affected, holes};
use crate::ops::context::thread_pool;
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobLocation, BlobReader, ChunkRef, ContentTree, Index, NodeReader, ObjectRef, Records,
    RepoError, RepoErrorKind, Visitor, walk,
};

/// The maximum number of reads at the same time. Several are needed if each request to the store
/// takes long.
const READS: usize = 8;
/// Limits the number of nodes that are read ahead: in a valid tree, these nodes name at most this
/// number of blobs. The ids of these blobs take about 17 MiB.
const READ_AHEAD: usize = 1 << 19;
/// The maximum number of children of a branch.
const BRANCH_WIDTH: usize = 64;

/// The requirements of a place in a tree. A node may be in several places and be valid in
/// some of them only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// A node of this level, of an image whose chunks have this number of bytes.
    Image { level: u8, chunk_size: u32 },
    /// A node of a stream, of this level. `None` is the place of a top node, which may have any
    /// level.
    Stream { level: Option<u8> },
}

/// The result of the walk over a subtree.
#[derive(Clone, Copy)]
struct Verdict {
    /// Whether the node and everything below it are undamaged.
    whole: bool,
    /// The bytes that the node of a stream covers; 0 for an image.
    len: u64,
}

/// A node whose subtree is being walked, and the verdict so far.
struct Open {
    verdict: Verdict,
    /// For a branch of a stream: the lengths in bytes that it states for the nodes below it, in
    /// reverse order.
    stated: Vec<u64>,
}

/// A walk over all trees. It enters each node once for each of the node's places.
struct Walk<'a, 'r> {
    run: &'a CheckTask<'r>,
    index: &'a Index,
    verdicts: HashMap<(BlobId, Place), Verdict>,
    /// Nodes that are damaged, or that have damage below them.
    damaged: HashSet<BlobId>,
    /// The nodes above the current one, the top first.
    open: Vec<Open>,
    /// The place of the top node of the current tree.
    top: Place,
    /// The verdict on the top node, after the walk over its tree.
    result: Verdict,
    walked: Walked,
}

/// Reads many nodes at the same time, in its own threads.
struct PooledNodes<'a> {
    blobs: &'a BlobReader,
    pool: rayon::ThreadPool,
}

impl NodeReader for PooledNodes<'_> {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        self.blobs.read(id)
    }

    fn read_many(&self, ids: &[BlobId]) -> Result<Vec<Arc<Node>>, RepoError> {
        self.pool.install(|| self.blobs.read_many(ids))
    }
}

/// The findings of a walk.
#[derive(Default)]
pub(super) struct Walked {
    /// Packs that no segment names, but that hold needed blobs which no named pack has.
    pub(super) needed: BTreeMap<ObjectHash, ObjectRef>,
    /// Packs that the walk relied on although this check has not read them yet, with their sizes.
    pub(super) unread: BTreeMap<ObjectHash, (ObjectRef, u64)>,
    /// The damage of trees, and blobs that are missing or have the wrong length.
    pub(super) errors: Vec<RepoError>,
    /// Missing and damaged packs with blobs that trees name, if too few undamaged packs have these
    /// blobs.
    pub(super) missed: HashSet<ObjectHash>,
    /// Backups that cannot be restored completely.
    pub(super) affected: Vec<AffectedBackup>,
}

/// The result of a search for a chunk.
enum Found {
    /// It exists at this place, and is not known to be damaged.
    Whole(BlobLocation),
    /// It exists, but with this length in bytes, which is wrong for its place.
    OtherLength(u64),
    /// All packs that hold it are damaged or missing.
    Damaged,
    /// The index does not contain it.
    Unknown,
}

/// Walks over the trees of all backups.
pub(super) fn walk_trees(
    run: &CheckTask<'_>,
    index: &Arc<Index>,
    records: &Records,
) -> Result<Walked, OpsError> {
    let CheckTask { context, .. } = run;
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let nodes = PooledNodes {
        blobs: &blobs,
        pool: thread_pool(READS)?,
    };
    let mut walk = Walk {
        run,
        index,
        verdicts: HashMap::new(),
        damaged: HashSet::new(),
        open: Vec::new(),
        top: Place::Stream { level: None },
        result: WHOLE,
        walked: Walked::default(),
    };
    let total = records.all().len() as u64;
    for (done, backup) in (1..).zip(records.all()) {
        context.cancel.check()?;
        if !walk.backup(&nodes, backup)? {
            let affected = walk.affected(&nodes, backup)?;
            walk.walked.affected.push(affected);
        }
        let progress = Progress {
            phase: Phase::CheckStructure,
            done,
            total: Some(total),
        };
        context.observer.progress(progress);
    }
    Ok(walk.walked)
}

/// The verdict on a node as long as nothing below it was found damaged.
const WHOLE: Verdict = Verdict {
    whole: true,
    len: 0,
};
const DAMAGED: Verdict = Verdict {
    whole: false,
    len: 0,
};

impl Visitor for Walk<'_, '_> {
    type Place = Place;
    type Error = RepoError;

    fn enter(&mut self, id: &BlobId, place: &Place) -> Result<bool, RepoError> {
        if let Some(verdict) = self.verdicts.get(&(*id, *place)) {
            self.add(*verdict);
            return Ok(false);
        }
        self.run.context.cancel.check()?;
        self.note_unnamed(id)?;
        self.note_missed(id, BlobKind::Node.copies())?;
        Ok(true)
    }

    fn is_wanted(&self, id: &BlobId, level: u8) -> bool {
        let place = match self.top {
            Place::Image { chunk_size, .. } => Place::Image { level, chunk_size },
            Place::Stream { .. } => Place::Stream { level: Some(level) },
        };
        !self.verdicts.contains_key(&(*id, place))
    }

    fn visit(
        &mut self,
        id: &BlobId,
        node: &Node,
        place: &Place,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<ControlFlow<()>, RepoError> {
        let open = match (node, *place) {
            _ if !self.is_node_kept(id)? => Open::leaf(DAMAGED),
            (Node::Children(node), Place::Image { level, chunk_size })
                if node.level == level && (level > 0 || fills_leaf(node, chunk_size)) =>
            {
                self.children(node, chunk_size, below)?
            }
            (Node::Stream(node), Place::Stream { level })
                if level.is_none_or(|level| level == node.level) =>
            {
                self.entries(node, below)?
            }
            _ => {
                self.walked.errors.push(RepoError::Tree);
                Open::leaf(DAMAGED)
            }
        };
        self.open.push(open);
        Ok(ControlFlow::Continue(()))
    }

    fn leave(&mut self, id: &BlobId, place: &Place) -> Result<(), RepoError> {
        let verdict = self.open.pop().map_or(DAMAGED, |open| open.verdict);
        self.conclude(id, *place, verdict);
        Ok(())
    }

    fn unreadable(
        &mut self,
        id: &BlobId,
        place: &Place,
        error: RepoError,
    ) -> Result<(), RepoError> {
        if error.kind() != RepoErrorKind::Damaged {
            return Err(error);
        }
        self.walked.errors.push(error);
        self.conclude(id, *place, DAMAGED);
        Ok(())
    }
}

impl Open {
    /// Returns the state of a node that states no lengths for the nodes below it.
    fn leaf(verdict: Verdict) -> Self {
        Self {
            verdict,
            stated: Vec::new(),
        }
    }
}

impl Walk<'_, '_> {
    /// Walks over the trees of a backup. Returns whether they are whole.
    fn backup(&mut self, nodes: &PooledNodes<'_>, backup: &Backup) -> Result<bool, RepoError> {
        let mut whole = true;
        for content in backup.record.contents() {
            whole &= self.content(nodes, &content)?;
        }
        Ok(whole)
    }

    /// Walks over the tree of a content. Returns whether the tree is whole.
    fn content(&mut self, nodes: &PooledNodes<'_>, content: &Content) -> Result<bool, RepoError> {
        let Some(top) = content.top else {
            return Ok(true);
        };
        let tree = ContentTree::new(content.top, content);
        let mut widest = BRANCH_WIDTH;
        self.top = match content.kind {
            ContentKind::Image => {
                let chunk_size = content.chunk_size;
                widest = widest.max(to_usize(LEAF_SIZE / u64::from(chunk_size.max(1))));
                let level = tree.image_top().level;
                Place::Image { level, chunk_size }
            }
            ContentKind::Stream => {
                widest = widest.max(StreamEntries::MAX);
                Place::Stream { level: None }
            }
        };
        walk(nodes, top, self.top, READ_AHEAD / widest, self)?;
        let Verdict { whole, len } = self.result;
        let shape = match content.kind {
            ContentKind::Stream if whole && len != content.size => Err(RepoError::Tree),
            _ => tree.check_end(nodes.blobs),
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

    /// Remembers the verdict on a node, and adds it to the verdict on the node above it.
    fn conclude(&mut self, id: &BlobId, place: Place, verdict: Verdict) {
        if !verdict.whole {
            self.damaged.insert(*id);
        }
        self.verdicts.insert((*id, place), verdict);
        self.add(verdict);
    }

    /// Adds the verdict on a node to the verdict on the node above it.
    fn add(&mut self, verdict: Verdict) {
        let Some(above) = self.open.last_mut() else {
            self.result = verdict;
            return;
        };
        let fits = above.stated.pop().is_none_or(|len| len == verdict.len);
        if verdict.whole && !fits {
            self.walked.errors.push(RepoError::Tree);
        }
        above.verdict.whole &= verdict.whole && fits;
    }

    /// Checks the chunks of an image's leaf, or appends the nodes below a branch.
    fn children(
        &mut self,
        node: &Children,
        chunk_size: u32,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<Open, RepoError> {
        let mut verdict = WHOLE;
        for child in node.ids.iter().flatten() {
            match node.level.checked_sub(1) {
                // The last chunk has the full size, too, since it is padded with zeros.
                None => verdict.whole &= self.chunk(child, chunk_size.into())?,
                Some(level) => below.push((*child, Place::Image { level, chunk_size })),
            }
        }
        Ok(Open::leaf(verdict))
    }

    /// Checks the chunks of a stream's leaf, or appends the nodes below a branch.
    fn entries(
        &mut self,
        node: &StreamEntries,
        below: &mut Vec<(BlobId, Place)>,
    ) -> Result<Open, RepoError> {
        let mut verdict = WHOLE;
        let mut stated = Vec::new();
        for entry in &node.entries {
            verdict.len += entry.len;
            let Some(child) = &entry.id else { continue };
            match node.level.checked_sub(1) {
                None => verdict.whole &= self.chunk(child, entry.len)?,
                level => {
                    below.push((*child, Place::Stream { level }));
                    stated.push(entry.len);
                }
            }
        }
        stated.reverse();
        Ok(Open { verdict, stated })
    }

    /// Notes the packs of a blob if no segment names any of them.
    fn note_unnamed(&mut self, id: &BlobId) -> Result<(), RepoError> {
        if !self.run.unnamed.is_empty() {
            let project = self.run.project.id;
            let places = self.index.find_all_readable(id)?.into_iter();
            let places = places.map(|place| (place.pack(), place.object(project)));
            let places: Vec<_> = places.collect();
            // It is enough if a segment names one of the packs.
            let is_unnamed = |(pack, _): &(ObjectHash, _)| self.run.unnamed.contains(pack);
            if places.iter().all(is_unnamed) {
                self.walked.needed.extend(places);
            }
        }
        Ok(())
    }

    /// If fewer than `copies` packs hold a blob undamaged, notes the missing and damaged packs that
    /// have this blob according to the index. Packs that are going to be deleted do not count as
    /// copies.
    fn note_missed(&mut self, id: &BlobId, copies: usize) -> Result<(), RepoError> {
        let run = self.run;
        if run.missing.is_empty() && run.bad_packs.is_empty() && run.bad_runs.is_empty() {
            return Ok(());
        }
        let places = self.index.find_anywhere(id)?;
        let (bad, good): (Vec<_>, Vec<_>) = places.iter().partition(|at| run.is_lost(at));
        let good: HashSet<_> = good.iter().map(|at| at.pack()).collect();
        let stay = good.iter().filter(|pack| !run.marked.contains(*pack));
        if stay.count() < copies {
            let packs = bad.iter().map(|at| at.pack());
            self.walked.missed.extend(packs);
        }
        Ok(())
    }

    /// Returns whether a chunk of this length exists and is not known to be damaged.
    fn chunk(&mut self, id: &BlobId, len: u64) -> Result<bool, RepoError> {
        self.note_unnamed(id)?;
        match self.find_chunk(id, len)? {
            Found::Whole(at) => {
                if self.run.marked.contains(&at.pack()) {
                    self.note_missed(id, 1)?;
                }
                return self.rely_on(&at);
            }
            // Other steps report the damage of the packs.
            Found::Damaged => {}
            Found::Unknown => self.walked.errors.push(RepoError::Missing {
                kind: "chunk",
                id: *id,
            }),
            Found::OtherLength(found) => self.walked.errors.push(RepoError::WrongLength {
                id: *id,
                expected: len,
                found,
            }),
        }
        self.note_missed(id, 1)?;
        Ok(false)
    }

    /// Searches for a chunk of this length that is not known to be damaged.
    fn find_chunk(&self, id: &BlobId, len: u64) -> Result<Found, RepoError> {
        let run = self.run;
        let whole = |at: &&BlobLocation| self.is_whole(at, BlobKind::Chunk);
        let found = |location: &BlobLocation| u64::from(location.blob().plain_len);
        let first = self.index.find_readable(id)?;
        let stays = |at: &BlobLocation| !run.marked.contains(&at.pack());
        let first = first.filter(stays).filter(|at| whole(&at));
        if let Some(at) = first.filter(|at| found(at) == len) {
            return Ok(Found::Whole(at));
        }
        let mut places = self.places(id)?;
        let is_known = !places.is_empty() || !self.index.find_all_readable(id)?.is_empty();
        places.retain(|at| whole(&at));
        let other = places.first().map(found);
        Ok(match places.into_iter().find(|at| found(at) == len) {
            Some(at) => Found::Whole(at),
            None if !is_known => Found::Unknown,
            None => other.map_or(Found::Damaged, Found::OtherLength),
        })
    }

    /// Returns which parts of a damaged backup cannot be restored.
    fn affected(
        &self,
        nodes: &PooledNodes<'_>,
        backup: &Backup,
    ) -> Result<AffectedBackup, RepoError> {
        let causes = RefCell::new(Causes::default());
        let find = |attachment: Option<&str>, content: &Content| {
            let enter = |id: &BlobId| self.damaged.contains(id);
            let is_whole = |chunk: &ChunkRef| {
                let found = self.find_chunk(&chunk.id, chunk.plain_len.into())?;
                if matches!(found, Found::Whole(_)) {
                    return Ok(true);
                }
                let mut places = self.index.find_anywhere(&chunk.id)?;
                places.retain(|at| self.run.is_lost(at));
                causes.borrow_mut().add(&places, attachment, &chunk.range());
                Ok(false)
            };
            holes(nodes, content, enter, is_whole, |node, range, error| {
                // With any other error, no pack is the cause: a faulty writer made the node.
                if matches!(error, RepoError::Damaged { .. }) {
                    let places = self.index.find_anywhere(node)?;
                    causes.borrow_mut().add(&places, attachment, range);
                }
                Ok(())
            })
        };
        let mut affected = affected(backup, find)?;
        affected.causes = causes.into_inner().all();
        Ok(affected)
    }

    /// Returns the places of a blob. A prune deletes a marked pack if another existing pack has the
    /// blob, damaged or not. So returns marked packs only if no other pack has the blob.
    fn places(&self, id: &BlobId) -> Result<Vec<BlobLocation>, RepoError> {
        let find = || -> Result<Vec<BlobLocation>, RepoError> {
            let mut places = self.index.find_all_readable(id)?;
            places.retain(|at| !self.run.missing.contains(&at.pack()));
            Ok(places)
        };
        let mut places = find()?;
        if places.is_empty() {
            // Search again even if this resync found no packs: a resync of another thread may have
            // found them.
            self.index.resync()?;
            places = find()?;
        }
        let stays = |at: &BlobLocation| !self.run.marked.contains(&at.pack());
        if places.iter().any(stays) {
            places.retain(stays);
        }
        Ok(places)
    }

    /// Returns whether a blob is not known to be damaged in this place.
    fn is_whole(&self, at: &BlobLocation, kind: BlobKind) -> bool {
        at.kind() == kind && !self.run.is_damaged(at)
    }

    /// Returns whether a node that could be read has an undamaged copy that a prune does not
    /// delete.
    fn is_node_kept(&self, id: &BlobId) -> Result<bool, RepoError> {
        if self.run.bad_packs.is_empty() && self.run.bad_runs.is_empty() {
            return Ok(true);
        }
        let mut places = self.places(id)?.into_iter();
        Ok(places.any(|at| self.is_whole(&at, BlobKind::Node)))
    }

    /// If the check reads all data but has not read this pack yet, notes the pack. Returns true:
    /// until the pack is read, the blob counts as whole.
    fn rely_on(&mut self, at: &BlobLocation) -> Result<bool, RepoError> {
        let pack = at.pack();
        if self.run.reads_all
            && !self.run.read.contains(&pack)
            && let Some(listing) = self.index.listing(&pack)?
        {
            let size = listing.contents.pack_size();
            let object = at.object(self.run.project.id);
            self.walked.unread.insert(pack, (object, size));
        }
        Ok(true)
    }
}

/// Returns whether the number of chunks of a leaf is right for chunks of this size.
fn fills_leaf(leaf: &Children, chunk_size: u32) -> bool {
    leaf.ids.len() as u64 * u64::from(chunk_size) == LEAF_SIZE
}
