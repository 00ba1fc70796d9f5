//! Stores an image leaf by leaf. Many threads merge leaves with the base, and one assembles the
//! tree.

use std::marker::PhantomData;
use std::ops::Range;

use super::assembler::{Assembler, LeafDone};
use super::coverage::Coverage;
use super::image_spec::ImageSpec;
use super::leaf_merger::LeafMerger;
use super::task::BackupTask;
use crate::base::{BlobId, Buffer, LEAF_SIZE, to_usize};
use crate::ops::error::OpsError;
use crate::ops::pipeline::{Failed, Pipeline, Producer, StageError, Stages};
use crate::repo::{PackWorker, PackedNodes};

/// The maximum number of leaves that wait in the queue, for each thread. With more than one, a
/// thread usually finds its next leaf in the queue.
pub(super) const QUEUE: usize = 2;

/// The maximum number of leaves in the pipeline, for each thread. A new leaf takes many times as
/// long as a leaf with a single chunk to merge. While one thread works on a new leaf, the other
/// threads can finish many leaves after it. A finished leaf takes little memory, since only its ids
/// are kept.
const IN_FLIGHT: usize = 64;

/// A leaf of which the source sets some or all bytes.
pub(super) struct LeafJob<W> {
    leaf: u64,
    coverage: Coverage,
    /// The parameter with which the `fill` of [`store_leaves`] gets the bytes of this leaf.
    work: W,
}

/// Sends leaves into the pipeline, in ascending order.
pub(super) struct LeafProducer<'p, 'a, W>(&'p mut Producer<'a, (), LeafJob<W>, LeafDone>);

impl<W> LeafProducer<'_, '_, W> {
    /// Sends a leaf. The source sets the bytes of the leaf that are in the ranges of `coverage`.
    pub(super) fn leaf(
        &mut self,
        leaf: u64,
        coverage: Coverage,
        work: W,
    ) -> Result<(), StageError> {
        self.0.spare()?;
        let job = LeafJob {
            leaf,
            coverage,
            work,
        };
        Ok(self.0.send(job)?)
    }

    /// Sends leaves that contain only zeros.
    pub(super) fn zeros(&mut self, leaves: Range<u64>) -> Result<(), StageError> {
        self.0.spare()?;
        Ok(self.0.send_done(LeafDone::Zeros(leaves))?)
    }
}

/// Stores an image and returns the top of its tree, or `None` if the whole image is zeros.
///
/// `source` sends leaves, in its own thread. Many threads call `fill` with the number of a leaf,
/// its coverage and its `work`. `fill` puts the bytes in the ranges of the coverage into a buffer
/// of a leaf's length. `progress` is called with the number of leaves that the tree has so far.
/// `failed` is set if the pipeline fails.
pub(super) fn store_leaves<W: Send>(
    task: &BackupTask<'_>,
    spec: &ImageSpec,
    failed: &Failed,
    source: impl FnOnce(&mut LeafProducer<'_, '_, W>) -> Result<(), StageError> + Send,
    fill: impl Fn(u64, &Coverage, W, &mut Buffer) -> Result<(), OpsError> + Sync,
    progress: impl Fn(u64),
) -> Result<Option<BlobId>, OpsError> {
    let threads = task.context.threads;
    let pipeline = Pipeline {
        workers: threads,
        queue: threads * QUEUE,
        in_flight: threads * IN_FLIGHT,
        cancel: task.context.cancel,
        failed,
    };
    let nodes = PackedNodes {
        reader: task.blobs,
        packer: task.packer,
        keys: &task.project.keys,
    };
    let mut assembler = Assembler::new(task, spec, &nodes)?;
    let stages = LeafStages {
        task,
        spec,
        fill,
        work: PhantomData,
    };
    pipeline.run(
        &stages,
        |producer| source(&mut LeafProducer(producer)),
        |done| {
            progress(assembler.add(done)?);
            Ok(())
        },
    )?;
    let top = assembler.finish()?;
    progress(spec.size.div_ceil(LEAF_SIZE));
    Ok(top)
}

struct LeafStages<'a, W, F> {
    task: &'a BackupTask<'a>,
    spec: &'a ImageSpec,
    fill: F,
    work: PhantomData<fn(W)>,
}

/// The state of a thread that stores leaves.
struct LeafWorker<'a> {
    merger: LeafMerger<'a>,
    pack: PackWorker,
    buf: Buffer,
}

impl<'a, W, F> Stages for LeafStages<'a, W, F>
where
    W: Send,
    F: Fn(u64, &Coverage, W, &mut Buffer) -> Result<(), OpsError> + Sync,
{
    type Spare = ();
    type Job = LeafJob<W>;
    type Done = LeafDone;
    type Worker = LeafWorker<'a>;

    fn start(&self) -> Result<Self::Worker, OpsError> {
        Ok(LeafWorker {
            pack: self.task.packer.worker()?,
            merger: LeafMerger::new(self.task, self.spec),
            buf: Buffer::default(),
        })
    }

    fn work(&self, worker: &mut Self::Worker, job: Self::Job) -> Result<LeafDone, OpsError> {
        let LeafJob {
            leaf,
            coverage,
            work,
        } = job;
        let LeafWorker { merger, pack, buf } = worker;
        buf.resize(to_usize(LEAF_SIZE));
        (self.fill)(leaf, &coverage, work, buf)?;
        let ids = merger.store_leaf(leaf, &coverage, buf, pack)?;
        Ok(LeafDone::Leaf(leaf, ids))
    }

    fn end(&self, mut worker: Self::Worker) -> Result<(), OpsError> {
        // Store the rest even after a failure: the next backup can use these chunks.
        Ok(self.task.packer.flush(&mut worker.pack)?)
    }
}
