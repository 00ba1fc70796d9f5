//! Finds the parts of an existing image that differ from a backup.

use std::io::Read;
use std::ops::Range;

use super::task::RestoreTask;
use super::write_units::collect;
use crate::base::{LEAF_SIZE, Phase, Progress, is_zero};
use crate::format::{DiffError, DiffReader, Extent, ExtentKind, ExtentList};
use crate::ops::diff_error::reading;
use crate::ops::error::OpsError;
use crate::repo::{Backup, ContentPart, different_ranges};

/// Returns the parts of the image that may differ from the task's backup. `base` is a backup of a
/// snapshot, and `diverged` are the parts in which the image differs from this snapshot. The result
/// joins these parts, the parts in which the two backups differ, and the part of the backup after
/// the end of the image. `present` is the size of the image in bytes. Each part consists of whole
/// chunks, except at the end of the backup.
pub(super) fn changed_since(
    task: &RestoreTask<'_>,
    base: &Backup,
    diverged: &ExtentList,
    present: u64,
) -> Result<ExtentList, OpsError> {
    let chunk_size = u64::from(task.backup.record.content.chunk_size);
    let size = task.image.size();
    let mut ranges: Vec<Range<u64>> = diverged.widened(chunk_size).ranges().to_vec();
    different_ranges(
        task.image.blobs(),
        (base.tree(), task.image.top()),
        LEAF_SIZE / chunk_size,
        |chunks| -> Result<_, OpsError> {
            task.context.cancel.check()?;
            let at = |chunk: u64| chunk.saturating_mul(chunk_size);
            ranges.push(at(chunks.start)..at(chunks.end));
            Ok(())
        },
    )?;
    // The image lacks everything after its end.
    ranges.push(present / chunk_size * chunk_size..size);
    let within = |range: Range<u64>| range.start.min(size)..range.end.min(size);
    Ok(ranges.into_iter().map(within).collect())
}

/// Reads a whole image as a full diff. Returns the parts in which the image differs from the
/// backup, and the length of the diff in bytes. Each part consists of whole chunks, except at the
/// end of the backup.
pub(super) fn compare_image(
    task: &RestoreTask<'_>,
    stream: impl Read,
    name: &str,
) -> Result<(ExtentList, u64), OpsError> {
    let content = &task.backup.record.content;
    let chunk_size = u64::from(content.chunk_size);
    let keys = task.project.chunk_keys()?;
    let mut present = PresentData::open(stream).map_err(reading(name))?;
    let mut different = Vec::new();
    let mut chunk_buf = vec![0; content.chunk_size as usize];
    let mut at = 0;
    let size = task.image.size();
    let progress = |done| {
        task.context.observer.progress(Progress {
            phase: Phase::CompareTarget,
            done,
            total: Some(size),
        });
    };
    // In a gap between chunks of the backup, the image differs wherever it is not zero.
    let mut gap = |present: &mut PresentData<_>, different: &mut _, gap: Range<u64>| {
        while let Some(offset) = present.next().filter(|offset| *offset < gap.end) {
            task.context.cancel.check()?;
            let start = offset.max(gap.start) / chunk_size * chunk_size;
            let piece = start..(start + chunk_size).min(gap.end);
            let buf = &mut chunk_buf[..crate::base::to_usize(piece.end - piece.start)];
            present.read(piece.start, buf).map_err(reading(name))?;
            if !is_zero(buf) {
                collect(different, piece);
            }
        }
        Ok::<_, OpsError>(())
    };
    let mut chunk_bytes = vec![0; content.chunk_size as usize];
    task.image.each_part(|part| -> Result<(), OpsError> {
        let chunk = match part {
            ContentPart::Chunk(chunk) => chunk,
            ContentPart::Lost { error, .. } => return Err(error.into()),
        };
        task.context.cancel.check()?;
        let range = chunk.range();
        gap(&mut present, &mut different, at..range.start)?;
        at = range.end;
        // The backup has no chunk that consists only of zeros.
        let has_data = present.next().is_some_and(|next| next < range.end);
        let mut same = false;
        if has_data {
            let (here, beyond) = chunk_bytes.split_at_mut(chunk.len as usize);
            present.read(range.start, here).map_err(reading(name))?;
            beyond.fill(0);
            same = keys.id(&chunk_bytes) == chunk.id;
        }
        if !same {
            collect(&mut different, range.clone());
        }
        progress(range.end);
        Ok(())
    })?;
    gap(&mut present, &mut different, at..size)?;
    progress(size);
    let read = present.finish().map_err(reading(name))?;
    Ok((different.into_iter().collect(), read))
}

/// The data of an image, read from a full diff in ascending order.
struct PresentData<R> {
    reader: DiffReader<R>,
    /// The rest of the extent that is being read.
    extent: Option<Extent>,
}

impl<R: Read> PresentData<R> {
    fn open(stream: R) -> Result<Self, DiffError> {
        let mut reader = DiffReader::open(stream)?;
        reader.next_diff()?;
        let mut opened = Self {
            reader,
            extent: None,
        };
        opened.next_data()?;
        Ok(opened)
    }

    /// Returns the offset of the next byte of data that was not read yet; `None` at the end.
    fn next(&self) -> Option<u64> {
        self.extent.map(|extent| extent.offset)
    }

    /// Fills the buffer with the content of the image from `offset` on, which must not be before
    /// the end of an earlier read.
    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), DiffError> {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        while let Some(extent) = self.extent.filter(|extent| extent.offset < end) {
            let part = extent.offset..extent.end().min(end);
            let place = |at: u64| crate::base::to_usize(at - offset);
            let into = &mut buf[place(part.start)..place(part.end)];
            self.reader.read_data(into)?;
            self.advance(&extent, part.end)?;
        }
        Ok(())
    }

    /// Continues at offset `read_to`: in the rest of the extent, or in the next one if the extent
    /// ends there.
    fn advance(&mut self, extent: &Extent, read_to: u64) -> Result<(), DiffError> {
        let length = extent.end() - read_to;
        if length == 0 {
            return self.next_data();
        }
        self.extent = Some(Extent {
            offset: read_to,
            length,
            kind: extent.kind,
        });
        Ok(())
    }

    fn next_data(&mut self) -> Result<(), DiffError> {
        loop {
            self.extent = self.reader.next_extent()?;
            let skipped = |extent: &Extent| extent.kind != ExtentKind::Data || extent.length == 0;
            if !self.extent.as_ref().is_some_and(skipped) {
                return Ok(());
            }
        }
    }

    /// Reads to the end. Returns the length of the whole stream, in bytes.
    fn finish(mut self) -> Result<u64, DiffError> {
        while self.extent.is_some() {
            self.next_data()?;
        }
        self.reader.next_diff()?;
        Ok(self.reader.offset())
    }
}
