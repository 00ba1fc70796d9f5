//! The units in which a restore fetches and writes, cut from a walk over the tree of a backup.

use std::ops::{ControlFlow, Range};

use super::holes::OnDamage;
use super::samples::Samples;
use super::task::RestoreTask;
use crate::base::{Buffer, LEAF_SIZE, to_usize};
use crate::format::ExtentList;
use crate::ops::pipeline::{Producer, StageError};
use crate::repo::{Backup, ChunkRef, ContentPart, ImageReader, RepoError, compare_trees};
use crate::volume::ExtentIter;

/// The maximum length of a unit, in bytes. A unit that consists only of zeros may be longer.
const UNIT_LEN: u64 = LEAF_SIZE;

/// Consecutive chunks of one range of the content. In a gap between chunks, the content is zero, or
/// the target has it already. The method of [`UnitProducer`] that cuts the unit decides which.
pub(super) struct WriteUnit {
    /// Its place in the content, in bytes.
    pub(super) range: Range<u64>,
    pub(super) chunks: Vec<ChunkRef>,
    /// The content of `range`, after the unit was filled.
    pub(super) buf: Buffer,
    /// The parts of `range` that must be written from `buf`, in bytes of the content, ascending.
    pub(super) data: Vec<Range<u64>>,
    /// The parts of `range` that must become zero, in bytes of the content, ascending.
    pub(super) zeros: Vec<Range<u64>>,
}

impl WriteUnit {
    /// Returns the place in the buffer of a range of the content.
    pub(super) fn place(&self, range: &Range<u64>) -> Range<usize> {
        let start = len(&(self.range.start..range.start));
        start..start + len(range)
    }
}

pub(super) fn len(range: &Range<u64>) -> usize {
    to_usize(range.end - range.start)
}

/// Cuts the content into units and sends them, in ascending order.
pub(super) struct UnitProducer<'p, 'a> {
    producer: &'p mut Producer<'a, Buffer, WriteUnit, WriteUnit>,
    range: Range<u64>,
    chunks: Vec<ChunkRef>,
    zeros: Vec<Range<u64>>,
}

impl<'p, 'a> UnitProducer<'p, 'a> {
    pub(super) fn new(producer: &'p mut Producer<'a, Buffer, WriteUnit, WriteUnit>) -> Self {
        Self {
            producer,
            range: 0..0,
            chunks: Vec::new(),
            zeros: Vec::new(),
        }
    }

    /// Sends every chunk of the backup that can be found.
    pub(super) fn chunks(&mut self, task: &RestoreTask<'_>) -> Result<(), StageError> {
        task.image.each_part(|part| match part {
            ContentPart::Chunk(chunk) => self.chunk(chunk),
            ContentPart::Lost { range, error, .. } => Ok(task.lose(range, error)?),
        })
    }

    /// Sends every chunk that `base` does not have in its place, and zeros where `base` has a chunk
    /// and the image has none. Both are images with chunks of `chunk_size` bytes.
    pub(super) fn differences(
        &mut self,
        base: &Backup,
        image: &ImageReader,
        chunk_size: u32,
    ) -> Result<(), StageError> {
        let size = image.size();
        let base = base.tree();
        compare_trees(image.blobs(), base, image.top(), &mut |difference| {
            let within = difference.chunk as u64 * u64::from(chunk_size);
            if within >= LEAF_SIZE {
                return Err(RepoError::Tree.into());
            }
            let offset = difference.leaf * LEAF_SIZE + within;
            let left = size.saturating_sub(offset);
            match difference.b {
                Some(_) if left == 0 => return Err(RepoError::Tree.into()),
                // The base is larger. Write nothing after the end of the image.
                None if left == 0 => return Ok(ControlFlow::Break(())),
                None => self.zero(offset..offset + left.min(chunk_size.into()))?,
                Some(id) => self.chunk(ChunkRef::new(offset, left, chunk_size, id))?,
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Sends every chunk in these parts of the image, and zeros between the chunks, up to
    /// `zero_until`. The parts begin and end at the boundaries of chunks.
    pub(super) fn ranges(
        &mut self,
        image: &ImageReader,
        parts: &ExtentList,
        zero_until: u64,
    ) -> Result<(), StageError> {
        for part in parts.ranges() {
            let mut at = part.start;
            image.each_chunk_in(part.clone(), |chunk| -> Result<(), StageError> {
                self.zero(at..chunk.offset.min(zero_until).max(at))?;
                at = chunk.range().end;
                self.chunk(chunk)
            })?;
            self.zero(at..part.end.min(zero_until).max(at))?;
        }
        Ok(())
    }

    /// Sends every chunk of the backup that can be found, and the ranges without a chunk in which
    /// the target may have data. `present` lists the extents of the target that may have data,
    /// ascending. Leaves out lost parts of the backup if the restore keeps the target's content
    /// there. Takes samples of the chunks.
    pub(super) fn chunks_and_data(
        &mut self,
        task: &RestoreTask<'_>,
        mut present: ExtentIter<'_>,
        samples: &Samples,
    ) -> Result<(), StageError> {
        let mut extent = present.next().transpose()?;
        // Sends the parts of a gap between chunks in which the target may have data.
        let mut gap = |units: &mut Self, gap: Range<u64>| -> Result<(), StageError> {
            while let Some(data) = extent.clone().filter(|data| data.start < gap.end) {
                let mut from = data.start.max(gap.start);
                let to = data.end.min(gap.end);
                while from < to {
                    let end = to.min(from + UNIT_LEN);
                    units.extend(from..end)?;
                    from = end;
                }
                if data.end > gap.end {
                    break;
                }
                extent = present.next().transpose()?;
            }
            Ok(())
        };
        let mut sent = 0;
        task.image.each_part(|part| -> Result<(), StageError> {
            match part {
                ContentPart::Chunk(chunk) => {
                    gap(self, sent..chunk.offset)?;
                    sent = chunk.range().end;
                    samples.pass(&chunk);
                    self.chunk(chunk)
                }
                ContentPart::Lost { range, error, .. } => {
                    task.lose(range.clone(), error)?;
                    if task.on_damage == OnDamage::Keep {
                        gap(self, sent..range.start)?;
                        sent = range.end;
                    }
                    Ok(())
                }
            }
        })?;
        gap(self, sent..task.image.size())
    }

    fn chunk(&mut self, chunk: ChunkRef) -> Result<(), StageError> {
        self.extend(chunk.range())?;
        self.chunks.push(chunk);
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), StageError> {
        if range.is_empty() {
            return Ok(());
        }
        self.extend(range.clone())?;
        collect(&mut self.zeros, range);
        Ok(())
    }

    /// Extends the open unit to the end of `range`, or sends it and begins another unit with
    /// `range`.
    fn extend(&mut self, range: Range<u64>) -> Result<(), StageError> {
        // Chunks of one leaf were usually stored together, so a unit stays within a leaf.
        let same_leaf = self.range.start / UNIT_LEN == range.end.saturating_sub(1) / UNIT_LEN;
        if self.range.is_empty() {
            self.range = range;
        } else if same_leaf && range.start - self.range.end < UNIT_LEN / 2 {
            self.range.end = range.end;
        } else {
            self.finish()?;
            self.range = range;
        }
        Ok(())
    }

    /// Sends the open unit, if there is one.
    pub(super) fn finish(&mut self) -> Result<(), StageError> {
        if self.range.is_empty() {
            return Ok(());
        }
        let buf = self.producer.spare()?;
        let range = std::mem::replace(&mut self.range, 0..0);
        let unit = WriteUnit {
            range,
            chunks: std::mem::take(&mut self.chunks),
            buf,
            data: Vec::new(),
            zeros: std::mem::take(&mut self.zeros),
        };
        Ok(self.producer.send(unit)?)
    }
}

/// Appends a range. If it begins where the last range ends, joins the two. Ignores an empty range.
pub(super) fn collect(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
