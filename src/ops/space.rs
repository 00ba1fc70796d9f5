//! Measures the space in the store that some backups use, alone or together with other backups.

use std::collections::HashSet;

use super::context::{Context, thread_pool};
use super::error::OpsError;
use super::ids::{ChunkKey, Ids, Key, NodeKey};
use super::walk_blobs::{BlobVisitor, walk_blobs};
use crate::base::{BlobId, ObjectHash, Phase, Progress};
use crate::format::{BlobKind, Run};
use crate::repo::{
    Backup, BlobReader, Damage, Index, ObjectRef, Project, Records, RepoError, RepoErrorKind,
};

/// Maximum number of nodes that are read ahead: about 9 MiB.
const BATCH: usize = 4096;
/// This bit in the note of a blob means that one of our backups uses the blob: see [`Space`].
const OURS: u8 = 1;
/// This bit in the note of a blob means that another backup uses the blob.
const OTHERS: u8 = 2;
/// This bit in the note of a chunk means that the chunk was already counted in another pack.
const COUNTED: u8 = 4;

/// Bytes of packs, in four classes. A run (blobs that are compressed together) may have blobs of
/// several classes. Then each class counts a part of the run, in proportion to the uncompressed
/// bytes of its blobs. Our backups are those that the caller of [`space`] selects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes that only our backups use. They become free if all of our backups are removed.
    pub exclusive: u64,
    /// Bytes that our backups and other backups use.
    pub shared: u64,
    /// Bytes that only other backups use.
    pub others: u64,
    /// Bytes that no backup uses, in packs of the index. Copies of a chunk in further packs count
    /// as unused, too.
    pub unused: u64,
}

/// The space that backups use, and why parts of it could not be measured.
#[derive(Debug, Default)]
pub struct SpaceReport {
    /// The space, without lost packs, and without the parts of trees that could not be read.
    pub space: Space,
    /// The packs of the index that are missing in the store, or too short.
    pub lost: HashSet<ObjectHash>,
    /// Why parts of trees and lost packs could not be read.
    pub unread: Vec<RepoError>,
}

/// Measures the space that our backups and other backups use. `is_ours` selects our backups. Reads
/// the trees of all backups.
pub fn space(
    project: &Project,
    records: &Records,
    is_ours: impl Fn(&Backup) -> bool + Sync,
    context: &Context<'_>,
) -> Result<SpaceReport, OpsError> {
    let index = context.index(project)?;
    let pool = thread_pool(context.threads)?;
    let found = pool.install(|| {
        let mut notes = Notes::new(&index, context)?;
        let blobs = BlobReader::new(&index).stopped_by(context.cancel);
        let all = records.all();
        for (done, backup) in (1..).zip(all) {
            let bit = if is_ours(backup) { OURS } else { OTHERS };
            for top in backup.tops() {
                let mut marker = Marker {
                    notes: &mut notes,
                    bit,
                };
                walk_blobs(&blobs, top, BATCH, context, &mut marker)?;
            }
            context.observer.progress(Progress {
                phase: Phase::Mark,
                done,
                total: Some(all.len() as u64),
            });
        }
        let mut report = SpaceReport {
            lost: index.lost_packs()?.into_iter().collect(),
            unread: std::mem::take(&mut notes.unread),
            ..SpaceReport::default()
        };
        notes.measure(&index, &mut report, context)?;
        Ok(report)
    });
    index.close();
    found
}

/// Notes which backups use each blob of the index.
struct Notes {
    chunks: Ids<ChunkKey>,
    nodes: Ids<NodeKey>,
    /// Nodes that the index does not know, with the bit of the backups that use them.
    unknown: HashSet<(BlobId, u8)>,
    /// Why nodes could not be read.
    unread: Vec<RepoError>,
}

impl Notes {
    fn new(index: &Index, context: &Context<'_>) -> Result<Self, OpsError> {
        let (mut chunks, mut nodes) = (Vec::new(), Vec::new());
        index.each_pack(|listing| {
            context.cancel.check()?;
            let ids = listing.contents.blobs().map(|blob| &blob.id);
            match listing.contents.kind {
                BlobKind::Chunk => chunks.extend(ids.map(ChunkKey::of)),
                BlobKind::Node => nodes.extend(ids.map(NodeKey::of)),
            }
            Ok(())
        })?;
        Ok(Self {
            chunks: Ids::new(chunks),
            nodes: Ids::new(nodes),
            unknown: HashSet::new(),
            unread: Vec::new(),
        })
    }

    /// Measures the packs of the index except the lost ones, and adds the errors of these.
    fn measure(
        &mut self,
        index: &Index,
        report: &mut SpaceReport,
        context: &Context<'_>,
    ) -> Result<(), OpsError> {
        let SpaceReport {
            space,
            lost,
            unread,
        } = report;
        index.each_pack(|listing| {
            context.cancel.check()?;
            if lost.contains(&listing.pack) {
                let project = index.project().id;
                let object = ObjectRef::of_pack(project, listing.contents.kind, listing.pack);
                let source = Damage::Impossible("it is missing, or too short");
                unread.push(RepoError::Damaged { object, source });
                return Ok(());
            }
            let size = listing.contents.pack_size();
            let mut used = 0;
            for run in &listing.contents.runs {
                let [ours, shared, others] = self.plain(listing.contents.kind, run);
                for (plain, sum) in [
                    (ours, &mut space.exclusive),
                    (shared, &mut space.shared),
                    (others, &mut space.others),
                ] {
                    let stored = run.share(plain);
                    *sum += stored;
                    used += stored;
                }
            }
            // If any blob of a pack is used, the header of the pack and its list of blobs do not
            // count as unused.
            if used == 0 {
                space.unused += size;
            } else {
                let stored: u64 = listing
                    .contents
                    .runs
                    .iter()
                    .map(|r| u64::from(r.stored_len))
                    .sum();
                space.unused += stored.saturating_sub(used);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Returns three numbers of uncompressed bytes of a run: those that only our backups use, those
    /// that our backups and others use, and those that only others use. Counts a chunk only in the
    /// first pack that has it.
    fn plain(&mut self, kind: BlobKind, run: &Run) -> [u64; 3] {
        let mut plain = [0; 3];
        for blob in &run.blobs {
            let note = match kind {
                BlobKind::Chunk => self.chunks.note(&blob.id),
                BlobKind::Node => self.nodes.note(&blob.id),
            };
            let Some(note) = note else { continue };
            let class = match *note & (OURS | OTHERS) {
                OURS => 0,
                OTHERS => 2,
                0 => continue,
                _ => 1,
            };
            if kind == BlobKind::Chunk {
                if *note & COUNTED != 0 {
                    continue;
                }
                *note |= COUNTED;
            }
            plain[class] += u64::from(blob.plain_len);
        }
        plain
    }
}

/// The walk that notes the use of each blob.
struct Marker<'a> {
    notes: &'a mut Notes,
    bit: u8,
}

impl BlobVisitor for Marker<'_> {
    fn enter(&mut self, id: &BlobId) -> Result<bool, OpsError> {
        Ok(match self.notes.nodes.note(id) {
            Some(note) if *note & self.bit != 0 => false,
            Some(note) => {
                *note |= self.bit;
                true
            }
            None => self.notes.unknown.insert((*id, self.bit)),
        })
    }

    fn is_wanted(&self, id: &BlobId) -> bool {
        let note = self.notes.nodes.noted(id);
        note.is_none_or(|note| note & self.bit == 0)
    }

    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError> {
        if let Some(note) = self.notes.chunks.note(chunk) {
            *note |= self.bit;
        }
        Ok(())
    }

    fn unreadable(&mut self, _: &BlobId, error: RepoError) -> Result<(), OpsError> {
        match error.kind() {
            RepoErrorKind::Damaged => {
                self.notes.unread.push(error);
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}
