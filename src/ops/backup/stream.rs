//! Backup of a byte stream: cut by content, since nothing says where in it a change begins.

use std::io::{ErrorKind, Read};
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::task::{BackupTask, Stored};
use crate::base::{Phase, Progress, is_zero};
use crate::chunk::StreamCutter;
use crate::format::{ContentKind, StreamEntry};
use crate::ops::error::OpsError;
use crate::ops::in_order::InOrder;
use crate::ops::pipeline::run_stage;
use crate::repo::{PackedNodes, StreamTree};

/// Chunks that go through the pipeline together. Its buffers are used again and again.
#[derive(Default)]
struct Batch {
    number: usize,
    data: Vec<u8>,
    lens: Vec<usize>,
    entries: Vec<StreamEntry>,
}

/// A batch is sent at this many bytes.
const BATCH_TARGET: usize = 2 << 20;

/// Batches that may be under way for each thread, so that one slow batch does not stop the others.
const AHEAD: usize = 4;

/// Reads a stream to its end and stores its chunks.
pub(super) fn stream_into(
    task: &BackupTask<'_>,
    source: impl Read + Send,
) -> Result<Stored, OpsError> {
    let ahead = task.context.threads * AHEAD;
    let (jobs_in, jobs) = bounded::<Batch>(ahead);
    let (done_in, done) = bounded::<Result<Batch, OpsError>>(ahead);
    let (spare_in, spare) = bounded::<Batch>(ahead);
    for _ in 0..ahead {
        let _ = spare_in.send(Batch::default());
    }
    // Nothing is sent: it ends with the assembler.
    let (planting, planted) = bounded::<()>(0);
    thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let (spare_in, _planting) = (spare_in, planting);
        let failed = done_in.clone();
        scope.spawn(move || run_stage(failed, |_| cut(task, source, &spare, &jobs_in, &planted)));
        for _ in 0..task.context.threads {
            let (jobs, done) = (jobs.clone(), done_in.clone());
            scope.spawn(move || run_stage(done, |done| work(task, &jobs, done)));
        }
        drop((jobs, done_in));
        assemble(task, done, &spare_in)
    })
}

/// Cuts the stream into batches. A failure to send means that somebody else failed.
fn cut(
    task: &BackupTask<'_>,
    source: impl Read,
    spare: &Receiver<Batch>,
    jobs: &Sender<Batch>,
    planted: &Receiver<()>,
) -> Result<(), OpsError> {
    let project = task.project;
    let mut cutter = StreamCutter::new(source, project.chunk_size, project.keys.cut_seed());
    for number in 0.. {
        task.context.cancel.check()?;
        let Ok(mut batch) = spare.recv() else { break };
        batch.number = number;
        batch.data.clear();
        batch.lens.clear();
        while batch.data.len() < BATCH_TARGET {
            match cutter.next_chunk() {
                Ok(Some(chunk)) => {
                    batch.data.extend_from_slice(chunk);
                    batch.lens.push(chunk.len());
                }
                Ok(None) => break,
                // It has nothing for now: is there still somebody who waits for it?
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    task.context.cancel.check()?;
                    if planted.try_recv() == Err(TryRecvError::Disconnected) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(OpsError::Stdin(error)),
            }
        }
        if batch.lens.is_empty() || jobs.send(batch).is_err() {
            break;
        }
    }
    Ok(())
}

fn work(
    task: &BackupTask<'_>,
    jobs: &Receiver<Batch>,
    done: &Sender<Result<Batch, OpsError>>,
) -> Result<(), OpsError> {
    let mut sealed = task.packer.worker()?;
    let mut result = Ok(());
    for mut batch in jobs {
        let Batch {
            data,
            lens,
            entries,
            ..
        } = &mut batch;
        entries.clear();
        let mut chunks = Vec::with_capacity(lens.len());
        let mut at = 0;
        for &len in &*lens {
            let place = at..at + len;
            at = place.end;
            let plain = &data[place.clone()];
            let id = (!is_zero(plain)).then(|| task.project.keys.chunk_id(plain));
            entries.push(StreamEntry {
                len: len as u64,
                id,
            });
            chunks.extend(id.map(|id| (id, place)));
        }
        // What follows each other is read together.
        match task.packer.store_chunks(&mut sealed, data, chunks) {
            Ok(new) => drop(task.tally.changed.fetch_add(new, Ordering::Relaxed)),
            Err(error) => result = Err(error.into()),
        }
        if result.is_err() || done.send(Ok(batch)).is_err() {
            break;
        }
    }
    // Also after a failure: what has been compressed is of use to the next task.
    task.packer.flush(&mut sealed)?;
    result
}

/// Appends the chunks to the tree, in order, as they are done.
fn assemble(
    task: &BackupTask<'_>,
    done: Receiver<Result<Batch, OpsError>>,
    spare: &Sender<Batch>,
) -> Result<Stored, OpsError> {
    let nodes = PackedNodes {
        reader: task.blobs,
        packer: task.packer,
        keys: &task.project.keys,
    };
    let mut tree = StreamTree::new(&nodes);
    let mut order = InOrder::new();
    let mut size = 0;
    for result in done {
        let batch = result?;
        order.put(batch.number, batch);
        while let Some(batch) = order.pop() {
            for entry in &batch.entries {
                tree.push(*entry)?;
                size += entry.len;
            }
            let _ = spare.send(batch);
            task.tally.read.store(size, Ordering::Relaxed);
            let progress = Progress {
                phase: Phase::Backup,
                done: size,
                total: None,
            };
            task.context.observer.progress(progress);
        }
    }
    task.context.cancel.check()?;
    Ok(Stored {
        kind: ContentKind::Stream,
        size,
        top: tree.finish()?,
    })
}
