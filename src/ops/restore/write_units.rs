//! What is restored at once: stretches of the target, cut from a walk over the backup's tree.

use std::ops::{ControlFlow, Range};

use crossbeam_channel::{Receiver, Sender};

use crate::base::{Buffer, LEAF_SIZE};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, ChunkRef, Difference, ImageReader, RepoError, Top, compare_trees};
use crate::volume::RawImage;

/// A unit is at most this long.
const UNIT_LEN: u64 = LEAF_SIZE;

/// Consecutive chunks of one stretch. What no chunk covers is zero, or as it was: whoever deals them knows.
pub(super) struct WriteUnit {
    pub(super) number: usize,
    /// Where it lies in the content, in bytes.
    pub(super) range: Range<u64>,
    pub(super) chunks: Vec<ChunkRef>,
    /// The content of `range`, once it is filled.
    pub(super) buf: Buffer,
    /// What of it is to be written, in bytes of the content.
    pub(super) data: Vec<Range<u64>>,
    /// What of the target is to be made zero, in bytes of the content.
    pub(super) zeros: Vec<Range<u64>>,
}

impl WriteUnit {
    /// Where bytes of the content lie in the buffer.
    pub(super) fn place(&self, range: &Range<u64>) -> Range<usize> {
        let start = len(&(self.range.start..range.start));
        start..start + len(range)
    }
}

pub(super) fn len(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// Cuts the content into units, in order.
pub(super) struct Dealer<'a> {
    context: &'a Context<'a>,
    spare: &'a Receiver<Buffer>,
    jobs: &'a Sender<WriteUnit>,
    number: usize,
    range: Range<u64>,
    chunks: Vec<ChunkRef>,
    zeros: Vec<Range<u64>>,
}

/// Nobody takes units any more.
const HUNG_UP: OpsError = OpsError::Worker("a worker has stopped");

impl<'a> Dealer<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        spare: &'a Receiver<Buffer>,
        jobs: &'a Sender<WriteUnit>,
    ) -> Self {
        Self {
            context,
            spare,
            jobs,
            number: 0,
            range: 0..0,
            chunks: Vec::new(),
            zeros: Vec::new(),
        }
    }

    /// Every chunk of the image.
    pub(super) fn chunks(&mut self, image: &ImageReader) -> Result<(), OpsError> {
        let chunks = |each: Each<'_, ChunkRef>| image.each_chunk(each);
        walk(chunks, |chunk| self.chunk(chunk).map(ControlFlow::Continue))
    }

    /// Every chunk that `base` does not have in its place, and where it has one but the image has none. Both are
    /// images with chunks of `chunk_size` bytes.
    pub(super) fn differences(
        &mut self,
        base: &Backup,
        image: &ImageReader,
        chunk_size: u32,
    ) -> Result<(), OpsError> {
        let size = image.size();
        let base = Top::new(base.top, base.record.content.size);
        let differences = |mut each: Each<'_, Difference>| {
            compare_trees(image.blobs(), base, image.top(), &mut each)
        };
        walk(differences, |difference| {
            let within = difference.chunk as u64 * u64::from(chunk_size);
            if within >= LEAF_SIZE {
                return Err(RepoError::Tree.into());
            }
            let offset = difference.leaf * LEAF_SIZE + within;
            let left = size.saturating_sub(offset);
            match difference.b {
                Some(_) if left == 0 => return Err(RepoError::Tree.into()),
                // The base was larger; from here on there is nothing else.
                None if left == 0 => return Ok(ControlFlow::Break(())),
                None => self.zero(offset..offset + left.min(chunk_size.into()))?,
                Some(id) => self.chunk(ChunkRef::new(offset, left, chunk_size, id))?,
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Every chunk of the image, and where there is none but the target has data.
    pub(super) fn chunks_and_data(
        &mut self,
        image: &ImageReader,
        present: &RawImage,
    ) -> Result<(), OpsError> {
        let mut extents = present.data_extents();
        let mut extent = extents.next().transpose()?;
        // Deals out what data the target has where the image has no chunk.
        let mut gap = |dealer: &mut Self, gap: Range<u64>| -> Result<(), OpsError> {
            while let Some(data) = extent.clone().filter(|data| data.start < gap.end) {
                let mut from = data.start.max(gap.start);
                let to = data.end.min(gap.end);
                while from < to {
                    let end = to.min(from + UNIT_LEN);
                    dealer.extend(from..end)?;
                    from = end;
                }
                if data.end > gap.end {
                    break;
                }
                extent = extents.next().transpose()?;
            }
            Ok(())
        };
        let mut dealt = 0;
        let chunks = |each: Each<'_, ChunkRef>| image.each_chunk(each);
        walk(chunks, |chunk| {
            gap(self, dealt..chunk.offset)?;
            dealt = chunk.range().end;
            self.chunk(chunk).map(ControlFlow::Continue)
        })?;
        gap(self, dealt..image.size())
    }

    fn chunk(&mut self, chunk: ChunkRef) -> Result<(), OpsError> {
        self.extend(chunk.range())?;
        self.chunks.push(chunk);
        Ok(())
    }

    fn zero(&mut self, range: Range<u64>) -> Result<(), OpsError> {
        self.extend(range.clone())?;
        collect(&mut self.zeros, range);
        Ok(())
    }

    /// Lets the unit reach to the end of `range`, or begins another one with it.
    fn extend(&mut self, range: Range<u64>) -> Result<(), OpsError> {
        // A unit that stays within a leaf reads what one writer stored together.
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

    /// Sends the unit that is open.
    pub(super) fn finish(&mut self) -> Result<(), OpsError> {
        if self.range.is_empty() {
            return Ok(());
        }
        self.context.cancel.check()?;
        let buf = self.spare.recv().map_err(|_| HUNG_UP)?;
        let range = std::mem::replace(&mut self.range, 0..0);
        let unit = WriteUnit {
            number: self.number,
            range,
            chunks: std::mem::take(&mut self.chunks),
            buf,
            data: Vec::new(),
            zeros: std::mem::take(&mut self.zeros),
        };
        self.number += 1;
        self.jobs.send(unit).map_err(|_| HUNG_UP)
    }
}

/// Appends a range, joined to the last one if it follows it; an empty one is nothing.
pub(super) fn collect(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Takes what a walk over trees comes upon.
type Each<'a, T> = &'a mut dyn FnMut(T) -> Result<(), RepoError>;

/// Runs a walk with a callback that fails as operations do, or breaks it off.
fn walk<T>(
    over: impl FnOnce(Each<'_, T>) -> Result<(), RepoError>,
    mut each: impl FnMut(T) -> Result<ControlFlow<()>, OpsError>,
) -> Result<(), OpsError> {
    let mut end = None;
    let walked = over(&mut |item| match each(item) {
        Ok(ControlFlow::Continue(())) => Ok(()),
        broken_off => {
            end = Some(broken_off);
            Err(RepoError::Tree)
        }
    });
    match end {
        Some(broken_off) => broken_off.map(|_| ()),
        None => Ok(walked?),
    }
}
