//! Reads the records, trees and chunks of a repository that an attacker may have changed.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use cuttlebone::base::{BlobId, Cancelled, ChunkSize, LEAF_SIZE, Silent};
use cuttlebone::crypto::ProjectKeys;
use cuttlebone::format::{BlobKind, Children, ContentKind, Node, StreamEntry};
use cuttlebone::repo::{
    Backup, BlobReader, ChunkRef, ImageReader, ImageTree, Index, NodeReader, NodeStore, Opener,
    Records, RepoError, StreamTree, Top, compare_trees, leaf_chunks,
};

use super::reference;
use crate::fixture::Fixture;
use crate::texts::use_records;

/// Maximum number of nodes that a walk may read. A small graph of nodes can describe a tree that is
/// too large to walk.
const NODES_MAX: u32 = 512;
/// Maximum number of chunks that a walk may find.
const CHUNKS_MAX: usize = 2048;
/// Maximum number of chunks that are read.
const CHUNKS_READ: usize = 32;

/// Counts how much of a repository could be read, so that a test can assert that data was read.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Chunks that were found in trees.
    pub(crate) chunks: usize,
    /// Chunks that were opened.
    pub(crate) opened: usize,
    /// Backups whose trees are whole.
    pub(crate) whole: usize,
    /// Records that cannot be read.
    pub(crate) damaged: usize,
}

/// Reads at most [`NODES_MAX`] nodes. Discards nodes instead of storing them.
struct BoundedReader<'a> {
    blobs: &'a BlobReader,
    keys: &'a ProjectKeys,
    left: Cell<u32>,
}

impl NodeReader for BoundedReader<'_> {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        let left = self.left.get().checked_sub(1).ok_or(Cancelled)?;
        self.left.set(left);
        self.blobs.read(id)
    }
}

impl NodeStore for BoundedReader<'_> {
    fn store(&self, plain: &[u8]) -> Result<BlobId, RepoError> {
        assert!(
            Node::decode(plain).is_ok(),
            "the writer stored a node that the reader refuses"
        );
        Ok(self.keys.node_id(plain))
    }
}

/// Reads the first eight backups of the project, within the limits above.
pub(super) fn all(f: &Fixture) -> Reach {
    let mut reach = Reach::default();
    let Ok(records) = Records::load(&f.project) else {
        return reach;
    };
    reach.damaged = records.damaged().len();
    use_records(&records);
    let Ok(index) = Index::in_memory(&f.project, Arc::new(Silent)) else {
        return reach;
    };
    let blobs = BlobReader::new(&index);
    let reader = || BoundedReader {
        blobs: &blobs,
        keys: &f.keys,
        left: Cell::new(NODES_MAX),
    };
    let mut before: Option<Top> = None;
    for backup in records.all().iter().take(8) {
        let (chunks, whole) = walk(&blobs, backup);
        reach.chunks += chunks.len();
        reach.opened += read_chunks(&blobs, &chunks);
        reach.whole += usize::from(whole);
        match backup.record.content.kind {
            ContentKind::Image => {
                let top = backup.tree();
                use_image(&reader, backup, top, &chunks, whole);
                if let Some(before) = before.replace(top) {
                    let _ = compare_trees(&reader(), before, top, &mut |_| {
                        Ok::<_, RepoError>(ControlFlow::Continue(()))
                    });
                }
            }
            ContentKind::Stream => {
                let nodes = reader();
                let mut tree = StreamTree::new(&nodes);
                for chunk in chunks {
                    let (len, id) = (chunk.len.into(), Some(chunk.id));
                    tree.push(StreamEntry { len, id })
                        .expect("this only stores nodes, which cannot fail");
                }
                tree.finish()
                    .expect("this only stores nodes, which cannot fail");
            }
        }
    }
    let _ = index.each_pack(|_| Ok(()));
    let _ = index.state();
    reach
}

/// Returns the chunks of a backup, at most [`CHUNKS_MAX`], and whether these are all.
fn walk(blobs: &BlobReader, backup: &Backup) -> (Vec<ChunkRef>, bool) {
    let reader = ImageReader::new(blobs, backup);
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let mut left = NODES_MAX;
    let enter = |_: &BlobId| {
        left = left.saturating_sub(1);
        left > 0
    };
    let mut end = 0;
    let result = reader.each_chunk_but(enter, |chunk: ChunkRef| -> Result<(), RepoError> {
        assert!(chunk.offset >= end, "chunks are in ascending order");
        assert!(chunk.len > 0);
        end = chunk.offset + u64::from(chunk.len);
        assert!(end <= reader.size(), "a chunk ends within the content");
        if chunks.len() == CHUNKS_MAX {
            return Err(RepoError::from(Cancelled));
        }
        chunks.push(chunk);
        Ok(())
    });
    let whole = result.is_ok() && left > 0;
    let end = reader.check_end();
    assert!(
        end.is_ok() || !whole,
        "the walk accepted a tree that `check_end` refuses"
    );
    (chunks, whole)
}

/// Reads chunks as a restore does. Returns the number of chunks that could be decrypted.
fn read_chunks(blobs: &BlobReader, chunks: &[ChunkRef]) -> usize {
    let mut count = 0;
    let project = blobs.index().project();
    let mut opener = Opener::default();
    for chunk in chunks.iter().take(CHUNKS_READ) {
        let Ok(location) = blobs.locate(BlobKind::Chunk, &chunk.id) else {
            continue;
        };
        assert_eq!(location.blob().id, chunk.id);
        let mut stored = vec![0; location.run().stored_len as usize];
        let start = location.run_range().start;
        let found = blobs.fetch(&location, start, &mut stored).and_then(|()| {
            let run = opener.open_run(project, &location, &mut stored)?;
            assert_eq!(run.len(), location.run().plain_len());
            Opener::blob(project, &location, run).map(<[u8]>::to_vec)
        });
        // `BlobReader::chunk` tries all places of the chunk, beginning with this one.
        match (found, blobs.chunk(&chunk.id)) {
            (Ok(plain), Ok(again)) => {
                assert_eq!(plain, again);
                assert_eq!(plain.len(), location.blob().plain_len as usize);
                count += 1;
            }
            (Err(RepoError::Damaged { .. }), Ok(_) | Err(RepoError::Damaged { .. })) => {}
            (found, again) => panic!("{found:?} {again:?}"),
        }
    }
    count
}

/// Reads the tree of an image, and makes new trees from it.
fn use_image<'a>(
    reader: &impl Fn() -> BoundedReader<'a>,
    backup: &Backup,
    top: Top,
    chunks: &[ChunkRef],
    whole: bool,
) {
    let content = &backup.record.content;
    let chunk_size = u64::from(content.chunk_size);
    let width = ChunkSize::new(chunk_size)
        .expect("a loaded record has a valid chunk size")
        .per_leaf();
    for chunk in chunks.iter().step_by(7).take(16) {
        let leaf = chunk.offset / LEAF_SIZE;
        let number = (chunk.offset % LEAF_SIZE / chunk_size) as usize;
        let ids = leaf_chunks(&reader(), top, leaf, width).expect("the walk read this leaf");
        assert_eq!(ids[number], Some(chunk.id));
    }
    for leaf in [0, 63, 64, u64::MAX >> 22, u64::MAX] {
        let _ = leaf_chunks(&reader(), top, leaf, width);
    }

    // Compared with an empty tree, everything differs.
    let nothing = Top {
        id: None,
        level: top.level,
    };
    let mut different = Vec::new();
    let compared = compare_trees(&reader(), top, nothing, &mut |difference| {
        different.push(difference.leaf * LEAF_SIZE + difference.chunk as u64 * chunk_size);
        Ok::<_, RepoError>(ControlFlow::Continue(()))
    });
    if whole {
        compared.expect("the walk read the whole tree");
        let offsets: Vec<_> = chunks.iter().map(|chunk| chunk.offset).collect();
        assert_eq!(different, offsets);
    }

    let grown = content.size.saturating_mul(65).min(u64::MAX - LEAF_SIZE);
    for size in [content.size, content.size / 65, grown] {
        let store = reader();
        let Ok(tree) = ImageTree::new(&store, size, Some(top)) else {
            continue;
        };
        let finished = tree.finish();
        if whole && size == content.size {
            assert_eq!(
                finished.expect("the walk read the whole tree"),
                top.id,
                "an unchanged tree keeps its top node"
            );
        }
        let last = size.div_ceil(LEAF_SIZE).saturating_sub(1);
        let _ = rewrite(&store, size, top, last);
    }
}

/// Makes a tree with a new first and last leaf, and zeros between them.
fn rewrite(store: &BoundedReader<'_>, size: u64, base: Top, last: u64) -> Result<(), RepoError> {
    let mut plain = Vec::new();
    Children {
        level: 0,
        ids: vec![Some(reference(0))],
    }
    .encode_into(&mut plain);
    let leaf = Some(store.store(&plain)?);
    let mut tree = ImageTree::new(store, size, Some(base))?;
    tree.set(0, leaf)?;
    tree.clear(last / 3, last / 2)?;
    if last > 0 {
        tree.set(last, leaf)?;
    }
    tree.finish()?;
    Ok(())
}
