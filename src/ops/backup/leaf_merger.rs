//! Merges the leaves that a source touches with the leaves of the base.

use std::sync::atomic::Ordering;

use super::coverage::Coverage;
use super::image_spec::ImageSpec;
use super::task::BackupTask;
use crate::base::{BlobId, Buffer, LEAF_SIZE, Role, is_zero};
use crate::ops::error::OpsError;
use crate::repo::{ChunkFetcher, ChunkRef, PackWorker, RepoErrorKind, leaf_chunks};
use crate::volume::Gaps;

/// Completes leaves from the base, and stores their new chunks.
pub(super) struct LeafMerger<'a> {
    task: &'a BackupTask<'a>,
    spec: &'a ImageSpec,
    chunk_size: usize,
    fetcher: ChunkFetcher<'a>,
    /// A buffer for chunks of the base. The bytes that the source does not set are copied from it.
    before: Buffer,
}

impl<'a> LeafMerger<'a> {
    pub(super) fn new(task: &'a BackupTask<'a>, spec: &'a ImageSpec) -> Self {
        Self {
            task,
            spec,
            chunk_size: task.project.chunk_size.usize(),
            fetcher: ChunkFetcher::new(task.blobs),
            before: Buffer::default(),
        }
    }

    /// Stores the new chunks of a leaf. `buf` holds the bytes of the source in the ranges of
    /// `coverage`. Returns the ids of all chunks of the leaf, or `None` if the base has the same
    /// chunks. With --reread, always returns the ids.
    pub(super) fn store_leaf(
        &mut self,
        leaf: u64,
        coverage: &Coverage,
        buf: &mut [u8],
        pack: &mut PackWorker,
    ) -> Result<Option<Vec<Option<BlobId>>>, OpsError> {
        let (task, chunk_size) = (self.task, self.chunk_size);
        let before = self.base_chunks(leaf)?;
        let touched = coverage.touched(chunk_size);
        self.complete(leaf, coverage, &before, buf)?;
        let mut now = match self.spec.gaps {
            Gaps::Unchanged => before.clone(),
            Gaps::Zeros => vec![None; before.len()],
        };
        let mut chunks = Vec::new();
        for range in touched {
            for start in range.clone().step_by(chunk_size) {
                let (number, place) = (start / chunk_size, start..start + chunk_size);
                let plain = &buf[place.clone()];
                now[number] = None;
                if is_zero(plain) {
                    continue;
                }
                let id = task.project.chunk_keys()?.id(plain);
                if task.reread || before[number] != Some(id) {
                    chunks.push((id, place));
                }
                now[number] = Some(id);
            }
        }
        // Store the changed chunks of a leaf together, since a restore reads them together.
        task.packer.store_chunks(pack, buf, chunks)?;
        let pairs = before.iter().zip(&now);
        let data = now.iter().flatten().count() as u64;
        let same = pairs.clone().filter(|(b, n)| n.is_some() && b == n).count() as u64;
        task.tally.data.fetch_add(data, Ordering::Relaxed);
        task.tally.same.fetch_add(same, Ordering::Relaxed);
        let changed = pairs.filter(|(before, now)| before != now).count();
        let bytes = (changed * chunk_size) as u64;
        task.tally.changed.fetch_add(bytes, Ordering::Relaxed);
        Ok((task.reread || changed > 0).then_some(now))
    }

    /// Returns the ids of the base's chunks in this leaf; `None` for a chunk of zeros. Without a
    /// base, all chunks are zeros. A damaged base is an error. But with --reread, if the source
    /// sets the whole content, all chunks of a damaged base count as zeros.
    fn base_chunks(&self, leaf: u64) -> Result<Vec<Option<BlobId>>, OpsError> {
        let task = self.task;
        let width = task.project.chunk_size.per_leaf();
        let Some(base) = self.spec.base else {
            return Ok(vec![None; width]);
        };
        match leaf_chunks(task.blobs, base, leaf, width) {
            Err(error)
                if task.reread
                    && self.spec.gaps == Gaps::Zeros
                    && error.kind() == RepoErrorKind::Damaged =>
            {
                Ok(vec![None; width])
            }
            chunks => Ok(chunks?),
        }
    }

    /// Fills the parts of touched chunks that the source does not set: with bytes of the base, or
    /// with zeros for [`Gaps::Zeros`]. Fails if the key in use may not read the bytes of the base.
    fn complete(
        &mut self,
        leaf: u64,
        coverage: &Coverage,
        before: &[Option<BlobId>],
        buf: &mut [u8],
    ) -> Result<(), OpsError> {
        let chunk_size = self.chunk_size;
        if self.spec.gaps == Gaps::Zeros {
            for gap in coverage.gaps(chunk_size) {
                buf[gap].fill(0);
            }
            return Ok(());
        }
        let start = leaf * LEAF_SIZE;
        let mut lacking = vec![false; before.len()];
        for gap in coverage.gaps(chunk_size) {
            lacking[gap.start / chunk_size] = true;
        }
        let mut wanted = Vec::new();
        for (number, id) in before.iter().enumerate() {
            if let (Some(id), true) = (*id, lacking[number]) {
                let offset = start + (number * chunk_size) as u64;
                let chunk_size = self.task.project.chunk_size.bytes();
                wanted.push(ChunkRef::new(offset, u64::MAX, chunk_size, id));
            }
        }
        if let Some(first) = wanted.first() {
            if self.task.project.keys.role() != Role::Full {
                return Err(OpsError::PartOfChunk {
                    offset: first.offset,
                });
            }
            self.before.resize(buf.len());
            self.fetcher.fetch(&wanted, start, &mut self.before)?;
        }
        for gap in coverage.gaps(chunk_size) {
            match before[gap.start / chunk_size] {
                Some(_) => buf[gap.clone()].copy_from_slice(&self.before[gap]),
                None => buf[gap].fill(0),
            }
        }
        Ok(())
    }
}
