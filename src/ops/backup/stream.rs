//! Backs up a byte stream. Its content decides where chunks begin, so that inserted bytes do not
//! change all later chunks.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use super::options::{BackupOptions, not_a_diff};
use super::task::{BackupTask, Stored};
use crate::base::is_zero;
use crate::chunk::StreamCutter;
use crate::format::{ContentKind, StreamEntry};
use crate::ops::error::OpsError;
use crate::ops::pipeline::{Failed, Pipeline, Producer, StageError, Stages};
use crate::repo::{PackWorker, PackedNodes, StreamTree};
use crate::volume::InputStream;

/// Chunks that go through the pipeline together. The buffers are reused.
#[derive(Default)]
struct Batch {
    data: Vec<u8>,
    lens: Vec<usize>,
    entries: Vec<StreamEntry>,
}

/// A batch gets no more chunks when it has this many bytes. Its last chunk may exceed this size.
const BATCH_TARGET: usize = 2 << 20;

/// The maximum number of batches in the pipeline for each thread. With several batches, a slow one
/// does not stop the others.
const IN_FLIGHT: usize = 4;

/// Reads a stream to its end and stores its chunks.
pub(super) fn store_stream(
    task: &BackupTask<'_>,
    source: &mut dyn InputStream,
    options: &BackupOptions,
) -> Result<Stored, OpsError> {
    let threads = task.context.threads;
    let pipeline = Pipeline {
        workers: threads,
        queue: threads * IN_FLIGHT,
        in_flight: threads * IN_FLIGHT,
        cancel: task.context.cancel,
        failed: &Failed::default(),
    };
    let nodes = PackedNodes {
        reader: task.blobs,
        packer: task.packer,
        keys: &task.project.keys,
    };
    let mut tree = StreamTree::new(&nodes);
    let mut size = 0;
    pipeline.run(
        &StreamStages { task },
        |producer| cut(task, source, options, producer),
        |batch| {
            for entry in &batch.entries {
                tree.push(*entry)?;
                size += entry.len;
            }
            task.tally.read.store(size, Ordering::Relaxed);
            task.worked(size, None);
            Ok(batch)
        },
    )?;
    Ok(Stored {
        kind: ContentKind::Stream,
        size,
        top: tree.finish()?,
    })
}

/// Cuts the stream into batches.
fn cut(
    task: &BackupTask<'_>,
    source: &mut dyn InputStream,
    options: &BackupOptions,
    producer: &mut Producer<'_, Batch, Batch, Batch>,
) -> Result<(), StageError> {
    let (project, name) = (task.project, source.name());
    let cut_seed = project.chunk_keys().map_err(OpsError::from)?.cut_seed();
    let mut cutter = StreamCutter::new(source, project.chunk_size, cut_seed);
    let mut is_first = true;
    loop {
        let mut batch = producer.spare()?;
        batch.data.clear();
        batch.lens.clear();
        while batch.data.len() < BATCH_TARGET {
            match cutter.next_chunk() {
                Ok(Some(chunk)) => {
                    if std::mem::take(&mut is_first) {
                        not_a_diff(options, &name, chunk)?;
                    }
                    batch.data.extend_from_slice(chunk);
                    batch.lens.push(chunk.len());
                }
                Ok(None) => break,
                // No bytes have arrived for a while. Only test whether the run must stop.
                Err(error) if error.kind() == ErrorKind::WouldBlock => producer.check()?,
                Err(source) => return Err(OpsError::ReadStream { name, source }.into()),
            }
        }
        if batch.lens.is_empty() {
            return Ok(());
        }
        producer.send(batch)?;
    }
}

struct StreamStages<'a> {
    task: &'a BackupTask<'a>,
}

impl Stages for StreamStages<'_> {
    type Spare = Batch;
    type Job = Batch;
    type Done = Batch;
    type Worker = PackWorker;

    fn start(&self) -> Result<PackWorker, OpsError> {
        Ok(self.task.packer.worker()?)
    }

    fn work(&self, worker: &mut PackWorker, mut batch: Batch) -> Result<Batch, OpsError> {
        let Batch {
            data,
            lens,
            entries,
        } = &mut batch;
        entries.clear();
        let keys = self.task.project.chunk_keys()?;
        let mut chunks = Vec::with_capacity(lens.len());
        let mut at = 0;
        for &len in &*lens {
            let place = at..at + len;
            at = place.end;
            let plain = &data[place.clone()];
            let id = (!is_zero(plain)).then(|| keys.id(plain));
            entries.push(StreamEntry {
                len: len as u64,
                id,
            });
            chunks.extend(id.map(|id| (id, place)));
        }
        // Chunks that follow each other in the stream are stored together, since a restore reads
        // them together.
        let new = self.task.packer.store_chunks(worker, data, chunks)?;
        self.task.tally.changed.fetch_add(new, Ordering::Relaxed);
        Ok(batch)
    }

    fn end(&self, mut worker: PackWorker) -> Result<(), OpsError> {
        // Store the rest even after a failure: the next backup can use these chunks.
        Ok(self.task.packer.flush(&mut worker)?)
    }
}
