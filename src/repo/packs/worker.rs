//! The work of each packing thread: joins chunks into runs, and runs into parts.

use std::ops::Range;

use super::packer::{Packer, blob, run};
use super::part::Part;
use crate::base::BlobId;
use crate::base::TAG_LEN;
use crate::format::{Blob, Codec, RUN_BLOBS_MAX, Run};
use crate::repo::codec::Compressor;
use crate::repo::error::RepoError;

/// The buffers of one worker.
pub struct PackWorker {
    compressor: Compressor,
    /// The joined chunks of a run, if they are not adjacent in the data.
    joined: Vec<u8>,
    /// The runs that are compressed and not sealed yet, each followed by the bytes for its tag.
    part: Part,
    runs: Vec<Run>,
}

/// New chunks that will be compressed together.
#[derive(Default)]
struct OpenRun {
    blobs: Vec<Blob>,
    /// The ranges of the chunks in the data. Adjacent ranges are joined.
    stretches: Vec<Range<usize>>,
    len: usize,
}

impl OpenRun {
    fn add(&mut self, id: BlobId, place: Range<usize>) {
        self.blobs.push(blob(id, place.len()));
        self.len += place.len();
        match self.stretches.last_mut() {
            Some(last) if last.end == place.start => last.end = place.end,
            _ => self.stretches.push(place),
        }
    }
}

impl Packer<'_> {
    /// Returns the buffers for a new worker.
    pub fn worker(&self) -> Result<PackWorker, RepoError> {
        Ok(PackWorker {
            compressor: Compressor::for_runs(
                self.options().compression,
                self.options().run_len.bytes(),
            )
            .map_err(RepoError::Compress)?,
            joined: Vec::new(),
            part: self.new_part(),
            runs: Vec::new(),
        })
    }

    /// Stores the chunks that the project does not have. Their runs contain no chunks of other
    /// calls, because the chunks of one call are likely to be read together. Each chunk is given as
    /// its id and its range in `data`. Returns the number of plain bytes of the chunks that the
    /// project did not have.
    pub fn store_chunks(
        &self,
        worker: &mut PackWorker,
        data: &[u8],
        chunks: impl IntoIterator<Item = (BlobId, Range<usize>)>,
    ) -> Result<u64, RepoError> {
        let run_len = self.options().run_len.bytes();
        let mut open = OpenRun::default();
        let (mut count, mut new) = (0, 0);
        for (id, place) in chunks {
            if !self.claim(id)? {
                continue;
            }
            if open.len > 0 && open.len + place.len() > run_len || open.blobs.len() == RUN_BLOBS_MAX
            {
                self.end_run(worker, data, std::mem::take(&mut open))?;
            }
            new += place.len() as u64;
            count += 1;
            open.add(id, place);
        }
        self.count_new(count, new);
        if !open.blobs.is_empty() {
            self.end_run(worker, data, open)?;
        }
        Ok(new)
    }

    fn end_run(
        &self,
        worker: &mut PackWorker,
        data: &[u8],
        open: OpenRun,
    ) -> Result<(), RepoError> {
        let plain = match &open.stretches[..] {
            [all] => &data[all.clone()],
            ranges => {
                worker.joined.clear();
                for stretch in ranges {
                    worker.joined.extend_from_slice(&data[stretch.clone()]);
                }
                &worker.joined
            }
        };
        let (part, runs) = (&mut worker.part, &mut worker.runs);
        self.make_space(part, runs, plain.len() + TAG_LEN)?;
        // Compressing directly into the part saves a copy.
        let compressed = worker.compressor.compress_into(plain, part.space());
        let (codec, len) = if let Some(len) = compressed {
            part.take_space(len);
            (Codec::Zstd, len)
        } else {
            part.extend_from_slice(plain);
            (Codec::Raw, plain.len())
        };
        self.finish_run(run(codec, len + TAG_LEN, open.blobs), part, runs)
    }

    /// Adds a run of chunks. `content` is the joined chunks, encoded with `codec`, without a tag.
    /// If the project already has any of the chunks, adds nothing and returns false.
    pub fn add_run(
        &self,
        worker: &mut PackWorker,
        codec: Codec,
        content: &[u8],
        blobs: &[Blob],
    ) -> Result<bool, RepoError> {
        for (number, blob) in blobs.iter().enumerate() {
            if !self.claim(blob.id)? {
                let claimed = blobs[..number].iter().map(|blob| blob.id);
                self.unclaim(claimed);
                return Ok(false);
            }
        }
        let (part, runs) = (&mut worker.part, &mut worker.runs);
        let len = content.len() + TAG_LEN;
        self.make_space(part, runs, len)?;
        part.extend_from_slice(content);
        self.finish_run(run(codec, len, blobs.to_vec()), part, runs)?;
        let plain: u64 = blobs.iter().map(|blob| u64::from(blob.plain_len)).sum();
        self.count_new(blobs.len() as u64, plain);
        Ok(true)
    }

    /// Makes space for a run of up to `len` bytes. A part that is not full has space for each run
    /// that this program makes, but not for each run that the format allows.
    fn make_space(
        &self,
        part: &mut Part,
        runs: &mut Vec<Run>,
        len: usize,
    ) -> Result<(), RepoError> {
        if part.space().len() < len && !part.is_empty() {
            self.hand_over(
                std::mem::take(runs),
                std::mem::replace(part, self.new_part()),
            )?;
        }
        if part.space().len() < len {
            *part = Part::with_capacity(len);
        }
        Ok(())
    }

    /// Appends the bytes for the tag of a run, whose other bytes are at the end of the part. If the
    /// part is full now, adds it to the open pack.
    fn finish_run(&self, run: Run, part: &mut Part, runs: &mut Vec<Run>) -> Result<(), RepoError> {
        part.extend_from_slice(&[0; TAG_LEN]);
        runs.push(run);
        if part.len() >= self.part_len() {
            self.hand_over(
                std::mem::take(runs),
                std::mem::replace(part, self.new_part()),
            )?;
        }
        Ok(())
    }

    /// Adds the part of a worker to the open pack. Call this when the worker has no more blobs.
    pub fn flush(&self, worker: &mut PackWorker) -> Result<(), RepoError> {
        if worker.runs.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut worker.part, self.new_part());
        self.hand_over(std::mem::take(&mut worker.runs), part)
    }
}
