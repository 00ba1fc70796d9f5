//! What is used: the walk over all trees, and what of each pack that makes.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::ids::{ChunkKey, Ids, Key, NodeKey};
use crate::base::{BlobId, ObjectHash, Phase, Progress, VolumeId};
use crate::format::{BlobKind, Node, PackListing, Run};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{BlobReader, Index, RepoError, RepoErrorKind, Visitor, children, walk};

/// Nodes that are read ahead at most: some 9 MiB.
const BATCH: usize = 4096;
/// In the note of a chunk: which volume used it first, from 1 on.
const CLASS: u8 = 0x7f;
/// The class of what no committed backup uses.
pub(super) const ANY_CLASS: u8 = 1;
/// In the note of a chunk: a pack keeps it.
const KEPT: u8 = 0x80;
/// In the note of a node: it is used.
const USED: u8 = 0x80;
/// A node is kept in so many packs.
const NODE_COPIES: u8 = 2;

/// Which of the blobs in a project are used.
pub(super) struct Usage {
    chunks: Ids<ChunkKey>,
    nodes: Ids<NodeKey>,
    /// Blobs that are used and not among these.
    others: HashSet<BlobId>,
    /// Something that a reader needs is in none of the packs.
    lacks_held: bool,
    /// Volumes by the number that chunks note of them.
    volumes: HashMap<VolumeId, u8>,
}

/// What of a pack is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackUse {
    pub(super) pack: ObjectHash,
    pub(super) kind: BlobKind,
    /// Bytes in the store.
    pub(super) size: u64,
    /// Of these, what is taken by blobs that nothing uses, by their share of their runs.
    pub(super) unused: u64,
    /// Blobs that are used.
    pub(super) blobs: u64,
    /// The volume that uses most of it, as a number.
    pub(super) class: u8,
}

impl PackUse {
    pub(super) fn used(&self) -> u64 {
        self.size - self.unused
    }
}

impl Usage {
    /// Of the blobs in the index's packs, as far as these are there. Which packs the index has, in order.
    pub(super) fn new(
        index: &Index,
        there: impl Fn(&ObjectHash) -> bool,
        context: &Context<'_>,
    ) -> Result<(Self, Vec<ObjectHash>), OpsError> {
        let state = index.state()?;
        let mut packs = Vec::new();
        let mut chunks = Vec::with_capacity(usize::try_from(state.blobs).unwrap_or_default());
        let mut nodes = Vec::new();
        index.each_pack(|listing| {
            context.cancel.check()?;
            packs.push(listing.pack);
            let ids = listing.contents.blobs().map(|blob| &blob.id);
            match listing.contents.kind {
                _ if !there(&listing.pack) => {}
                BlobKind::Chunk => chunks.extend(ids.map(ChunkKey::of)),
                BlobKind::Node => nodes.extend(ids.map(NodeKey::of)),
            }
            Ok(())
        })?;
        let usage = Self {
            chunks: Ids::new(chunks),
            nodes: Ids::new(nodes),
            others: HashSet::new(),
            lacks_held: false,
            volumes: HashMap::new(),
        };
        Ok((usage, packs))
    }

    /// The number of a volume, for [`walk`](Self::walk). Beyond 127 volumes some share one.
    pub(super) fn class(&mut self, volume: VolumeId) -> u8 {
        let next = self.volumes.len() % usize::from(CLASS);
        let next = u8::try_from(next).unwrap_or_default() + 1;
        *self.volumes.entry(volume).or_insert(next)
    }

    /// Notes that all below this node is used. Calls `new` for every blob of which that was not known. What
    /// was known to be used is not entered again.
    ///
    /// Fails if a blob is in none of the packs, unless `new` has an answer to that.
    pub(super) fn walk(
        &mut self,
        blobs: &BlobReader,
        top: BlobId,
        class: u8,
        context: &Context<'_>,
        new: &mut New<'_>,
    ) -> Result<(), OpsError> {
        let mut used = MarkUsed {
            usage: self,
            class,
            context,
            new,
        };
        walk(blobs, top, (), BATCH, &mut used)
    }

    /// Notes that all below this node is used, and holds it for a reader: no pack that has any of it may go, even if it
    /// is in another pack, too. Damaged nodes are left out, since the reader cannot read what is below them either.
    pub(super) fn hold(
        &mut self,
        blobs: &BlobReader,
        top: BlobId,
        context: &Context<'_>,
    ) -> Result<(), OpsError> {
        let mut held = Hold {
            usage: self,
            context,
        };
        walk(blobs, top, (), BATCH, &mut held)
    }

    /// Returns whether anything that a reader needs is in none of the packs.
    pub(super) fn lacks_held(&self) -> bool {
        self.lacks_held
    }

    /// Returns whether a pack has anything that is held.
    pub(super) fn is_held(&self, listing: &PackListing) -> bool {
        let mut blobs = listing.contents.blobs();
        match listing.contents.kind {
            BlobKind::Chunk => blobs.any(|blob| self.chunks.is_held(&blob.id)),
            BlobKind::Node => blobs.any(|blob| self.nodes.is_held(&blob.id)),
        }
    }

    /// Whether a node was not known to be used.
    fn node(&mut self, id: &BlobId, new: &mut New<'_>) -> Result<bool, RepoError> {
        match self.nodes.note(id) {
            Some(note) if *note & USED != 0 => return Ok(false),
            Some(note) => {
                *note |= USED;
                new(BlobKind::Node, id, Known::Stored)?;
            }
            None if !self.others.insert(*id) => return Ok(false),
            None => new(BlobKind::Node, id, Known::Nowhere)?,
        }
        Ok(true)
    }

    fn chunk(&mut self, id: &BlobId, class: u8, new: &mut New<'_>) -> Result<(), RepoError> {
        match self.chunks.note(id) {
            Some(note) if *note & CLASS != 0 => Ok(()),
            Some(note) => {
                *note |= class;
                new(BlobKind::Chunk, id, Known::Stored)
            }
            None if !self.others.insert(*id) => Ok(()),
            None => new(BlobKind::Chunk, id, Known::Nowhere),
        }
    }

    /// What of a pack is used and not kept by another one, which was asked about before. From now on it is this
    /// pack that keeps it.
    pub(super) fn keep(&mut self, listing: &PackListing) -> PackUse {
        let kind = listing.contents.kind;
        let mut classes = [0_u64; 128];
        let (mut unused, mut blobs) = (0, 0);
        for run in &listing.contents.runs {
            let mut plain = 0;
            for blob in &run.blobs {
                let Some(class) = self.keep_blob(kind, &blob.id) else {
                    continue;
                };
                classes[usize::from(class)] += u64::from(blob.plain_len);
                plain += u64::from(blob.plain_len);
                blobs += 1;
            }
            unused += u64::from(run.stored_len) - share(run, plain);
        }
        let size = listing.contents.pack_size();
        let most = (0..).zip(classes).max_by_key(|(_, plain)| *plain);
        PackUse {
            pack: listing.pack,
            kind,
            size,
            unused: if blobs == 0 { size } else { unused },
            blobs,
            class: most.map_or(0, |(class, _)| class),
        }
    }

    fn keep_blob(&mut self, kind: BlobKind, id: &BlobId) -> Option<u8> {
        match kind {
            BlobKind::Chunk => {
                let note = self.chunks.note(id)?;
                let class = *note & CLASS;
                let kept = *note & KEPT != 0;
                *note |= KEPT;
                (class != 0 && !kept).then_some(class)
            }
            BlobKind::Node => {
                let note = self.nodes.note(id)?;
                let keeps = *note & USED != 0 && *note & !USED < NODE_COPIES;
                if keeps {
                    *note += 1;
                }
                keeps.then_some(0)
            }
        }
    }

    /// Returns whether a node is known to be used.
    fn is_node_used(&self, id: &BlobId) -> bool {
        match self.nodes.noted(id) {
            Some(note) => note & USED != 0,
            None => self.others.contains(id),
        }
    }

    /// Whether a blob is used at all, by whichever pack it is kept.
    pub(super) fn is_used(&mut self, kind: BlobKind, id: &BlobId) -> bool {
        match kind {
            BlobKind::Chunk => self.chunks.note(id).is_some_and(|note| *note & CLASS != 0),
            BlobKind::Node => self.nodes.note(id).is_some_and(|note| *note & USED != 0),
        }
    }
}

/// Whether a blob that is used is in a pack that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Stored,
    Nowhere,
}

/// What a run takes in the store for the sake of so many of its plain bytes.
fn share(run: &Run, plain: u64) -> u64 {
    let all = run.plain_len() as u64;
    if plain == all {
        return u64::from(run.stored_len);
    }
    u64::from(run.stored_len) * plain / all.max(1)
}

/// Is told of every blob that turns out to be used, and whether it is in a pack.
type New<'a> = dyn FnMut(BlobKind, &BlobId, Known) -> Result<(), RepoError> + 'a;

/// The walk that notes what is used.
struct MarkUsed<'a, 'n> {
    usage: &'a mut Usage,
    class: u8,
    context: &'a Context<'a>,
    new: &'a mut New<'n>,
}

impl Visitor for MarkUsed<'_, '_> {
    type Place = ();
    type Error = OpsError;

    fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, OpsError> {
        Ok(self.usage.node(id, self.new)?)
    }

    fn is_wanted(&self, id: &BlobId) -> bool {
        !self.usage.is_node_used(id)
    }

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        (): &(),
        below: &mut Vec<(BlobId, ())>,
    ) -> Result<ControlFlow<()>, OpsError> {
        self.context.cancel.check()?;
        for child in children(node) {
            if node.level() > 0 {
                below.push((child, ()));
            } else {
                self.usage.chunk(&child, self.class, self.new)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The walk over a tree that is being read.
struct Hold<'a> {
    usage: &'a mut Usage,
    context: &'a Context<'a>,
}

impl Visitor for Hold<'_> {
    type Place = ();
    type Error = OpsError;

    fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, OpsError> {
        match self.usage.nodes.note(id) {
            Some(note) => *note |= USED,
            None => self.usage.lacks_held = true,
        }
        Ok(self.usage.nodes.hold(id))
    }

    fn is_wanted(&self, id: &BlobId) -> bool {
        !self.usage.nodes.is_held(id)
    }

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        (): &(),
        below: &mut Vec<(BlobId, ())>,
    ) -> Result<ControlFlow<()>, OpsError> {
        self.context.cancel.check()?;
        for child in children(node) {
            if node.level() > 0 {
                below.push((child, ()));
                continue;
            }
            match self.usage.chunks.note(&child) {
                Some(noted) if *noted & CLASS == 0 => *noted |= ANY_CLASS,
                Some(_) => {}
                None => self.usage.lacks_held = true,
            }
            self.usage.chunks.hold(&child);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn unreadable(&mut self, _: &BlobId, (): &(), error: RepoError) -> Result<(), OpsError> {
        match error.kind() {
            RepoErrorKind::Damaged => Ok(()),
            _ => Err(error.into()),
        }
    }
}

/// Tells how many of the trees were walked.
pub(super) fn tell(context: &Context<'_>, done: usize, total: usize) {
    context.observer.progress(Progress {
        phase: Phase::Mark,
        done: done as u64,
        total: Some(total as u64),
    });
}
