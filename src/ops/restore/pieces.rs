//! What is restored at once: stretches of the target, cut from a walk over the backup's tree.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender};

use crate::base::{Buffer, SLOT_SIZE};
use crate::ops::{Context, OpsError};
use crate::repo::{ChunkRef, ImageReader, RepoError};
use crate::volume::ImageSource;

/// A piece is at most this long.
const PIECE: u64 = SLOT_SIZE;

/// Consecutive chunks of one stretch; what no chunk covers is zero.
pub(super) struct Piece {
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

impl Piece {
    /// Where bytes of the content lie in the buffer.
    pub(super) fn place(&self, range: &Range<u64>) -> Range<usize> {
        let start = len(&(self.range.start..range.start));
        start..start + len(range)
    }
}

pub(super) fn len(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

/// Cuts the content into pieces, in order.
pub(super) struct Dealer<'a> {
    context: &'a Context<'a>,
    spare: &'a Receiver<Buffer>,
    jobs: &'a Sender<Piece>,
    number: usize,
    range: Range<u64>,
    chunks: Vec<ChunkRef>,
}

/// Nobody takes pieces any more.
const HUNG_UP: OpsError = OpsError::Worker("a worker has stopped");

impl<'a> Dealer<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        spare: &'a Receiver<Buffer>,
        jobs: &'a Sender<Piece>,
    ) -> Self {
        Self {
            context,
            spare,
            jobs,
            number: 0,
            range: 0..0,
            chunks: Vec::new(),
        }
    }

    /// Every chunk of the image.
    pub(super) fn chunks(&mut self, image: &ImageReader<'_>) -> Result<(), OpsError> {
        walk(image, |chunk| self.chunk(chunk))
    }

    /// Every chunk of the image, and where there is none but the target has data.
    pub(super) fn chunks_and_data(
        &mut self,
        image: &ImageReader<'_>,
        present: &ImageSource,
    ) -> Result<(), OpsError> {
        let mut extents = present.data_extents();
        let mut extent = extents.next().transpose()?;
        // Deals out what data the target has where the image has no chunk.
        let mut gap = |dealer: &mut Self, gap: Range<u64>| -> Result<(), OpsError> {
            while let Some(data) = extent.clone().filter(|data| data.start < gap.end) {
                let mut from = data.start.max(gap.start);
                let to = data.end.min(gap.end);
                while from < to {
                    let end = to.min(from + PIECE);
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
        walk(image, |chunk| {
            gap(self, dealt..chunk.offset)?;
            dealt = chunk.range().end;
            self.chunk(chunk)
        })?;
        gap(self, dealt..image.size())
    }

    fn chunk(&mut self, chunk: ChunkRef) -> Result<(), OpsError> {
        self.extend(chunk.range())?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Lets the piece reach to the end of `range`, or begins another one with it.
    fn extend(&mut self, range: Range<u64>) -> Result<(), OpsError> {
        // A piece that stays within a slot reads what one writer stored together.
        let same_slot = self.range.start / PIECE == range.end.saturating_sub(1) / PIECE;
        if self.range.is_empty() {
            self.range = range;
        } else if same_slot && range.start - self.range.end < PIECE / 2 {
            self.range.end = range.end;
        } else {
            self.finish()?;
            self.range = range;
        }
        Ok(())
    }

    /// Sends the piece that is open.
    pub(super) fn finish(&mut self) -> Result<(), OpsError> {
        if self.range.is_empty() {
            return Ok(());
        }
        self.context.cancel.check()?;
        let buf = self.spare.recv().map_err(|_| HUNG_UP)?;
        let range = std::mem::replace(&mut self.range, 0..0);
        let chunks = std::mem::take(&mut self.chunks);
        let piece = Piece {
            number: self.number,
            range,
            chunks,
            buf,
            data: Vec::new(),
            zeros: Vec::new(),
        };
        self.number += 1;
        self.jobs.send(piece).map_err(|_| HUNG_UP)
    }
}

/// Walks the chunks with a callback that fails as operations do.
fn walk(
    image: &ImageReader<'_>,
    mut each: impl FnMut(ChunkRef) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let mut failure = None;
    let walked = image.each_chunk(|chunk| {
        each(chunk).map_err(|error| {
            failure = Some(error);
            RepoError::Tree
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(walked?),
    }
}
