//! Writes a backup to a target: many threads fetch and verify, and few write.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::fill::Tools;
use super::task::{RestoreReport, RestoreTask};
use super::write_units::{Dealer, WriteUnit};
use crate::base::{Buffer, Phase, Progress};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::in_order::InOrder;
use crate::ops::pipeline::run_stage;
use crate::repo::{Backup, Project};
use crate::volume::{FileTarget, RawImage, StreamTarget, Target};

/// Where a backup goes.
pub enum Restored<'a> {
    /// A new file, or a block device whose whole content is replaced.
    New(&'a Path),
    /// A file that may exist and is replaced once the new one is whole.
    Replace(&'a Path),
    /// An existing file or device: only what differs is fetched and written.
    InPlace(&'a Path),
    /// A byte stream of this name.
    Stream(&'a mut (dyn Write + Send), &'a str),
}

/// Write units under way for each thread.
const AHEAD: usize = 2;
/// Threads that write: they wait for the disk while the others compute.
const WRITERS: usize = 2;

/// Writes a backup to a target. A target that fails or is interrupted is never finished.
pub fn restore(
    project: &Project,
    backup: &Backup,
    to: Restored<'_>,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    RestoreTask::with(project, backup, context, Phase::Restore, |task| {
        let size = task.image.size();
        match to {
            Restored::New(path) | Restored::Replace(path) if is_device(path) => {
                into_existing(task, &FileTarget::open_device(path, size)?, path)
            }
            Restored::New(path) => into_fresh(task, &FileTarget::create_new(path, size)?),
            Restored::Replace(path) => into_fresh(task, &FileTarget::replace(path, size)?),
            Restored::InPlace(path) => {
                into_existing(task, &FileTarget::in_place(path, size)?, path)
            }
            Restored::Stream(writer, name) => {
                into_stream(task, &StreamTarget::new(writer, name, size))
            }
        }
    })
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata()
        .is_ok_and(|meta| meta.file_type().is_block_device())
}

/// A new file is zero where nothing is written, and pieces may come in any order.
fn into_fresh(task: &RestoreTask<'_>, target: &FileTarget) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(task.image);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.fill(unit);
    let write = |unit: &WriteUnit| put(task, target, unit);
    pipeline(task, deal, fill, write, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// A stream takes its bytes in order, and knows that zeros are between the pieces.
pub(crate) fn into_stream(task: &RestoreTask<'_>, target: &dyn Target) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(task.image);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.fill(unit);
    pipeline(task, deal, fill, |_| Ok(()), |unit| put(task, target, unit))?;
    Ok(target.finish()?)
}

/// The same for what `base` has otherwise: it is found where the two trees differ, in ascending order. Both
/// are images with chunks of `chunk_size` bytes.
pub(crate) fn changes_into_stream(
    task: &RestoreTask<'_>,
    base: &Backup,
    chunk_size: u32,
    target: &dyn Target,
) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.differences(base, task.image, chunk_size);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.change(unit);
    pipeline(task, deal, fill, |_| Ok(()), |unit| put(task, target, unit))?;
    Ok(target.finish()?)
}

/// What is there already is hashed; only chunks that differ are fetched and written.
fn into_existing(task: &RestoreTask<'_>, target: &FileTarget, path: &Path) -> Result<(), OpsError> {
    // Opened again as a source: it tells where the target has data at all.
    let present = RawImage::open(path)?;
    let deal = |deal: &mut Dealer<'_>| deal.chunks_and_data(task.image, &present);
    let fill = |tools: &mut Tools<'_>, unit: &mut WriteUnit| tools.mend(unit, target);
    let write = |unit: &WriteUnit| put(task, target, unit);
    pipeline(task, deal, fill, write, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// Writes what of a unit must be written, in order.
fn put(task: &RestoreTask<'_>, target: &dyn Target, unit: &WriteUnit) -> Result<(), OpsError> {
    let mut zeros = unit.zeros.iter().peekable();
    let mut zeros_up_to = |end: u64| -> Result<(), OpsError> {
        while let Some(range) = zeros.next_if(|range| range.start < end) {
            target.zero_range(range.start, range.end - range.start)?;
        }
        Ok(())
    };
    for range in &unit.data {
        zeros_up_to(range.start)?;
        target.write_at(range.start, &unit.buf[unit.place(range)])?;
    }
    zeros_up_to(u64::MAX)?;
    let ranges = unit.data.iter().chain(&unit.zeros);
    let written: u64 = ranges.map(|range| range.end - range.start).sum();
    task.written.fetch_add(written, Ordering::Relaxed);
    Ok(())
}

/// Deals out pieces, lets every thread fill some, writes them as they come, and sees them done in order.
fn pipeline(
    task: &RestoreTask<'_>,
    deal: impl FnOnce(&mut Dealer<'_>) -> Result<(), OpsError> + Send,
    fill: impl Fn(&mut Tools<'_>, &mut WriteUnit) -> Result<(), OpsError> + Sync,
    write: impl Fn(&WriteUnit) -> Result<(), OpsError> + Sync,
    mut done: impl FnMut(&WriteUnit) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let ahead = task.context.threads * AHEAD + WRITERS;
    let (jobs_in, jobs) = bounded::<WriteUnit>(ahead);
    let (filled_in, filled) = bounded::<WriteUnit>(ahead);
    let (written_in, written) = bounded::<Result<WriteUnit, OpsError>>(ahead);
    let (spare_in, spare) = bounded::<Buffer>(ahead);
    for _ in 0..ahead {
        let _ = spare_in.send(Buffer::default());
    }
    thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let spare_in = spare_in;
        let written = written;
        let failed = written_in.clone();
        scope.spawn(move || {
            run_stage(failed, |_| {
                let mut dealer = Dealer::new(task.context, &spare, &jobs_in);
                match deal(&mut dealer).and_then(|()| dealer.finish()) {
                    // Nobody takes pieces any more: whoever failed tells why.
                    Err(OpsError::Worker(_)) => Ok(()),
                    result => result,
                }
            });
        });
        for _ in 0..task.context.threads {
            let (jobs, filled, failed) = (jobs.clone(), filled_in.clone(), written_in.clone());
            let fill = &fill;
            scope.spawn(move || run_stage(failed, |_| work(task, fill, &jobs, &filled)));
        }
        for _ in 0..WRITERS {
            let (filled, written, write) = (filled.clone(), written_in.clone(), &write);
            scope.spawn(move || {
                run_stage(written, |written| {
                    for unit in filled {
                        write(&unit)?;
                        if written.send(Ok(unit)).is_err() {
                            break;
                        }
                    }
                    Ok(())
                });
            });
        }
        drop((jobs, filled_in, filled, written_in));

        let size = task.image.size();
        let mut order = InOrder::new();
        for unit in &written {
            let unit = unit?;
            order.put(unit.number, unit);
            while let Some(unit) = order.pop() {
                done(&unit)?;
                let progress = Progress {
                    phase: task.phase,
                    done: unit.range.end,
                    total: Some(size),
                };
                task.context.observer.progress(progress);
                let _ = spare_in.send(unit.buf);
            }
        }
        task.context.cancel.check()?;
        task.context.observer.progress(Progress {
            phase: task.phase,
            done: size,
            total: Some(size),
        });
        Ok(())
    })
}

fn work(
    task: &RestoreTask<'_>,
    fill: &(impl Fn(&mut Tools<'_>, &mut WriteUnit) -> Result<(), OpsError> + Sync),
    jobs: &Receiver<WriteUnit>,
    filled: &Sender<WriteUnit>,
) -> Result<(), OpsError> {
    let mut tools = Tools::new(task)?;
    for mut unit in jobs {
        task.context.cancel.check()?;
        fill(&mut tools, &mut unit)?;
        if filled.send(unit).is_err() {
            break;
        }
    }
    Ok(())
}
