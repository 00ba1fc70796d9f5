//! Restore: record → tree → pieces of the target → ranged reads of packs → open → verify → write.

mod fill;
mod pieces;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::fill::Tools;
use self::pieces::{Dealer, Piece};
use super::in_order::InOrder;
use super::pipeline::tell;
use super::{Context, OpsError};
use crate::base::{Buffer, Phase, Progress};
use crate::repo::{Backup, BlobReader, ImageReader, Project};
use crate::volume::{FileTarget, ImageSource, StreamTarget, Target};

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

/// What a restore did, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreReport {
    /// Written to the target, or made zero there.
    pub written: u64,
    /// Read from the repository.
    pub fetched: u64,
}

/// Pieces under way for each thread.
const AHEAD: usize = 2;
/// Threads that write: they wait for the disk while the others compute.
const WRITERS: usize = 2;

/// A backup that is being written somewhere.
pub(super) struct Run<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    image: &'a ImageReader<'a>,
    phase: Phase,
    written: AtomicU64,
    fetched: AtomicU64,
}

impl Run<'_> {
    /// Opens what it takes to read the backup, and runs `write`, which is to write it.
    pub(super) fn with(
        project: &Project,
        backup: &Backup,
        context: &Context<'_>,
        phase: Phase,
        write: impl FnOnce(&Run<'_>) -> Result<(), OpsError>,
    ) -> Result<RestoreReport, OpsError> {
        let index = context.index(project)?;
        let blobs = BlobReader::new(&index).stopped_by(context.cancel);
        let image = ImageReader::new(&blobs, backup);
        let run = Run {
            project,
            context,
            image: &image,
            phase,
            written: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        };
        write(&run)?;
        let report = RestoreReport {
            written: run.written.into_inner(),
            fetched: run.fetched.into_inner(),
        };
        drop(blobs);
        index.close();
        Ok(report)
    }
}

/// Writes a backup to a target. A target that fails or is interrupted is never finished.
pub fn restore(
    project: &Project,
    backup: &Backup,
    to: Restored<'_>,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    Run::with(project, backup, context, Phase::Restore, |run| {
        let size = run.image.size();
        match to {
            Restored::New(path) | Restored::Replace(path) if is_device(path) => {
                into_existing(run, &FileTarget::open_device(path, size)?, path)
            }
            Restored::New(path) => into_fresh(run, &FileTarget::create_new(path, size)?),
            Restored::Replace(path) => into_fresh(run, &FileTarget::replace(path, size)?),
            Restored::InPlace(path) => into_existing(run, &FileTarget::in_place(path, size)?, path),
            Restored::Stream(writer, name) => {
                into_stream(run, &StreamTarget::new(writer, name, size))
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
fn into_fresh(run: &Run<'_>, target: &FileTarget) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(run.image);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.fill(piece);
    let write = |piece: &Piece| put(run, target, piece);
    pipeline(run, deal, fill, write, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// A stream takes its bytes in order, and knows that zeros are between the pieces.
pub(super) fn into_stream(run: &Run<'_>, target: &dyn Target) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(run.image);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.fill(piece);
    pipeline(run, deal, fill, |_| Ok(()), |piece| put(run, target, piece))?;
    Ok(target.finish()?)
}

/// The same for what `base` has otherwise: it is found where the two trees differ, in ascending order. Both
/// are images with chunks of `chunk_size` bytes.
pub(super) fn changes_into_stream(
    run: &Run<'_>,
    base: &Backup,
    chunk_size: u32,
    target: &dyn Target,
) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.differences(base, run.image, chunk_size);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.change(piece);
    pipeline(run, deal, fill, |_| Ok(()), |piece| put(run, target, piece))?;
    Ok(target.finish()?)
}

/// What is there already is hashed; only chunks that differ are fetched and written.
fn into_existing(run: &Run<'_>, target: &FileTarget, path: &Path) -> Result<(), OpsError> {
    // Opened again as a source: it tells where the target has data at all.
    let present = ImageSource::open(path)?;
    let deal = |deal: &mut Dealer<'_>| deal.chunks_and_data(run.image, &present);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.mend(piece, target);
    let write = |piece: &Piece| put(run, target, piece);
    pipeline(run, deal, fill, write, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// Writes what of a piece must be written, in order.
fn put(run: &Run<'_>, target: &dyn Target, piece: &Piece) -> Result<(), OpsError> {
    let mut zeros = piece.zeros.iter().peekable();
    let mut zeros_up_to = |end: u64| -> Result<(), OpsError> {
        while let Some(range) = zeros.next_if(|range| range.start < end) {
            target.zero_range(range.start, range.end - range.start)?;
        }
        Ok(())
    };
    for range in &piece.data {
        zeros_up_to(range.start)?;
        target.write_at(range.start, &piece.buf[piece.place(range)])?;
    }
    zeros_up_to(u64::MAX)?;
    let ranges = piece.data.iter().chain(&piece.zeros);
    let written: u64 = ranges.map(|range| range.end - range.start).sum();
    run.written.fetch_add(written, Ordering::Relaxed);
    Ok(())
}

/// Deals out pieces, lets every thread fill some, writes them as they come, and sees them done in order.
fn pipeline(
    run: &Run<'_>,
    deal: impl FnOnce(&mut Dealer<'_>) -> Result<(), OpsError> + Send,
    fill: impl Fn(&mut Tools<'_>, &mut Piece) -> Result<(), OpsError> + Sync,
    write: impl Fn(&Piece) -> Result<(), OpsError> + Sync,
    mut done: impl FnMut(&Piece) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let ahead = run.context.threads * AHEAD + WRITERS;
    let (jobs_in, jobs) = bounded::<Piece>(ahead);
    let (filled_in, filled) = bounded::<Piece>(ahead);
    let (written_in, written) = bounded::<Result<Piece, OpsError>>(ahead);
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
            tell(failed, |_| {
                let mut dealer = Dealer::new(run.context, &spare, &jobs_in);
                match deal(&mut dealer).and_then(|()| dealer.finish()) {
                    // Nobody takes pieces any more: whoever failed tells why.
                    Err(OpsError::Worker(_)) => Ok(()),
                    result => result,
                }
            });
        });
        for _ in 0..run.context.threads {
            let (jobs, filled, failed) = (jobs.clone(), filled_in.clone(), written_in.clone());
            let fill = &fill;
            scope.spawn(move || tell(failed, |_| work(run, fill, &jobs, &filled)));
        }
        for _ in 0..WRITERS {
            let (filled, written, write) = (filled.clone(), written_in.clone(), &write);
            scope.spawn(move || {
                tell(written, |written| {
                    for piece in filled {
                        write(&piece)?;
                        if written.send(Ok(piece)).is_err() {
                            break;
                        }
                    }
                    Ok(())
                });
            });
        }
        drop((jobs, filled_in, filled, written_in));

        let size = run.image.size();
        let mut order = InOrder::new();
        for piece in &written {
            let piece = piece?;
            order.put(piece.number, piece);
            while let Some(piece) = order.pop() {
                done(&piece)?;
                let progress = Progress {
                    phase: run.phase,
                    done: piece.range.end,
                    total: Some(size),
                };
                run.context.observer.progress(progress);
                let _ = spare_in.send(piece.buf);
            }
        }
        run.context.cancel.check()?;
        run.context.observer.progress(Progress {
            phase: run.phase,
            done: size,
            total: Some(size),
        });
        Ok(())
    })
}

fn work(
    run: &Run<'_>,
    fill: &(impl Fn(&mut Tools<'_>, &mut Piece) -> Result<(), OpsError> + Sync),
    jobs: &Receiver<Piece>,
    filled: &Sender<Piece>,
) -> Result<(), OpsError> {
    let mut tools = Tools::new(run)?;
    for mut piece in jobs {
        run.context.cancel.check()?;
        fill(&mut tools, &mut piece)?;
        if filled.send(piece).is_err() {
            break;
        }
    }
    Ok(())
}
