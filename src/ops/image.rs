//! Backup of an image: slots are read and compared with the base by many threads, and go into the tree in order.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::OpsError;
use super::backup::{AHEAD, Run, Stored};
use super::in_order::InOrder;
use super::pipeline::tell;
use crate::base::{BlobId, Buffer, Phase, Progress, SLOT_SIZE, is_zero};
use crate::format::{Children, ContentKind};
use crate::repo::{Backup, ErrorKind, ImageTree, NodeStore, PackedNodes, Sealed, Top, slot_chunks};
use crate::volume::ImageSource;

/// A slot to be read.
struct SlotJob {
    number: usize,
    slot: u64,
    /// Where there may be data, within the slot, ascending.
    extents: Vec<Range<u64>>,
}

/// A slot that has been read and stored.
struct SlotDone {
    number: usize,
    slot: u64,
    /// Its chunks, unless they are those of the base.
    chunks: Option<Vec<Option<BlobId>>>,
}

/// Reads an image and stores what changed against the base.
pub(super) fn image_into(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<&Backup>,
) -> Result<Stored, OpsError> {
    let size = image.size();
    let chunk_size = run.project.chunk_size.bytes();
    let base = base.filter(|b| b.record.content.chunk_size == chunk_size);
    let base_top = base.map(|b| Top::new(b.top, b.record.content.size));
    let ahead = run.context.threads * AHEAD;
    let (jobs_in, jobs) = bounded::<SlotJob>(ahead);
    let (done_in, done) = bounded::<Result<SlotDone, OpsError>>(ahead);
    let (permits_in, permits) = bounded::<()>(ahead);
    let top = thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let permits = permits;
        let failed = done_in.clone();
        scope.spawn(move || tell(failed, |_| find_slots(image, &permits_in, &jobs_in)));
        for _ in 0..run.context.threads {
            let (jobs, done) = (jobs.clone(), done_in.clone());
            scope.spawn(move || tell(done, |done| work(run, image, base_top, &jobs, done)));
        }
        drop((jobs, done_in));
        // Without a base every node is asked for, so that what was lost is stored again.
        let base = base_top.filter(|_| !run.reread);
        plant(run, size, base, done, &permits)
    })?;
    if image.changed_meanwhile()? {
        return Err(OpsError::SourceChanged {
            path: image.path().display().to_string(),
        });
    }
    Ok(Stored {
        kind: ContentKind::Image,
        size,
        top,
    })
}

/// Deals out the slots that have data, in order. A failure to send means that somebody else failed.
fn find_slots(
    image: &ImageSource,
    permits: &Sender<()>,
    jobs: &Sender<SlotJob>,
) -> Result<(), OpsError> {
    let mut open: Option<SlotJob> = None;
    let mut number = 0;
    let send = |job: SlotJob| permits.send(()).is_ok() && jobs.send(job).is_ok();
    for extent in image.data_extents() {
        let extent = extent?;
        let mut at = extent.start;
        while at < extent.end {
            let slot = at / SLOT_SIZE;
            let end = extent.end.min((slot + 1) * SLOT_SIZE);
            match &mut open {
                Some(job) if job.slot == slot => job.extents.push(at..end),
                _ => {
                    let mut next = SlotJob {
                        number,
                        slot,
                        extents: Vec::with_capacity(1),
                    };
                    next.extents.push(at..end);
                    number += 1;
                    if open.replace(next).is_some_and(|job| !send(job)) {
                        return Ok(());
                    }
                }
            }
            at = end;
        }
    }
    if let Some(job) = open {
        send(job);
    }
    Ok(())
}

/// One worker: slots in, chunks stored, ids out.
fn work(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<Top>,
    jobs: &Receiver<SlotJob>,
    done: &Sender<Result<SlotDone, OpsError>>,
) -> Result<(), OpsError> {
    let mut sealed = run.packer.worker()?;
    let mut buf = Buffer::new(usize::try_from(SLOT_SIZE).unwrap_or(usize::MAX));
    let mut result = Ok(());
    for job in jobs {
        let step = run
            .context
            .cancel
            .check()
            .map_err(OpsError::from)
            .and_then(|()| store_slot(run, image, base, &job, &mut buf, &mut sealed));
        match step {
            Ok(chunks) => {
                let SlotJob { number, slot, .. } = job;
                if done
                    .send(Ok(SlotDone {
                        number,
                        slot,
                        chunks,
                    }))
                    .is_err()
                {
                    break;
                }
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // Also after a failure: what has been compressed is of use to the next run.
    run.packer.flush(&mut sealed)?;
    result
}

/// Reads a slot and stores its new chunks. Its ids, unless they are the base's.
fn store_slot(
    run: &Run<'_>,
    image: &ImageSource,
    base: Option<Top>,
    job: &SlotJob,
    buf: &mut [u8],
    sealed: &mut Sealed,
) -> Result<Option<Vec<Option<BlobId>>>, OpsError> {
    let chunk_size = run.project.chunk_size.usize();
    let width = run.project.chunk_size.per_slot();
    let start = job.slot * SLOT_SIZE;
    let place = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
    let mut touched = vec![false; width];
    let mut filled = 0;
    for extent in &job.extents {
        let range = place(extent.start)..place(extent.end);
        buf[filled..range.start].fill(0);
        filled = range.end;
        touched[range.start / chunk_size..range.end.div_ceil(chunk_size)].fill(true);
        image.read_at(extent.start, &mut buf[range])?;
        run.tally
            .read
            .fetch_add(extent.end - extent.start, Ordering::Relaxed);
    }
    buf[filled..].fill(0);

    let before = match base.map(|top| slot_chunks(run.blobs, top, job.slot, width)) {
        Some(Err(error)) if run.reread && error.kind() == ErrorKind::Damaged => vec![None; width],
        Some(chunks) => chunks?,
        None => vec![None; width],
    };
    let mut now = vec![None; width];
    for (number, plain) in buf.chunks_exact(chunk_size).enumerate() {
        if touched[number] && !is_zero(plain) {
            let id = run.project.keys.chunk_id(plain);
            if run.reread || before[number] != Some(id) {
                run.packer.add_chunk(sealed, id, plain)?;
            }
            now[number] = Some(id);
        }
    }
    // What changed together is read together.
    run.packer.end_run(sealed)?;
    let changed = before
        .iter()
        .zip(&now)
        .filter(|(before, now)| before != now)
        .count();
    run.tally
        .changed
        .fetch_add((changed * chunk_size) as u64, Ordering::Relaxed);
    Ok((run.reread || changed > 0).then_some(now))
}

/// Puts the slots into the tree, in order, as they are done; holes between them become zeros.
fn plant(
    run: &Run<'_>,
    size: u64,
    base: Option<Top>,
    done: Receiver<Result<SlotDone, OpsError>>,
    permits: &Receiver<()>,
) -> Result<Option<BlobId>, OpsError> {
    let nodes = PackedNodes {
        reader: run.blobs,
        packer: run.packer,
        keys: &run.project.keys,
    };
    let mut tree = ImageTree::new(&nodes, size, base)?;
    let mut order = InOrder::new();
    let mut next_slot = 0;
    let mut plain = Vec::new();
    let progress = |slots: u64| {
        let done = (slots * SLOT_SIZE).min(size);
        run.context.observer.progress(Progress {
            phase: Phase::Backup,
            done,
            total: Some(size),
        });
    };
    for result in done {
        let slot = result?;
        order.put(slot.number, slot);
        while let Some(slot) = order.pop() {
            let _ = permits.recv();
            tree.clear(next_slot, slot.slot)?;
            next_slot = slot.slot + 1;
            if let Some(ids) = slot.chunks {
                let id = if ids.iter().any(Option::is_some) {
                    plain.clear();
                    Children { level: 0, ids }.encode_into(&mut plain);
                    Some(nodes.store(&plain)?)
                } else {
                    None
                };
                tree.set(slot.slot, id)?;
            }
            progress(next_slot);
        }
    }
    run.context.cancel.check()?;
    let slots = size.div_ceil(SLOT_SIZE);
    tree.clear(next_slot, slots)?;
    progress(slots);
    Ok(tree.finish()?)
}
