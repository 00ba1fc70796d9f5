//! Copies the content of an image.

use std::ops::{ControlFlow, Range};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::base::CopyBase;
use crate::base::{LEAF_SIZE, lock, to_usize};
use crate::format::ContentKind;
use crate::ops::backup::coverage::Coverage;
use crate::ops::backup::image::show_progress;
use crate::ops::backup::image_spec::ImageSpec;
use crate::ops::backup::leaves::{LeafProducer, store_leaves};
use crate::ops::backup::task::{BackupTask, Stored};
use crate::ops::error::OpsError;
use crate::ops::pipeline::{Failed, StageError};
use crate::repo::{
    Backup, BlobReader, ChunkFetcher, ChunkRef, ImageReader, RepoError, RepoErrorKind, Top,
    compare_trees, leaf_chunks,
};
use crate::volume::Gaps;

/// Copies the content of an image. With a base, reads only the parts that differ from it.
pub(super) fn copy_image(
    task: &BackupTask<'_>,
    from: &BlobReader,
    backup: &Backup,
    base: Option<&CopyBase<'_>>,
) -> Result<Stored, OpsError> {
    let image = SourceImage::new(task, from, backup)?;
    let spec = ImageSpec {
        size: image.size,
        base: base.map(|base| base.copy.tree()),
        gaps: Gaps::Unchanged,
    };
    let fetchers = Mutex::new(Vec::new());
    let top = store_leaves(
        task,
        &spec,
        &Failed::default(),
        |leaves| image.send_different(base, leaves),
        |leaf, coverage, (), buf| {
            let fetcher = lock(&fetchers).pop();
            let mut fetcher = fetcher.unwrap_or_else(|| ChunkFetcher::new(from));
            buf.resize(to_usize(LEAF_SIZE));
            image.fill(leaf, coverage, &mut fetcher, buf)?;
            lock(&fetchers).push(fetcher);
            Ok(())
        },
        show_progress(task, image.size),
    )?;
    Ok(Stored {
        kind: ContentKind::Image,
        size: image.size,
        top,
    })
}

/// An image in the source project.
struct SourceImage<'a> {
    task: &'a BackupTask<'a>,
    from: &'a BlobReader,
    backup: &'a Backup,
    /// The size of the image, in bytes.
    size: u64,
    /// The size of its chunks, in bytes.
    chunk_size: u32,
    /// The chunk size of the source or of the target, whichever is larger, in bytes.
    grid: usize,
}

impl<'a> SourceImage<'a> {
    /// Fails if the tree has chunks after the end of the image.
    fn new(
        task: &'a BackupTask<'a>,
        from: &'a BlobReader,
        backup: &'a Backup,
    ) -> Result<Self, OpsError> {
        let content = &backup.record.content;
        ImageReader::new(from, backup)
            .check_end()
            .map_err(|error| unreadable(backup, error))?;
        Ok(Self {
            task,
            from,
            backup,
            size: content.size,
            chunk_size: content.chunk_size,
            grid: (content.chunk_size as usize).max(task.project.chunk_size.usize()),
        })
    }

    /// Sends the leaves that differ from the tree of the base, or all leaves with data if there is
    /// no base. The ranges to read consist of whole chunks, by the chunk sizes of both source and
    /// target. If one of the two trees cannot be read, sets `is_unreadable` of the base.
    fn send_different(
        &self,
        base: Option<&CopyBase<'_>>,
        leaves: &mut LeafProducer<'_, '_, ()>,
    ) -> Result<(), StageError> {
        let before = base.map_or(Top { id: None, level: 0 }, |base| base.source.tree());
        let per_leaf = to_usize(LEAF_SIZE) / self.chunk_size as usize;
        let mut cut = base.map_or_else(Vec::new, |base| self.cut_chunks(base.source));
        let mut sender = Sender {
            image: self,
            leaves,
            open: None,
        };
        let compared = compare_trees(self.from, before, self.backup.tree(), &mut |found| {
            let place = (found.leaf, found.chunk);
            if found.leaf >= self.size.div_ceil(LEAF_SIZE) {
                // `new` has verified that this image has no chunks after its end. So only the base
                // has this chunk, and all later ones.
                return Ok(ControlFlow::Break(()));
            }
            // A chunk of a valid leaf has a lower number.
            if found.chunk >= per_leaf {
                return Err(StageError::from(RepoError::Tree));
            }
            while let Some(cut) = cut.pop_if(|cut| *cut < place) {
                sender.add(cut)?;
            }
            sender.add(place)?;
            Ok(ControlFlow::Continue(()))
        });
        match compared {
            Err(StageError::Failed(OpsError::Repo(error))) => {
                if let Some(base) = base {
                    base.is_unreadable.store(true, Ordering::Relaxed);
                }
                return Err(unreadable(self.backup, error).into());
            }
            compared => compared?,
        }
        while let Some(cut) = cut.pop() {
            sender.add(cut)?;
        }
        sender.end()
    }

    /// Returns the leaf and number of two chunks of this image, in descending order: the last
    /// chunk, and the chunk in which the other image ends. If the other image is larger, both are
    /// the last chunk. Returns nothing if both images have the same size.
    ///
    /// A faulty writer may not have put zeros after the end of an image. Then the two images may
    /// share these chunks in the source. In the target, each image gets zeros after its end, so the
    /// chunks may differ there.
    fn cut_chunks(&self, other: &Backup) -> Vec<(u64, usize)> {
        let other = other.record.content.size;
        if self.size == other {
            return Vec::new();
        }
        let lasts = [self.size, self.size.min(other)].map(|size| size.checked_sub(1));
        let places = lasts.into_iter().flatten().map(|last| {
            let chunk = to_usize(last % LEAF_SIZE) / self.chunk_size as usize;
            (last / LEAF_SIZE, chunk)
        });
        places.collect()
    }

    /// Fills the ranges of `coverage` with the content of the image.
    fn fill(
        &self,
        leaf: u64,
        coverage: &Coverage,
        fetcher: &mut ChunkFetcher<'_>,
        buf: &mut [u8],
    ) -> Result<(), OpsError> {
        let chunk_size = self.chunk_size as usize;
        let width = to_usize(LEAF_SIZE) / chunk_size;
        let chunks = leaf_chunks(self.from, self.backup.tree(), leaf, width)
            .map_err(|error| unreadable(self.backup, error))?;
        let start = leaf * LEAF_SIZE;
        let mut wanted = Vec::new();
        for range in coverage.ranges() {
            let numbers = range.start / chunk_size..range.end / chunk_size;
            for (number, id) in numbers.clone().zip(&chunks[numbers]) {
                let Some(id) = *id else { continue };
                let offset = start + (number * chunk_size) as u64;
                // This does not fail: `new` has verified that no chunk begins after the end.
                let left = self.size.checked_sub(offset);
                let left = left.ok_or_else(|| unreadable(self.backup, RepoError::Tree))?;
                wanted.push(ChunkRef::new(offset, left, self.chunk_size, id));
            }
            buf[range].fill(0);
        }
        match fetcher.fetch(&wanted, start, buf) {
            Ok(_) => {}
            Err(error) if error.kind() == RepoErrorKind::Damaged => {
                return Err(self.first_damaged(&wanted, start, fetcher, buf, error));
            }
            Err(error) => return Err(error.into()),
        }
        let read = wanted.iter().map(|chunk| u64::from(chunk.len)).sum();
        self.task.tally.read.fetch_add(read, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the error that names the first of these chunks that cannot be read. `first` is the
    /// error of reading them all at once.
    fn first_damaged(
        &self,
        chunks: &[ChunkRef],
        start: u64,
        fetcher: &mut ChunkFetcher<'_>,
        buf: &mut [u8],
        first: RepoError,
    ) -> OpsError {
        let part = |range: Range<u64>| format!("bytes {} to {}", range.start, range.end - 1);
        for chunk in chunks {
            match fetcher.fetch(&[*chunk], start, buf) {
                Ok(_) => {}
                Err(error) if error.kind() == RepoErrorKind::Damaged => {
                    return OpsError::not_copied(self.backup, part(chunk.range()), error);
                }
                Err(error) => return error.into(),
            }
        }
        // Each chunk could be read alone, so the error cannot name one.
        unreadable(self.backup, first)
    }
}

/// Collects chunks, which are added in ascending order, and sends their leaves.
struct Sender<'a, 'l, 'p, 'q> {
    image: &'a SourceImage<'a>,
    leaves: &'l mut LeafProducer<'p, 'q, ()>,
    /// The leaf of the last chunk, which is not sent yet, and the ranges of this leaf to read.
    open: Option<(u64, Coverage)>,
}

impl Sender<'_, '_, '_, '_> {
    /// Adds the chunk of the source with this number in this leaf.
    fn add(&mut self, (leaf, chunk): (u64, usize)) -> Result<(), StageError> {
        if let Some((before, coverage)) = self.open.take_if(|(open, _)| *open != leaf) {
            self.leaves.leaf(before, coverage, ())?;
        }
        let grid = self.image.grid;
        let start = chunk * self.image.chunk_size as usize / grid * grid;
        let (_, coverage) = self.open.get_or_insert_with(|| (leaf, Coverage::default()));
        coverage.push(start..start + grid);
        Ok(())
    }

    /// Sends the last leaf.
    fn end(self) -> Result<(), StageError> {
        match self.open {
            Some((leaf, coverage)) => self.leaves.leaf(leaf, coverage, ()),
            None => Ok(()),
        }
    }
}

/// Returns the error for a content of the source that cannot be read.
fn unreadable(backup: &Backup, error: RepoError) -> OpsError {
    OpsError::unread(backup, "its content", error)
}
