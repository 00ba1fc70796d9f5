//! Leaves on their way into the tree: read and merged with the base by many threads, planted in order.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::coverage::Coverage;
use super::task::BackupTask;
use crate::base::{BlobId, Buffer, LEAF_SIZE, is_zero};
use crate::format::Children;
use crate::ops::error::OpsError;
use crate::ops::in_order::InOrder;
use crate::ops::pipeline::run_stage;
use crate::repo::{
    ChunkFetcher, ChunkRef, ErrorKind, ImageTree, NodeStore, PackWorker, PackedNodes, Top,
    count_chunks, leaf_chunks,
};

/// Leaves that wait for each thread, so that none has to wait for one.
pub(super) const AHEAD: usize = 2;

/// Leaves for each thread that may be under way before the first of them is in the tree: one that is new takes
/// many times as long as one with a chunk to merge, and meanwhile the others go on. What is kept of a leaf that
/// is done is small, its ids.
const LEAVES_AHEAD: usize = 64;

/// The image that is made of the leaves.
pub(super) struct ImageSpec {
    /// Its size in bytes.
    pub(super) size: u64,
    /// What it is compared and merged with.
    pub(super) base: Option<Top>,
    /// What there is where the source says nothing.
    pub(super) unsaid: Gaps,
}

/// What there is where a source says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Zeros: the source tells of all data.
    Zeros,
    /// What the base has: the source tells of changes.
    Base,
}

/// A leaf of which the source says something. How to get at the bytes is in `work`.
struct Job<W> {
    number: usize,
    leaf: u64,
    coverage: Coverage,
    work: W,
}

/// What became of leaves.
enum Done {
    /// One was read and stored: its chunks, unless they are those of the base.
    Leaf(u64, Option<Vec<Option<BlobId>>>),
    /// All of these are zeros.
    Zeros(Range<u64>),
}

/// Takes leaves from a source, in ascending order.
pub(super) struct Deal<W> {
    number: usize,
    permits: Sender<()>,
    jobs: Sender<Job<W>>,
    done: Sender<Result<(usize, Done), OpsError>>,
}

/// Nobody takes leaves any more; whoever failed tells why.
const HUNG_UP: OpsError = OpsError::Worker("a worker has stopped");

impl<W> Deal<W> {
    /// A leaf that the source sets where `coverage` says.
    pub(super) fn leaf(&mut self, leaf: u64, coverage: Coverage, work: W) -> Result<(), OpsError> {
        let number = self.next()?;
        let job = Job {
            number,
            leaf,
            coverage,
            work,
        };
        self.jobs.send(job).map_err(|_| HUNG_UP)
    }

    /// Leaves that are nothing but zeros.
    pub(super) fn zeros(&mut self, leaves: Range<u64>) -> Result<(), OpsError> {
        let number = self.next()?;
        let done = Ok((number, Done::Zeros(leaves)));
        self.done.send(done).map_err(|_| HUNG_UP)
    }

    fn next(&mut self) -> Result<usize, OpsError> {
        self.permits.send(()).map_err(|_| HUNG_UP)?;
        self.number += 1;
        Ok(self.number - 1)
    }
}

/// Who hears how far it has come.
pub(super) struct Callbacks<P, F> {
    /// Up to which leaf the tree has come.
    pub(super) planted: P,
    /// That it has failed, which whoever deals need not notice by itself.
    pub(super) failed: F,
}

/// Makes an image's tree: `deal` names leaves, `fill` puts what the source says of one into a buffer of a
/// leaf's length. Returns the tree's top.
pub(super) fn leaves_into<W: Send>(
    task: &BackupTask<'_>,
    plot: &ImageSpec,
    deal: impl FnOnce(&mut Deal<W>) -> Result<(), OpsError> + Send,
    fill: impl Fn(u64, &Coverage, W, &mut Buffer) -> Result<(), OpsError> + Sync,
    hear: Callbacks<impl Fn(u64), impl Fn()>,
) -> Result<Option<BlobId>, OpsError> {
    let threads = task.context.threads;
    let (jobs_in, jobs) = bounded::<Job<W>>(threads * AHEAD);
    let (done_in, done) = bounded::<Result<(usize, Done), OpsError>>(threads * AHEAD);
    let (permits_in, permits) = bounded::<()>(threads * LEAVES_AHEAD);
    thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let permits = permits;
        let dealt = done_in.clone();
        scope.spawn(move || {
            run_stage(dealt, |dealt| {
                let mut dealer = Deal {
                    number: 0,
                    permits: permits_in,
                    jobs: jobs_in,
                    done: dealt.clone(),
                };
                match deal(&mut dealer) {
                    Err(OpsError::Worker(_)) => Ok(()),
                    result => result,
                }
            });
        });
        for _ in 0..threads {
            let (jobs, done, fill) = (jobs.clone(), done_in.clone(), &fill);
            scope.spawn(move || run_stage(done, |done| work(task, plot, fill, &jobs, done)));
        }
        drop((jobs, done_in));
        assemble(task, plot, done, &permits, hear.planted).inspect_err(|_| (hear.failed)())
    })
}

/// One worker: leaves in, chunks stored, ids out.
fn work<W>(
    task: &BackupTask<'_>,
    plot: &ImageSpec,
    fill: &impl Fn(u64, &Coverage, W, &mut Buffer) -> Result<(), OpsError>,
    jobs: &Receiver<Job<W>>,
    done: &Sender<Result<(usize, Done), OpsError>>,
) -> Result<(), OpsError> {
    let mut sealed = task.packer.worker()?;
    let mut merger = Merger::new(task, plot)?;
    let mut buf = Buffer::default();
    let mut result = Ok(());
    for job in jobs {
        let Job {
            number,
            leaf,
            coverage,
            work,
        } = job;
        let step = task.context.cancel.check().map_err(OpsError::from);
        let step = step.and_then(|()| {
            buf.resize(usize::try_from(LEAF_SIZE).unwrap_or(usize::MAX));
            fill(leaf, &coverage, work, &mut buf)?;
            merger.store_leaf(leaf, &coverage, &mut buf, &mut sealed)
        });
        match step {
            Ok(chunks) => {
                let leaf = Done::Leaf(leaf, chunks);
                if done.send(Ok((number, leaf))).is_err() {
                    break;
                }
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // Also after a failure: what has been compressed is of use to the next task.
    task.packer.flush(&mut sealed)?;
    result
}

/// Merges leaves with the base.
struct Merger<'a> {
    task: &'a BackupTask<'a>,
    plot: &'a ImageSpec,
    chunk_size: usize,
    fetcher: ChunkFetcher<'a>,
    /// A leaf of the base, as far as it was asked for.
    before: Buffer,
}

impl<'a> Merger<'a> {
    fn new(task: &'a BackupTask<'a>, plot: &'a ImageSpec) -> Result<Self, OpsError> {
        Ok(Self {
            task,
            plot,
            chunk_size: task.project.chunk_size.usize(),
            fetcher: ChunkFetcher::new(task.blobs)?,
            before: Buffer::default(),
        })
    }

    /// Stores a leaf's new chunks. Its ids, unless they are the base's.
    fn store_leaf(
        &mut self,
        leaf: u64,
        coverage: &Coverage,
        buf: &mut [u8],
        sealed: &mut PackWorker,
    ) -> Result<Option<Vec<Option<BlobId>>>, OpsError> {
        let (task, chunk_size) = (self.task, self.chunk_size);
        let before = self.base_chunks(leaf)?;
        let touched = coverage.touched(chunk_size);
        self.complete(leaf, coverage, &before, buf)?;
        let mut now = match self.plot.unsaid {
            Gaps::Base => before.clone(),
            Gaps::Zeros => vec![None; before.len()],
        };
        let mut chunks = Vec::new();
        for range in touched {
            for start in range.clone().step_by(chunk_size) {
                let (number, place) = (start / chunk_size, start..start + chunk_size);
                let plain = &buf[place.clone()];
                now[number] = None;
                if is_zero(plain) {
                    continue;
                }
                let id = task.project.keys.chunk_id(plain);
                if task.reread || before[number] != Some(id) {
                    chunks.push((id, place));
                }
                now[number] = Some(id);
            }
        }
        // What changed together is read together.
        task.packer.store_chunks(sealed, buf, chunks)?;
        let pairs = before.iter().zip(&now);
        let changed = pairs.filter(|(before, now)| before != now).count();
        let bytes = (changed * chunk_size) as u64;
        task.tally.changed.fetch_add(bytes, Ordering::Relaxed);
        Ok((task.reread || changed > 0).then_some(now))
    }

    fn base_chunks(&self, leaf: u64) -> Result<Vec<Option<BlobId>>, OpsError> {
        let task = self.task;
        let width = task.project.chunk_size.per_leaf();
        let Some(base) = self.plot.base else {
            return Ok(vec![None; width]);
        };
        match leaf_chunks(task.blobs, base, leaf, width) {
            Err(error)
                if task.reread
                    && self.plot.unsaid == Gaps::Zeros
                    && error.kind() == ErrorKind::Damaged =>
            {
                Ok(vec![None; width])
            }
            chunks => Ok(chunks?),
        }
    }

    /// Fills what the source left out of chunks that it touched.
    fn complete(
        &mut self,
        leaf: u64,
        coverage: &Coverage,
        before: &[Option<BlobId>],
        buf: &mut [u8],
    ) -> Result<(), OpsError> {
        let chunk_size = self.chunk_size;
        if self.plot.unsaid == Gaps::Zeros {
            for gap in coverage.gaps(chunk_size) {
                buf[gap].fill(0);
            }
            return Ok(());
        }
        let start = leaf * LEAF_SIZE;
        let mut lacking = vec![false; before.len()];
        for gap in coverage.gaps(chunk_size) {
            lacking[gap.start / chunk_size] = true;
        }
        let mut wanted = Vec::new();
        for (number, id) in before.iter().enumerate() {
            if let (Some(id), true) = (*id, lacking[number]) {
                let offset = start + (number * chunk_size) as u64;
                let chunk_size = self.task.project.chunk_size.bytes();
                wanted.push(ChunkRef::new(offset, u64::MAX, chunk_size, id));
            }
        }
        if !wanted.is_empty() {
            self.before.resize(buf.len());
            self.fetcher.fetch(&wanted, start, &mut self.before)?;
        }
        for gap in coverage.gaps(chunk_size) {
            match before[gap.start / chunk_size] {
                Some(_) => buf[gap.clone()].copy_from_slice(&self.before[gap]),
                None => buf[gap].fill(0),
            }
        }
        Ok(())
    }
}

/// Puts the leaves into the tree, in order, as they are done.
fn assemble(
    task: &BackupTask<'_>,
    plot: &ImageSpec,
    done: Receiver<Result<(usize, Done), OpsError>>,
    permits: &Receiver<()>,
    planted: impl Fn(u64),
) -> Result<Option<BlobId>, OpsError> {
    let nodes = PackedNodes {
        reader: task.blobs,
        packer: task.packer,
        keys: &task.project.keys,
    };
    // A run that trusts nothing asks for every node, so that what was lost is stored again. But what the
    // source leaves to the base can only come from there.
    let base = plot
        .base
        .filter(|_| !task.reread || plot.unsaid == Gaps::Base);
    let mut tree = ImageTree::new(&nodes, plot.size, base)?;
    let mut order = InOrder::new();
    let mut next_leaf = 0;
    let mut plain = Vec::new();
    let zeros_between = plot.unsaid == Gaps::Zeros;
    for result in done {
        let (number, done) = result?;
        order.put(number, done);
        while let Some(done) = order.pop() {
            let _ = permits.recv();
            let leaves = match &done {
                Done::Leaf(leaf, _) => *leaf..leaf + 1,
                Done::Zeros(leaves) => leaves.clone(),
            };
            if zeros_between {
                count_cleared(task, plot, next_leaf..leaves.start)?;
                tree.clear(next_leaf, leaves.start)?;
            }
            match done {
                Done::Leaf(_, None) => {}
                Done::Leaf(leaf, Some(ids)) => {
                    let id = if ids.iter().any(Option::is_some) {
                        plain.clear();
                        Children { level: 0, ids }.encode_into(&mut plain);
                        Some(nodes.store(&plain)?)
                    } else {
                        None
                    };
                    tree.set(leaf, id)?;
                }
                Done::Zeros(_) => {
                    count_cleared(task, plot, leaves.clone())?;
                    tree.clear(leaves.start, leaves.end)?;
                }
            }
            next_leaf = leaves.end;
            planted(next_leaf);
        }
    }
    task.context.cancel.check()?;
    let leaves = plot.size.div_ceil(LEAF_SIZE);
    if zeros_between {
        tree.clear(next_leaf, leaves)?;
    }
    // What is cut off is gone as well.
    let from = if zeros_between { next_leaf } else { leaves };
    count_cleared(task, plot, from..u64::MAX)?;
    planted(leaves);
    Ok(tree.finish()?)
}

/// Counts as changed what the base has in leaves that are gone, or zeros without having been read.
fn count_cleared(
    task: &BackupTask<'_>,
    plot: &ImageSpec,
    leaves: Range<u64>,
) -> Result<(), OpsError> {
    let Some(base) = plot.base.filter(|_| !leaves.is_empty()) else {
        return Ok(());
    };
    match count_chunks(task.blobs, base, &leaves) {
        Ok(chunks) => {
            let bytes = chunks * u64::from(task.project.chunk_size.bytes());
            task.tally.changed.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        }
        // What is lost and not wanted is no reason to fail.
        Err(error) if error.kind() == ErrorKind::Damaged => Ok(()),
        Err(error) => Err(error.into()),
    }
}
