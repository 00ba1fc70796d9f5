//! Restore: record → tree → pieces of the target → ranged reads of packs → open → verify → write.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::in_order::InOrder;
use super::{Context, OpsError};
use crate::base::{Phase, Progress, SLOT_SIZE, is_zero};
use crate::format::BlobKind;
use crate::repo::{
    Backup, BlobReader, ChunkRef, ImageReader, Location, Opener, Project, RepoError,
};
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

/// A stretch of the target that is dealt with at once, at most this long.
const PIECE: u64 = SLOT_SIZE;
/// Runs of a pack that lie nearer than this are read in one go.
const GAP: u64 = 64 << 10;
/// Pieces under way for each thread.
const AHEAD: usize = 2;

/// Consecutive chunks of one stretch; what no chunk covers is zero.
struct Piece {
    number: usize,
    range: Range<u64>,
    chunks: Vec<ChunkRef>,
    /// Bytes of the content up to the end of this piece.
    buf: Vec<u8>,
}

struct Run<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    image: &'a ImageReader<'a>,
    written: AtomicU64,
    fetched: AtomicU64,
}

/// Writes a backup to a target. A target that fails or is interrupted is never finished.
pub fn restore(
    project: &Project,
    backup: &Backup,
    to: Restored<'_>,
    context: &Context<'_>,
) -> Result<RestoreReport, OpsError> {
    let index = context.index(project)?;
    let blobs = BlobReader::new(&index).stopped_by(context.cancel);
    let image = ImageReader::new(&blobs, backup);
    let run = Run {
        project,
        context,
        image: &image,
        written: AtomicU64::new(0),
        fetched: AtomicU64::new(0),
    };
    let size = image.size();
    match to {
        Restored::New(path) | Restored::Replace(path) if is_device(path) => {
            into_existing(&run, &FileTarget::open_device(path, size)?, path)?;
        }
        Restored::New(path) => into_fresh(&run, &FileTarget::create_new(path, size)?)?,
        Restored::Replace(path) => into_fresh(&run, &FileTarget::replace(path, size)?)?,
        Restored::InPlace(path) => into_existing(&run, &FileTarget::in_place(path, size)?, path)?,
        Restored::Stream(writer, name) => {
            into_stream(&run, &StreamTarget::new(writer, name, size))?;
        }
    }
    let report = RestoreReport {
        written: run.written.into_inner(),
        fetched: run.fetched.into_inner(),
    };
    drop(blobs);
    index.close();
    Ok(report)
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata()
        .is_ok_and(|meta| meta.file_type().is_block_device())
}

/// A new file is zero where nothing is written, and pieces may come in any order.
fn into_fresh(run: &Run<'_>, target: &FileTarget) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(run.image);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| {
        tools.fill(piece)?;
        target.write_at(piece.range.start, &piece.buf)?;
        run.written
            .fetch_add(piece.buf.len() as u64, Ordering::Relaxed);
        Ok(())
    };
    pipeline(run, deal, fill, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// A stream takes its bytes in order; the gaps between pieces are zeros that it fills in itself.
fn into_stream(run: &Run<'_>, target: &dyn Target) -> Result<(), OpsError> {
    let deal = |deal: &mut Dealer<'_>| deal.chunks(run.image);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.fill(piece);
    pipeline(run, deal, fill, |piece| {
        target.write_at(piece.range.start, &piece.buf)?;
        run.written
            .fetch_add(piece.buf.len() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(target.finish()?)
}

/// What is there already is hashed; only chunks that differ are fetched and written.
fn into_existing(run: &Run<'_>, target: &FileTarget, path: &Path) -> Result<(), OpsError> {
    // Opened again as a source: it tells where the target has data at all.
    let present = ImageSource::open(path)?;
    let deal = |deal: &mut Dealer<'_>| deal.chunks_and_data(run.image, &present);
    let fill = |tools: &mut Tools<'_>, piece: &mut Piece| tools.mend(piece, target);
    pipeline(run, deal, fill, |_| Ok(()))?;
    Ok(target.finish()?)
}

/// Deals out pieces, lets every thread fill some, and sees them done in order.
fn pipeline(
    run: &Run<'_>,
    deal: impl FnOnce(&mut Dealer<'_>) -> Result<(), OpsError> + Send,
    fill: impl Fn(&mut Tools<'_>, &mut Piece) -> Result<(), OpsError> + Sync,
    mut done: impl FnMut(&Piece) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let ahead = run.context.threads * AHEAD;
    let (jobs_in, jobs) = bounded::<Piece>(ahead);
    let (filled_in, filled) = bounded::<Result<Piece, OpsError>>(ahead);
    let (spare_in, spare) = bounded::<Vec<u8>>(ahead);
    for _ in 0..ahead {
        let _ = spare_in.send(Vec::new());
    }
    thread::scope(|scope| {
        // Dropped before the threads are joined: else a failure leaves one waiting for it.
        let spare_in = spare_in;
        let failed = filled_in.clone();
        scope.spawn(move || {
            let mut dealer = Dealer::new(run.context, &spare, &jobs_in);
            match deal(&mut dealer).and_then(|()| dealer.finish()) {
                // Nobody takes pieces any more: whoever failed tells why.
                Err(OpsError::Worker(_)) | Ok(()) => {}
                Err(error) => drop(failed.send(Err(error))),
            }
        });
        for _ in 0..run.context.threads {
            let (jobs, filled, fill) = (jobs.clone(), filled_in.clone(), &fill);
            scope.spawn(move || {
                if let Err(error) = work(run, fill, &jobs, &filled) {
                    let _ = filled.send(Err(error));
                }
            });
        }
        drop((jobs, filled_in));

        let size = run.image.size();
        let mut order = InOrder::new();
        for piece in filled {
            let piece = piece?;
            order.put(piece.number, piece);
            while let Some(piece) = order.pop() {
                done(&piece)?;
                let progress = Progress {
                    phase: Phase::Restore,
                    done: piece.range.end,
                    total: Some(size),
                };
                run.context.observer.progress(progress);
                let _ = spare_in.send(piece.buf);
            }
        }
        run.context.cancel.check()?;
        run.context.observer.progress(Progress {
            phase: Phase::Restore,
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
    filled: &Sender<Result<Piece, OpsError>>,
) -> Result<(), OpsError> {
    let mut tools = Tools {
        run,
        opener: Opener::new()?,
        stored: Vec::new(),
    };
    for mut piece in jobs {
        run.context.cancel.check()?;
        fill(&mut tools, &mut piece)?;
        if filled.send(Ok(piece)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Cuts the content into pieces, in order.
struct Dealer<'a> {
    context: &'a Context<'a>,
    spare: &'a Receiver<Vec<u8>>,
    jobs: &'a Sender<Piece>,
    number: usize,
    range: Range<u64>,
    chunks: Vec<ChunkRef>,
}

/// Nobody takes pieces any more.
const HUNG_UP: OpsError = OpsError::Worker("a worker has stopped");

impl<'a> Dealer<'a> {
    fn new(
        context: &'a Context<'a>,
        spare: &'a Receiver<Vec<u8>>,
        jobs: &'a Sender<Piece>,
    ) -> Self {
        Self {
            context,
            spare,
            jobs,
            number: 0,
            range: 0..0,
            chunks: Vec::new(),
        }
    }

    /// Every chunk of the image.
    fn chunks(&mut self, image: &ImageReader<'_>) -> Result<(), OpsError> {
        walk(image, |chunk| self.chunk(chunk))
    }

    /// Every chunk of the image, and where there is none but the target has data.
    fn chunks_and_data(
        &mut self,
        image: &ImageReader<'_>,
        present: &ImageSource,
    ) -> Result<(), OpsError> {
        let mut extents = present.data_extents();
        let mut extent = extents.next().transpose()?;
        // Deals out what data the target has where the image has no chunk.
        let mut gap = |dealer: &mut Self, gap: Range<u64>| -> Result<(), OpsError> {
            while let Some(data) = extent.clone().filter(|data| data.start < gap.end) {
                let mut from = data.start.max(gap.start);
                let to = data.end.min(gap.end);
                while from < to {
                    let end = to.min(from + PIECE);
                    dealer.extend(from..end)?;
                    from = end;
                }
                if data.end > gap.end {
                    break;
                }
                extent = extents.next().transpose()?;
            }
            Ok(())
        };
        let mut dealt = 0;
        walk(image, |chunk| {
            gap(self, dealt..chunk.offset)?;
            dealt = chunk.offset + u64::from(chunk.len);
            self.chunk(chunk)
        })?;
        gap(self, dealt..image.size())
    }

    fn chunk(&mut self, chunk: ChunkRef) -> Result<(), OpsError> {
        self.extend(chunk.offset..chunk.offset + u64::from(chunk.len))?;
        self.chunks.push(chunk);
        Ok(())
    }

    /// Lets the piece reach to the end of `range`, or begins another one with it.
    fn extend(&mut self, range: Range<u64>) -> Result<(), OpsError> {
        // A piece that stays within a slot reads what one writer stored together.
        let same_slot = self.range.start / PIECE == range.end.saturating_sub(1) / PIECE;
        if self.range.is_empty() {
            self.range = range;
        } else if same_slot && range.start - self.range.end < PIECE / 2 {
            self.range.end = range.end;
        } else {
            self.finish()?;
            self.range = range;
        }
        Ok(())
    }

    /// Sends the piece that is open.
    fn finish(&mut self) -> Result<(), OpsError> {
        if self.range.is_empty() {
            return Ok(());
        }
        self.context.cancel.check()?;
        let buf = self.spare.recv().map_err(|_| HUNG_UP)?;
        let range = std::mem::replace(&mut self.range, 0..0);
        let chunks = std::mem::take(&mut self.chunks);
        let piece = Piece {
            number: self.number,
            range,
            chunks,
            buf,
        };
        self.number += 1;
        self.jobs.send(piece).map_err(|_| HUNG_UP)
    }
}

/// Walks the chunks with a callback that fails as operations do.
fn walk(
    image: &ImageReader<'_>,
    mut each: impl FnMut(ChunkRef) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let mut failure = None;
    let walked = image.each_chunk(|chunk| {
        each(chunk).map_err(|error| {
            failure = Some(error);
            RepoError::Tree
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(walked?),
    }
}

/// What one thread works with.
struct Tools<'a> {
    run: &'a Run<'a>,
    opener: Opener,
    stored: Vec<u8>,
}

fn len(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
}

impl Tools<'_> {
    /// Fills the piece's buffer with its content.
    fn fill(&mut self, piece: &mut Piece) -> Result<(), OpsError> {
        let wanted = std::mem::take(&mut piece.chunks);
        piece.buf.resize(len(&piece.range), 0);
        let mut filled = 0;
        for chunk in &wanted {
            let at = len(&(piece.range.start..chunk.offset));
            piece.buf[filled..at].fill(0);
            filled = at + chunk.len as usize;
        }
        piece.buf[filled..].fill(0);
        self.fetch(&wanted, piece)
    }

    /// Makes the target's piece what it should be: fetches and writes only what differs.
    fn mend(&mut self, piece: &mut Piece, target: &FileTarget) -> Result<(), OpsError> {
        piece.buf.resize(len(&piece.range), 0);
        target.read_at(piece.range.start, &mut piece.buf)?;
        let chunks = std::mem::take(&mut piece.chunks);
        let keys = &self.run.project.keys;
        let mut wanted = Vec::new();
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut zeros: Vec<Range<u64>> = Vec::new();
        let mut at = piece.range.start;
        let first = piece.range.start;
        let place = |range: &Range<u64>| {
            let start = len(&(first..range.start));
            start..start + len(range)
        };
        for chunk in &chunks {
            let range = chunk.offset..chunk.offset + u64::from(chunk.len);
            collect(&mut zeros, at..range.start);
            let here = &piece.buf[place(&range)];
            let plain_len = self
                .run
                .image
                .blobs()
                .locate(BlobKind::Chunk, &chunk.id)?
                .blob()
                .plain_len as usize;
            // The last chunk of an image is longer than what the image has of it: zeros follow.
            let same = match plain_len.checked_sub(here.len()) {
                Some(0) => keys.chunk_id(here) == chunk.id,
                Some(more) => keys.chunk_id(&[here, &vec![0; more]].concat()) == chunk.id,
                None => false,
            };
            if !same {
                wanted.push(*chunk);
                collect(&mut changed, range.clone());
            }
            at = range.end;
        }
        collect(&mut zeros, at..piece.range.end);
        self.fetch(&wanted, piece)?;
        for range in &changed {
            target.write_at(range.start, &piece.buf[place(range)])?;
        }
        zeros.retain(|range| !is_zero(&piece.buf[place(range)]));
        for range in &zeros {
            target.zero_range(range.start, range.end - range.start)?;
        }
        let written: u64 = changed.iter().chain(&zeros).map(|r| r.end - r.start).sum();
        self.run.written.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Reads these chunks from their packs into the piece's buffer.
    fn fetch(&mut self, wanted: &[ChunkRef], piece: &mut Piece) -> Result<(), OpsError> {
        let blobs = self.run.image.blobs();
        let mut places = wanted
            .iter()
            .map(|chunk| Ok((blobs.locate(BlobKind::Chunk, &chunk.id)?, *chunk)))
            .collect::<Result<Vec<_>, RepoError>>()?;
        places.sort_unstable_by_key(|(place, _)| (place.pack(), place.ordinal()));
        let near = |a: &Placed, b: &Placed| {
            a.0.pack() == b.0.pack() && b.0.run_range().start <= a.0.run_range().end + GAP
        };
        for together in places.chunk_by(near) {
            let (Some((first, _)), Some((last, _))) = (together.first(), together.last()) else {
                continue;
            };
            let range = first.run_range().start..last.run_range().end;
            self.stored.resize(len(&range), 0);
            match blobs.fetch(first, range.start, &mut self.stored) {
                Ok(()) => {}
                Err(RepoError::Damaged { .. }) => {
                    self.elsewhere(together, piece)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.run
                .fetched
                .fetch_add(self.stored.len() as u64, Ordering::Relaxed);
            for same_run in together.chunk_by(|a, b| a.0.ordinal() == b.0.ordinal()) {
                self.open(same_run, range.start, piece)?;
            }
        }
        Ok(())
    }

    /// Opens a run out of what was fetched from `start` on, and takes these chunks out of it.
    fn open(&mut self, chunks: &[Placed], start: u64, piece: &mut Piece) -> Result<(), OpsError> {
        let [(place, _), ..] = chunks else {
            return Ok(());
        };
        let range = place.run_range();
        let at = len(&(start..range.start));
        let stored = &mut self.stored[at..at + len(&range)];
        let project = self.run.project;
        let opened = self
            .opener
            .open_run(project, place, stored)
            .and_then(|run| {
                for (place, chunk) in chunks {
                    put(Opener::blob(project, place, run)?, chunk, piece)?;
                }
                Ok(())
            });
        match opened {
            Ok(()) => Ok(()),
            Err(RepoError::Damaged { .. }) => self.elsewhere(chunks, piece),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads chunks one by one, from whichever of their packs is whole.
    fn elsewhere(&self, chunks: &[Placed], piece: &mut Piece) -> Result<(), OpsError> {
        for (_, chunk) in chunks {
            put(&self.run.image.blobs().chunk(&chunk.id)?, chunk, piece)?;
        }
        Ok(())
    }
}

type Placed = (Location, ChunkRef);

/// Puts a chunk into its place in the piece's buffer.
fn put(plain: &[u8], chunk: &ChunkRef, piece: &mut Piece) -> Result<(), RepoError> {
    let at = len(&(piece.range.start..chunk.offset));
    let into = &mut piece.buf[at..at + chunk.len as usize];
    // A stream's entry may claim another length than its chunk has.
    into.copy_from_slice(plain.get(..into.len()).ok_or(RepoError::Tree)?);
    Ok(())
}

/// Appends a range, joined to the last one if it follows it; an empty one is nothing.
fn collect(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        _ if range.is_empty() => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}
