//! Fills write units, the parts into which a restore divides the content. Fills each unit
//! completely, or only where it differs from the target.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::holes::{OnDamage, without};
use super::task::RestoreTask;
use super::write_units::{WriteUnit, collect, len};
use crate::base::is_zero;
use crate::ops::error::OpsError;
use crate::repo::{ChunkFetcher, ChunkRef, RepoErrorKind};
use crate::volume::{ReadTarget, VolumeError, VolumeErrorKind};

/// If a range of the target cannot be read, it is read again in pieces of this many bytes.
const SECTORS: usize = 4 << 10;

/// The state of a thread that fills units.
pub(super) struct Tools<'a> {
    task: &'a RestoreTask<'a>,
    fetcher: ChunkFetcher<'a>,
}

impl<'a> Tools<'a> {
    pub(super) fn new(task: &'a RestoreTask<'a>) -> Self {
        Self {
            task,
            fetcher: ChunkFetcher::new(task.image.blobs()),
        }
    }

    /// Fills the unit with its content. The whole unit will be written.
    pub(super) fn fill(&mut self, unit: &mut WriteUnit) -> Result<(), OpsError> {
        let wanted = std::mem::take(&mut unit.chunks);
        unit.buf.resize(len(&unit.range));
        let mut filled = 0;
        for chunk in &wanted {
            let place = unit.place(&chunk.range());
            unit.buf[filled..place.start].fill(0);
            filled = place.end;
        }
        unit.buf[filled..].fill(0);
        self.fetch(&wanted, unit)?;
        unit.data.push(unit.range.clone());
        Ok(())
    }

    /// Fetches the chunks of the unit. Only these chunks and the unit's zeros will be written.
    pub(super) fn change(&mut self, unit: &mut WriteUnit) -> Result<(), OpsError> {
        let wanted = std::mem::take(&mut unit.chunks);
        if wanted.is_empty() {
            return Ok(());
        }
        unit.buf.resize(len(&unit.range));
        self.fetch(&wanted, unit)?;
        for chunk in &wanted {
            collect(&mut unit.data, chunk.range());
        }
        Ok(())
    }

    /// Compares the unit with the target, and fetches the chunks that differ. Only these chunks
    /// will be written, and zeros where only the target has data. Parts of the target that cannot
    /// be read count as different. Chunks that cannot be fetched are not written if the restore
    /// keeps the target's content there.
    pub(super) fn update(
        &mut self,
        unit: &mut WriteUnit,
        target: &dyn ReadTarget,
    ) -> Result<(), OpsError> {
        unit.buf.resize(len(&unit.range));
        let unread = read_present(target, unit)?;
        let is_read = |range: &Range<u64>| {
            let meets = |bad: &Range<u64>| bad.start < range.end && range.start < bad.end;
            !unread.iter().any(meets)
        };
        let chunks = std::mem::take(&mut unit.chunks);
        let keys = self.task.project.chunk_keys()?;
        let mut wanted = Vec::new();
        let (mut data, mut zeros) = (Vec::new(), Vec::new());
        let mut at = unit.range.start;
        for chunk in &chunks {
            let range = chunk.range();
            collect(&mut zeros, at..range.start);
            let here = &unit.buf[unit.place(&range)];
            // The last chunk may reach beyond the end of the image. It is zero there.
            let same = is_read(&range)
                && match (chunk.plain_len - chunk.len) as usize {
                    0 => keys.id(here) == chunk.id,
                    more => keys.id(&[here, &vec![0; more]].concat()) == chunk.id,
                };
            if !same {
                wanted.push(*chunk);
                collect(&mut data, range.clone());
            }
            at = range.end;
        }
        collect(&mut zeros, at..unit.range.end);
        zeros.retain(|range| !is_read(range) || !is_zero(&unit.buf[unit.place(range)]));
        let holes = self.fetch(&wanted, unit)?;
        if self.task.on_damage == OnDamage::Keep {
            data = without(&data, &holes);
        }
        (unit.data, unit.zeros) = (data, zeros);
        Ok(())
    }

    /// Fetches chunks of the unit. Returns the ranges of the chunks that cannot be read, in bytes
    /// of the content, ascending. The buffer is zero in these ranges. Fails instead if the restore
    /// stops at damage.
    fn fetch(
        &mut self,
        wanted: &[ChunkRef],
        unit: &mut WriteUnit,
    ) -> Result<Vec<Range<u64>>, OpsError> {
        let start = unit.range.start;
        match self.fetcher.fetch(wanted, start, &mut unit.buf) {
            Ok(fetched) => {
                self.task.fetched.fetch_add(fetched, Ordering::Relaxed);
                return Ok(Vec::new());
            }
            Err(error) if error.kind() == RepoErrorKind::Damaged => {}
            Err(error) => return Err(error.into()),
        }
        // Fetch the chunks one by one, to find out which of them is damaged.
        let mut holes = Vec::new();
        for chunk in wanted {
            match self.fetcher.fetch(&[*chunk], start, &mut unit.buf) {
                Ok(fetched) => {
                    self.task.fetched.fetch_add(fetched, Ordering::Relaxed);
                }
                Err(error) => {
                    let range = chunk.range();
                    let place = unit.place(&range);
                    unit.buf[place].fill(0);
                    self.task.lose(range.clone(), error)?;
                    collect(&mut holes, range);
                }
            }
        }
        Ok(holes)
    }
}

/// Fills the unit with the content of the target. Returns the ranges that cannot be read, in bytes
/// of the content, ascending.
fn read_present(
    target: &dyn ReadTarget,
    unit: &mut WriteUnit,
) -> Result<Vec<Range<u64>>, OpsError> {
    let start = unit.range.start;
    let is_unreadable = |error: &VolumeError| error.kind == VolumeErrorKind::Io;
    match target.read_at(start, &mut unit.buf) {
        Err(error) if is_unreadable(&error) => {}
        read => return Ok(read.map(|()| Vec::new())?),
    }
    let mut unread = Vec::new();
    for (piece, at) in unit.buf.chunks_mut(SECTORS).zip((start..).step_by(SECTORS)) {
        match target.read_at(at, piece) {
            Err(error) if is_unreadable(&error) => {
                collect(&mut unread, at..at + piece.len() as u64);
            }
            read => read?,
        }
    }
    Ok(unread)
}
