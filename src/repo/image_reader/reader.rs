//! Random access to the content of a backup.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use super::fetch::ChunkFetcher;
use super::run_cache::{OpenedRun, RunCache};
use crate::base::{BlobId, lock};
use crate::format::{BlobKind, Content, Node};
use crate::repo::backup::Backup;
use crate::repo::blobs::{BlobReader, Opener};
use crate::repo::error::{RepoError, RepoErrorKind};
use crate::repo::location::BlobLocation;
use crate::repo::tree::{ChunkRef, ContentPart, ContentTree, NodeReader, Top};

/// Maximum number of leaf nodes that a reader holds. Each takes some 2 KiB and lists the chunks of
/// 4 MiB.
const LEAVES_MAX: usize = 256;

/// Reads any range of one backup's content. Clones share their caches.
///
/// A reader borrows nothing, so a mount or a server can keep it as long as needed, and use it from
/// many threads. Opened runs are held in a [`RunCache`]. By default, all readers of the process
/// share one cache.
#[derive(Clone)]
pub struct ImageReader {
    nodes: HeldNodes,
    runs: Arc<RunCache>,
    tree: ContentTree,
}

/// A range of a content that consists of data or of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentExtent {
    /// Where it begins in the content, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Whether chunks are stored for it. If not, all its bytes are zero.
    pub is_data: bool,
}

impl ImageReader {
    /// Returns a reader of this backup.
    #[must_use]
    pub fn new(blobs: &BlobReader, backup: &Backup) -> Self {
        Self::of(blobs, &backup.record.content)
    }

    /// Returns a reader of this content of a backup: that of the volume, or an attachment.
    #[must_use]
    pub fn of(blobs: &BlobReader, content: &Content) -> Self {
        Self {
            nodes: HeldNodes {
                blobs: blobs.clone(),
                leaves: Arc::default(),
            },
            runs: RunCache::shared(),
            tree: ContentTree::new(content.top, content),
        }
    }

    /// Returns this reader, which then holds opened runs in this cache.
    #[must_use]
    pub fn with_cache(self, runs: &Arc<RunCache>) -> Self {
        Self {
            runs: Arc::clone(runs),
            ..self
        }
    }

    /// The content's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size
    }

    /// Returns the top node with its level. Call this only if the content is an image.
    #[must_use]
    pub fn top(&self) -> Top {
        self.tree.image_top()
    }

    /// Returns the reader of the project's blobs.
    #[must_use]
    pub fn blobs(&self) -> &BlobReader {
        &self.nodes.blobs
    }

    /// Calls `each` with every chunk that is not zero, in ascending order.
    pub fn each_chunk<E: From<RepoError>>(
        &self,
        each: impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_chunk_but(|_| true, each)
    }

    /// Like [`each_chunk`](Self::each_chunk), but leaves out each subtree for whose top node
    /// `enter` returns false.
    pub fn each_chunk_but<E: From<RepoError>>(
        &self,
        enter: impl FnMut(&BlobId) -> bool,
        mut each: impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        let each = |chunk| each(chunk).map(ControlFlow::Continue);
        self.tree.chunks(self.blobs(), 0..u64::MAX, enter, each)
    }

    /// Calls `each` with every chunk that is not zero. Also calls it with every range whose chunks
    /// are not known, because a node of the tree cannot be read. The calls are in ascending order.
    pub fn each_part<E: From<RepoError>>(
        &self,
        mut each: impl FnMut(ContentPart) -> Result<(), E>,
    ) -> Result<(), E> {
        let each = |part| each(part).map(ControlFlow::Continue);
        self.tree.parts(self.blobs(), 0..u64::MAX, |_| true, each)
    }

    /// Calls `each` with every chunk of a range that is not zero, in ascending order. The first and
    /// the last chunk may reach beyond the range. Reads only the nodes of the range.
    pub fn each_chunk_in<E: From<RepoError>>(
        &self,
        range: Range<u64>,
        mut each: impl FnMut(ChunkRef) -> Result<(), E>,
    ) -> Result<(), E> {
        let each = |chunk| each(chunk).map(ControlFlow::Continue);
        let tree = self.tree.naming_offsets(unreadable);
        tree.chunks(&self.nodes, range, |_| true, each)
    }

    /// Fails if an image's tree has nodes or chunks after the end of the image. Reads only the
    /// nodes at the end.
    pub fn check_end(&self) -> Result<(), RepoError> {
        self.tree.check_end(self.blobs())
    }

    /// Reads the content from `offset` on into `buf`. Returns the number of bytes that were read.
    /// This number is less than the length of `buf` only at the end of the content, and 0 after the
    /// end. Where no chunk is stored, the content is zero.
    ///
    /// Fails with [`RepoError::Unreadable`], which names the offset, if a chunk of the range or a
    /// tree node above it is damaged. The content of `buf` is then unspecified. Other ranges can
    /// still be read.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, RepoError> {
        let left = self.size().saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..len];
        if buf.is_empty() {
            return Ok(0);
        }
        let range = offset..offset + len as u64;
        let mut chunks = Vec::new();
        self.chunks(range.clone(), |chunk| chunks.push(chunk))?;
        let mut filled = offset;
        for chunk in &chunks {
            let wanted = overlap(&chunk.range(), &range);
            buf[part(&(filled..wanted.start), offset)].fill(0);
            filled = wanted.end;
        }
        buf[part(&(filled..range.end), offset)].fill(0);
        self.fill(&chunks, &range, buf)?;
        Ok(len)
    }

    /// Returns the extents of data and zeros in a range of the content, in ascending order and
    /// without gaps. Each chunk is either data or zeros as a whole. Reads only the nodes of the
    /// range.
    pub fn extents(&self, range: Range<u64>) -> Result<Vec<ContentExtent>, RepoError> {
        let range = range.start..range.end.min(self.size());
        let mut extents = Vec::new();
        let mut end = range.start;
        let mut add = |to: u64, is_data: bool, extents: &mut Vec<ContentExtent>| {
            let len = to.saturating_sub(end);
            match extents.last_mut() {
                _ if len == 0 => {}
                Some(last) if last.is_data == is_data => last.len += len,
                _ => extents.push(ContentExtent {
                    offset: end,
                    len,
                    is_data,
                }),
            }
            end = end.max(to);
        };
        self.chunks(range.clone(), |chunk| {
            let data = overlap(&chunk.range(), &range);
            add(data.start, false, &mut extents);
            add(data.end, true, &mut extents);
        })?;
        add(range.end, false, &mut extents);
        Ok(extents)
    }

    /// Calls `each` with every chunk of a range that is not zero, in ascending order.
    fn chunks(&self, range: Range<u64>, mut each: impl FnMut(ChunkRef)) -> Result<(), RepoError> {
        let each = |chunk| {
            each(chunk);
            Ok(ControlFlow::Continue(()))
        };
        let tree = self.tree.naming_offsets(unreadable);
        tree.chunks(&self.nodes, range, |_| true, each)
    }

    /// Copies these chunks into `buf`, which holds the content of `range`.
    ///
    /// Reads a run without the cache if all of its chunks are wanted and are completely in `range`.
    /// Uses the cache for other runs, since the rest of such a run is likely to be read next.
    fn fill(
        &self,
        chunks: &[ChunkRef],
        range: &Range<u64>,
        buf: &mut [u8],
    ) -> Result<(), RepoError> {
        let mut placed = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let place = self.blobs().locate(BlobKind::Chunk, &chunk.id);
            placed.push((place.map_err(|e| unreadable(chunk.offset, e))?, *chunk));
        }
        placed.sort_by_key(|(place, chunk)| (place.pack(), place.ordinal(), chunk.offset));
        let mut whole = Vec::new();
        for run in placed.chunk_by(|(a, _), (b, _)| same_run(a, b)) {
            if is_whole(run, range) {
                whole.extend(run.iter().map(|(_, chunk)| *chunk));
            } else {
                self.fill_from_cache(run, range, buf)?;
            }
        }
        whole.sort_unstable_by_key(|chunk| chunk.offset);
        self.fill_whole(&whole, range, buf)
    }

    /// Copies chunks of one run into `buf`, which holds the content of `range`.
    fn fill_from_cache(
        &self,
        chunks: &[(BlobLocation, ChunkRef)],
        range: &Range<u64>,
        buf: &mut [u8],
    ) -> Result<(), RepoError> {
        let [(first, _), ..] = chunks else {
            return Ok(());
        };
        let key = (
            self.blobs().index().project().id,
            first.pack(),
            first.ordinal(),
        );
        let run = match self.runs.get(key, || self.open(first)) {
            Ok(run) => Some(run),
            Err(RepoError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        for (place, chunk) in chunks {
            let in_run = run.as_ref().filter(|run| run.intact[place.number()]);
            let held = in_run.map(|run| &run.plain[place.range()]);
            let elsewhere;
            let plain = if let Some(plain) = held {
                plain
            } else {
                let read = self.blobs().chunk(&chunk.id);
                elsewhere = read.map_err(|e| unreadable(chunk.offset, e))?;
                &elsewhere
            };
            // The tree may state a wrong length for the chunk, if a faulty program wrote it.
            if plain.len() != chunk.plain_len as usize {
                return Err(unreadable(chunk.offset, RepoError::Tree));
            }
            let wanted = overlap(&chunk.range(), range);
            let from = &plain[part(&wanted, chunk.offset)];
            buf[part(&wanted, range.start)].copy_from_slice(from);
        }
        Ok(())
    }

    /// Reads and opens the run that holds a chunk.
    fn open(&self, place: &BlobLocation) -> Result<OpenedRun, RepoError> {
        let blobs = self.blobs();
        let project = blobs.index().project();
        let mut stored = vec![0; place.run().stored_len as usize];
        blobs.fetch(place, place.run_range().start, &mut stored)?;
        let mut plain = vec![0; place.run().plain_len()];
        Opener::default().open_run_into(project, place, &mut stored, &mut plain)?;
        let intact = place
            .all_in_run()
            .map(|blob| Opener::blob(project, &blob, &plain).is_ok());
        Ok(OpenedRun {
            intact: intact.collect(),
            plain: plain.into(),
        })
    }

    /// Copies chunks that are completely in `range` into `buf`, which holds the content of `range`.
    fn fill_whole(
        &self,
        chunks: &[ChunkRef],
        range: &Range<u64>,
        buf: &mut [u8],
    ) -> Result<(), RepoError> {
        let mut fetcher = ChunkFetcher::new(self.blobs());
        match fetcher.fetch(chunks, range.start, buf) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == RepoErrorKind::Damaged => {}
            Err(error) => return Err(error),
        }
        // Read the chunks one by one, to find out which of them is damaged.
        for chunk in chunks {
            let at = part(&chunk.range(), range.start);
            let read = fetcher.fetch(&[*chunk], range.start, &mut buf[..at.end]);
            read.map_err(|e| unreadable(chunk.offset, e))?;
        }
        Ok(())
    }
}

/// Reads nodes and caches some of them: branches in the blob reader, leaves here. Drops all leaves
/// when there are [`LEAVES_MAX`].
#[derive(Clone)]
struct HeldNodes {
    blobs: BlobReader,
    leaves: Arc<Mutex<HashMap<BlobId, Arc<Node>>>>,
}

impl NodeReader for HeldNodes {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        if let Some(node) = lock(&self.leaves).get(id) {
            return Ok(Arc::clone(node));
        }
        let node = self.blobs.node(id)?;
        if node.level() == 0 {
            let mut leaves = lock(&self.leaves);
            if leaves.len() >= LEAVES_MAX {
                leaves.clear();
            }
            leaves.insert(*id, Arc::clone(&node));
        }
        Ok(node)
    }
}

fn same_run(a: &BlobLocation, b: &BlobLocation) -> bool {
    (a.pack(), a.ordinal()) == (b.pack(), b.ordinal())
}

/// Whether these are all chunks of their run, and all of them are completely in `range`.
fn is_whole(run: &[(BlobLocation, ChunkRef)], range: &Range<u64>) -> bool {
    let covered = |chunk: &ChunkRef| overlap(&chunk.range(), range) == chunk.range();
    let [(place, _), ..] = run else { return false };
    let blobs = place.run().blobs.len();
    run.len() >= blobs && run.iter().all(|(_, chunk)| covered(chunk))
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// Returns the position of a range in a buffer that holds the content from `start` on.
fn part(range: &Range<u64>, start: u64) -> Range<usize> {
    let at = |n: u64| usize::try_from(n - start).unwrap_or(usize::MAX);
    at(range.start)..at(range.end)
}

/// Adds the place in the content to an error that reports damage. Returns other errors unchanged.
fn unreadable(offset: u64, error: RepoError) -> RepoError {
    match error.kind() {
        RepoErrorKind::Damaged => RepoError::Unreadable {
            offset,
            source: Box::new(error),
        },
        _ => error,
    }
}
