//! Finds the used blobs by a walk over all trees, and the used part of each pack.

use std::collections::{HashMap, HashSet};

use crate::base::{BlobId, ObjectHash, Phase, Progress, VolumeId};
use crate::format::{BlobKind, PackListing};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::ids::{ChunkKey, Ids, Key, NodeKey};
use crate::ops::walk_blobs::{BlobVisitor, walk_blobs};
use crate::repo::{BlobReader, Index, RepoError, RepoErrorKind};

/// The maximum number of nodes to read ahead. They take about 9 MiB.
pub(super) const BATCH: usize = 4096;
/// The bits in the note of a chunk that hold its class. This is the number of the first volume that
/// uses the chunk. Numbers begin at 1; 0 means unused.
const CLASS: u8 = 0x7f;
/// The class of chunks that are used, but not by a committed backup. The first volume has the same
/// number.
pub(super) const ANY_CLASS: u8 = 1;
/// The bit in the note of a chunk that is set if a pack keeps the chunk.
const KEPT: u8 = 0x80;
/// The bit in the note of a node that is set if the node is used. The other bits count the packs
/// that keep the node.
const USED: u8 = 0x80;

/// The used blobs of a project.
pub(super) struct Usage {
    chunks: Ids<ChunkKey>,
    nodes: Ids<NodeKey>,
    /// Used blobs that were in no pack when this table was made.
    others: HashSet<BlobId>,
    /// Chunks that only backups of write keys need, and that were in no pack when this table was
    /// made.
    lost_to_writers: HashSet<BlobId>,
    /// Nodes that a reader needs and that were in no pack when this table was made.
    held_elsewhere: HashSet<BlobId>,
    /// Used nodes that could not be read, so that the blobs below them are not known.
    unread: HashSet<BlobId>,
    /// Whether a blob that a reader needs is in no pack.
    lacks_held: bool,
    /// Packs whose blobs do not count for deduplication, since this client does not trust them.
    untrusted: HashSet<ObjectHash>,
    /// The number of each volume in the notes of chunks.
    volumes: HashMap<VolumeId, u8>,
    /// Packs with a used blob that enough other packs keep: see [`keep`](Self::keep).
    duplicates: Vec<ObjectHash>,
}

/// Whether a pack keeps a blob.
enum Keeps {
    /// The pack keeps it, for the volume with this number.
    Here(u8),
    /// The blob is used, and enough other packs keep it.
    Elsewhere,
    /// The blob is not used.
    Nowhere,
}

/// The used part of a pack: the used blobs that the pack keeps. Its other blobs count as unused.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackUse {
    pub(super) pack: ObjectHash,
    pub(super) kind: BlobKind,
    /// Bytes in the store.
    pub(super) size: u64,
    /// The part of these bytes that unused blobs take. The bytes of a run are shared among its
    /// blobs in proportion to their plain lengths.
    pub(super) unused: u64,
    /// The number of used blobs.
    pub(super) blobs: u64,
    /// The number of the volume that uses most of the pack; 0 for a pack of nodes. Means nothing if
    /// `blobs` is 0.
    pub(super) class: u8,
}

impl PackUse {
    pub(super) fn used(&self) -> u64 {
        self.size - self.unused
    }
}

impl Usage {
    /// Makes a table of all blobs of the index in packs that exist, and notes each blob as unused.
    /// Returns the table, and the packs of the index, oldest entries first.
    pub(super) fn new(
        index: &Index,
        exists: impl Fn(&ObjectHash) -> bool,
        context: &Context<'_>,
    ) -> Result<(Self, Vec<ObjectHash>), OpsError> {
        let state = index.state()?;
        let mut packs = Vec::new();
        let mut chunks = Vec::with_capacity(usize::try_from(state.blobs).unwrap_or_default());
        let mut nodes = Vec::new();
        let mut untrusted = HashSet::new();
        index.each_pack(|listing| {
            context.cancel.check()?;
            packs.push(listing.pack);
            if !index.may_rely_on(&listing)? {
                untrusted.insert(listing.pack);
            }
            let ids = listing.contents.blobs().map(|blob| &blob.id);
            match listing.contents.kind {
                _ if !exists(&listing.pack) => {}
                BlobKind::Chunk => chunks.extend(ids.map(ChunkKey::of)),
                BlobKind::Node => nodes.extend(ids.map(NodeKey::of)),
            }
            Ok(())
        })?;
        let usage = Self {
            chunks: Ids::new(chunks),
            nodes: Ids::new(nodes),
            others: HashSet::new(),
            lost_to_writers: HashSet::new(),
            held_elsewhere: HashSet::new(),
            unread: HashSet::new(),
            lacks_held: false,
            untrusted,
            volumes: HashMap::new(),
            duplicates: Vec::new(),
        };
        Ok((usage, packs))
    }

    /// Whether this client trusts that a pack holds the right content under each id.
    pub(super) fn trusts(&self, pack: &ObjectHash) -> bool {
        !self.untrusted.contains(pack)
    }

    /// Returns the number of a volume, for [`walk`](Self::walk). If there are more than 127
    /// volumes, some share a number.
    pub(super) fn class(&mut self, volume: VolumeId) -> u8 {
        let next = self.volumes.len() % usize::from(CLASS);
        let next = u8::try_from(next).unwrap_or_default() + 1;
        *self.volumes.entry(volume).or_insert(next)
    }

    /// Notes that this node and all blobs below it are used. Calls `new` for every blob that was
    /// not noted before. Does not enter nodes that were noted before, except those that could not
    /// be read then.
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
            new,
            damage: None,
        };
        walk_blobs(blobs, top, BATCH, context, &mut used)
    }

    /// Like [`walk`](Self::walk), but goes on after damage. Returns the first damage, or `None`. A
    /// later walk enters nodes again that were missing or could not be read.
    pub(super) fn walk_readable(
        &mut self,
        blobs: &BlobReader,
        top: BlobId,
        class: u8,
        context: &Context<'_>,
        new: &mut New<'_>,
    ) -> Result<Option<RepoError>, OpsError> {
        let mut damage = None;
        let mut used = MarkUsed {
            usage: self,
            class,
            new,
            damage: Some(&mut damage),
        };
        walk_blobs(blobs, top, BATCH, context, &mut used)?;
        Ok(damage)
    }

    /// Releases all blobs that are held for readers.
    pub(super) fn release(&mut self) {
        self.chunks.release();
        self.nodes.release();
        self.held_elsewhere.clear();
    }

    /// Holds this node and all blobs below it for a reader. All packs that have any of these blobs
    /// must stay, even if several packs have the same blob. Held blobs count as used. This function
    /// does not hold the blobs below damaged nodes, since the reader cannot read these blobs,
    /// either. So a held node may have blobs below it that are not held. A [`walk`](Self::walk) for
    /// a backup therefore also enters held nodes.
    pub(super) fn hold(
        &mut self,
        blobs: &BlobReader,
        top: BlobId,
        context: &Context<'_>,
    ) -> Result<(), OpsError> {
        walk_blobs(blobs, top, BATCH, context, &mut Hold { usage: self })
    }

    /// Returns whether a blob that a reader needs is in no pack.
    pub(super) fn lacks_held(&self) -> bool {
        self.lacks_held
    }

    /// Returns the used blobs that were in no pack when this table was made. After
    /// [`find_usage`](super::in_use::find_usage), these are the chunks that backups of full keys
    /// have lost.
    pub(super) fn lost(&self) -> &HashSet<BlobId> {
        &self.others
    }

    /// Returns whether any chunk is lost that a backup needs. Backups of write keys count, too.
    pub(super) fn lacks_chunks(&self) -> bool {
        !self.others.is_empty() || !self.lost_to_writers.is_empty()
    }

    /// Returns whether this chunk is lost: a backup needs it, and it was in no pack when this table
    /// was made.
    pub(super) fn is_lost(&self, chunk: &BlobId) -> bool {
        self.others.contains(chunk) || self.lost_to_writers.contains(chunk)
    }

    /// Returns whether a pack has a blob that is held.
    pub(super) fn is_held(&self, listing: &PackListing) -> bool {
        let mut blobs = listing.contents.blobs();
        match listing.contents.kind {
            BlobKind::Chunk => blobs.any(|blob| self.chunks.is_held(&blob.id)),
            BlobKind::Node => blobs.any(|blob| self.nodes.is_held(&blob.id)),
        }
    }

    /// Notes that a node is used. Returns whether the walk must enter it: it was not noted before,
    /// or could not be read then.
    fn node(&mut self, id: &BlobId, new: &mut New<'_>) -> Result<bool, RepoError> {
        match self.nodes.note(id) {
            Some(note) if *note & USED != 0 => return Ok(self.unread.contains(id)),
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

    /// Forgets which packs keep blobs, for another plan.
    pub(super) fn keep_nothing(&mut self) {
        self.chunks.change_notes(|note| *note &= CLASS);
        self.nodes.change_notes(|note| *note &= USED);
        self.duplicates.clear();
    }

    /// Returns the packs with a used blob that enough other packs keep. If [`keep`](Self::keep) got
    /// a pack with `settles` set, later packs with one of the same used chunks are in the result.
    pub(super) fn duplicates(&self) -> &[ObjectHash] {
        &self.duplicates
    }

    /// Lets a pack keep its used blobs, except those that enough packs of earlier calls keep. One
    /// pack is enough for a chunk. A node needs two packs. Returns how much of the pack
    /// is kept. If `settles` is false, this pack does not count, so packs of later calls keep these
    /// blobs, too.
    pub(super) fn keep(&mut self, listing: &PackListing, settles: bool) -> PackUse {
        let kind = listing.contents.kind;
        let mut classes = [0_u64; 128];
        let (mut unused, mut blobs) = (0, 0);
        let mut is_duplicate = false;
        for run in &listing.contents.runs {
            let mut plain = 0;
            for blob in &run.blobs {
                let class = match self.keep_blob(kind, &blob.id, settles) {
                    Keeps::Here(class) => class,
                    Keeps::Elsewhere => {
                        is_duplicate = true;
                        continue;
                    }
                    Keeps::Nowhere => continue,
                };
                classes[usize::from(class)] += u64::from(blob.plain_len);
                plain += u64::from(blob.plain_len);
                blobs += 1;
            }
            unused += u64::from(run.stored_len) - run.share(plain);
        }
        if is_duplicate {
            self.duplicates.push(listing.pack);
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

    fn keep_blob(&mut self, kind: BlobKind, id: &BlobId, settles: bool) -> Keeps {
        match kind {
            BlobKind::Chunk => {
                let held = self.chunks.is_held(id);
                let Some(note) = self.chunks.note(id) else {
                    return Keeps::Nowhere;
                };
                let class = match *note & CLASS {
                    0 if held => ANY_CLASS,
                    class => class,
                };
                let kept = *note & KEPT != 0;
                if settles {
                    *note |= KEPT;
                }
                match (class, kept) {
                    (0, _) => Keeps::Nowhere,
                    (_, true) => Keeps::Elsewhere,
                    (class, false) => Keeps::Here(class),
                }
            }
            BlobKind::Node => {
                let held = self.nodes.is_held(id);
                let Some(note) = self.nodes.note(id) else {
                    return Keeps::Nowhere;
                };
                if !held && *note & USED == 0 {
                    return Keeps::Nowhere;
                }
                if usize::from(*note & !USED) >= BlobKind::Node.copies() {
                    return Keeps::Elsewhere;
                }
                if settles {
                    *note += 1;
                }
                Keeps::Here(0)
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

    /// Returns whether a blob is used, no matter which pack keeps it. Returns false for a blob that
    /// was in no pack when this table was made.
    pub(super) fn is_used(&self, kind: BlobKind, id: &BlobId) -> bool {
        match kind {
            BlobKind::Chunk => {
                let noted = self.chunks.noted(id).is_some_and(|note| note & CLASS != 0);
                noted || self.chunks.is_held(id)
            }
            BlobKind::Node => {
                let noted = self.nodes.noted(id).is_some_and(|note| note & USED != 0);
                noted || self.nodes.is_held(id)
            }
        }
    }
}

/// Whether a used blob is in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Stored,
    Nowhere,
}

/// Called with every blob that is newly noted as used, and whether it is in a pack.
type New<'a> = dyn FnMut(BlobKind, &BlobId, Known) -> Result<(), RepoError> + 'a;

/// The walk that notes used blobs.
struct MarkUsed<'a, 'n> {
    usage: &'a mut Usage,
    class: u8,
    new: &'a mut New<'n>,
    /// Where to store the first damage. If this is `None`, the walk fails at any damage.
    damage: Option<&'a mut Option<RepoError>>,
}

impl MarkUsed<'_, '_> {
    /// Stores the error if it is the first damage. Fails if the walk tolerates no damage, or if the
    /// error is not about damage.
    fn go_on(&mut self, error: RepoError) -> Result<(), OpsError> {
        match &mut self.damage {
            Some(first) if error.kind() == RepoErrorKind::Damaged => {
                first.get_or_insert(error);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

impl BlobVisitor for MarkUsed<'_, '_> {
    fn enter(&mut self, node: &BlobId) -> Result<bool, OpsError> {
        match self.usage.node(node, self.new) {
            Ok(is_new) => Ok(is_new),
            Err(error) => {
                self.usage.others.remove(node);
                self.go_on(error)?;
                Ok(false)
            }
        }
    }

    fn is_wanted(&self, node: &BlobId) -> bool {
        !self.usage.is_node_used(node)
    }

    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError> {
        if let Err(error) = self.usage.chunk(chunk, self.class, self.new) {
            self.usage.others.remove(chunk);
            self.go_on(error)?;
            self.usage.lost_to_writers.insert(*chunk);
        }
        Ok(())
    }

    fn unreadable(&mut self, node: &BlobId, error: RepoError) -> Result<(), OpsError> {
        self.go_on(error)?;
        self.usage.unread.insert(*node);
        Ok(())
    }
}

/// The walk that holds the blobs of a tree for its reader.
struct Hold<'a> {
    usage: &'a mut Usage,
}

impl BlobVisitor for Hold<'_> {
    fn enter(&mut self, id: &BlobId) -> Result<bool, OpsError> {
        if self.usage.nodes.noted(id).is_none() {
            self.usage.lacks_held = true;
            return Ok(self.usage.held_elsewhere.insert(*id));
        }
        Ok(self.usage.nodes.hold(id))
    }

    fn is_wanted(&self, id: &BlobId) -> bool {
        !self.usage.nodes.is_held(id) && !self.usage.held_elsewhere.contains(id)
    }

    fn chunk(&mut self, id: &BlobId) -> Result<(), OpsError> {
        if self.usage.chunks.noted(id).is_none() {
            self.usage.lacks_held = true;
        }
        self.usage.chunks.hold(id);
        Ok(())
    }

    fn unreadable(&mut self, _: &BlobId, error: RepoError) -> Result<(), OpsError> {
        match error.kind() {
            RepoErrorKind::Damaged => Ok(()),
            _ => Err(error.into()),
        }
    }
}

/// Reports how many of the trees were walked.
pub(super) fn report_progress(context: &Context<'_>, done: usize, total: usize) {
    context.observer.progress(Progress {
        phase: Phase::Mark,
        done: done as u64,
        total: Some(total as u64),
    });
}
