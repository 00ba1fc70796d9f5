//! Fills write units with their content, or with only the parts that differ from the target.

use std::sync::atomic::Ordering;

use super::task::RestoreTask;
use super::write_units::{WriteUnit, collect, len};
use crate::base::is_zero;
use crate::ops::error::OpsError;
use crate::repo::{ChunkFetcher, ChunkRef};
use crate::volume::ReadTarget;

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

    /// Fills the unit with its content, all of which is to be written.
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

    /// Fetches the chunks of the unit. They and its zeros are to be written, and nothing between
    /// them.
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

    /// Compares the unit with the target, and fetches the chunks that differ. They are to be
    /// written.
    pub(super) fn update(
        &mut self,
        unit: &mut WriteUnit,
        target: &dyn ReadTarget,
    ) -> Result<(), OpsError> {
        unit.buf.resize(len(&unit.range));
        target.read_at(unit.range.start, &mut unit.buf)?;
        let chunks = std::mem::take(&mut unit.chunks);
        let keys = self.task.project.chunk_keys()?;
        let mut wanted = Vec::new();
        let (mut data, mut zeros) = (Vec::new(), Vec::new());
        let mut at = unit.range.start;
        for chunk in &chunks {
            let range = chunk.range();
            collect(&mut zeros, at..range.start);
            let here = &unit.buf[unit.place(&range)];
            // The last chunk may reach beyond the end of the image: it is zero there.
            let same = match (chunk.plain_len - chunk.len) as usize {
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
        zeros.retain(|range| !is_zero(&unit.buf[unit.place(range)]));
        self.fetch(&wanted, unit)?;
        (unit.data, unit.zeros) = (data, zeros);
        Ok(())
    }

    fn fetch(&mut self, wanted: &[ChunkRef], unit: &mut WriteUnit) -> Result<(), OpsError> {
        let start = unit.range.start;
        let fetched = self.fetcher.fetch(wanted, start, &mut unit.buf)?;
        self.task.fetched.fetch_add(fetched, Ordering::Relaxed);
        Ok(())
    }
}
