//! Filling pieces: ranged reads of packs → open → verify → into place.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::Run;
use super::pieces::{Piece, len};
use crate::base::{Buffer, is_zero};
use crate::format::BlobKind;
use crate::ops::OpsError;
use crate::repo::{ChunkRef, Location, Opener, RepoError};
use crate::volume::FileTarget;

/// Runs of a pack that lie nearer than this are read in one go.
const GAP: u64 = 64 << 10;
/// No more than this is read in one go, unless a single run is longer.
const READ_MAX: u64 = 8 << 20;

/// What one thread works with.
pub(super) struct Tools<'a> {
    run: &'a Run<'a>,
    opener: Opener,
    stored: Buffer,
}

/// A chunk that is wanted, and where it is.
type Placed = (Location, ChunkRef);

impl<'a> Tools<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Result<Self, OpsError> {
        Ok(Self {
            run,
            opener: Opener::new()?,
            stored: Buffer::default(),
        })
    }

    /// Fills the piece's buffer with its content; all of it is to be written.
    pub(super) fn fill(&mut self, piece: &mut Piece) -> Result<(), OpsError> {
        let wanted = std::mem::take(&mut piece.chunks);
        piece.buf.resize(len(&piece.range));
        let mut filled = 0;
        for chunk in &wanted {
            let place = piece.place(&chunk.range());
            piece.buf[filled..place.start].fill(0);
            filled = place.end;
        }
        piece.buf[filled..].fill(0);
        self.fetch(&wanted, piece)?;
        piece.data.push(piece.range.clone());
        Ok(())
    }

    /// Finds what of the target differs from the piece; that is fetched and to be written.
    pub(super) fn mend(&mut self, piece: &mut Piece, target: &FileTarget) -> Result<(), OpsError> {
        piece.buf.resize(len(&piece.range));
        target.read_at(piece.range.start, &mut piece.buf)?;
        let chunks = std::mem::take(&mut piece.chunks);
        let keys = &self.run.project.keys;
        let mut wanted = Vec::new();
        let (mut data, mut zeros) = (Vec::new(), Vec::new());
        let mut at = piece.range.start;
        for chunk in &chunks {
            let range = chunk.range();
            collect(&mut zeros, at..range.start);
            let here = &piece.buf[piece.place(&range)];
            // The last chunk of an image is longer than what the image has of it: zeros follow.
            let same = match (chunk.plain_len - chunk.len) as usize {
                0 => keys.chunk_id(here) == chunk.id,
                more => keys.chunk_id(&[here, &vec![0; more]].concat()) == chunk.id,
            };
            if !same {
                wanted.push(*chunk);
                collect(&mut data, range.clone());
            }
            at = range.end;
        }
        collect(&mut zeros, at..piece.range.end);
        zeros.retain(|range| !is_zero(&piece.buf[piece.place(range)]));
        self.fetch(&wanted, piece)?;
        (piece.data, piece.zeros) = (data, zeros);
        Ok(())
    }

    /// Reads these chunks from their packs into the piece's buffer.
    fn fetch(&mut self, wanted: &[ChunkRef], piece: &mut Piece) -> Result<(), OpsError> {
        let blobs = self.run.image.blobs();
        let mut places = wanted
            .iter()
            .map(|chunk| Ok((blobs.locate(BlobKind::Chunk, &chunk.id)?, *chunk)))
            .collect::<Result<Vec<_>, RepoError>>()?;
        places.sort_by_key(|(place, _)| (place.pack(), place.ordinal()));
        let mut rest = &places[..];
        while let Some((first, _)) = rest.first() {
            let (together, after) = rest.split_at(read_together(rest));
            rest = after;
            let start = first.run_range().start;
            let end = together
                .last()
                .map_or(start, |(last, _)| last.run_range().end);
            self.stored.resize(len(&(start..end)));
            match blobs.fetch(first, start, &mut self.stored) {
                Ok(()) => {}
                Err(RepoError::Damaged { .. }) => {
                    self.elsewhere(together, piece)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.run.fetched.fetch_add(end - start, Ordering::Relaxed);
            for same_run in together.chunk_by(|a, b| a.0.ordinal() == b.0.ordinal()) {
                self.open(same_run, start, piece)?;
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
        let opened = if let Some(whole) = whole_run(chunks, piece) {
            let into = &mut piece.buf[whole];
            self.opener
                .open_run_into(project, place, stored, into)
                .and_then(|()| {
                    let mut blobs = chunks.iter();
                    blobs.try_for_each(|(place, _)| Opener::blob(project, place, into).map(drop))
                })
        } else {
            self.opener
                .open_run(project, place, stored)
                .and_then(|run| {
                    let mut blobs = chunks.iter();
                    blobs.try_for_each(|(place, chunk)| {
                        put(Opener::blob(project, place, run)?, chunk, piece)
                    })
                })
        };
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

/// How many of these, which are sorted by their place, are read in one go.
fn read_together(places: &[Placed]) -> usize {
    let [(first, _), ..] = places else { return 0 };
    let limit = first.run_range().start + READ_MAX;
    let near = |(a, b): (&Placed, &Placed)| {
        let (a, b) = (a.0.run_range(), &b.0);
        b.pack() == first.pack()
            && b.run_range().start <= a.end + GAP
            && (b.run_range() == a || b.run_range().end <= limit)
    };
    let pairs = places.iter().zip(&places[1..]);
    1 + pairs.take_while(|pair| near(*pair)).count()
}

/// Where in the piece's buffer these chunks lie, if they are all of their run, side by side: then the run
/// is what belongs there.
fn whole_run(chunks: &[Placed], piece: &Piece) -> Option<Range<usize>> {
    let (place, first) = chunks.first()?;
    let mut blobs = place.run().blobs.iter();
    let mut end = first.offset;
    for (_, chunk) in chunks {
        let blob = blobs.next()?;
        let lens = [blob.plain_len, chunk.plain_len];
        if blob.id != chunk.id || chunk.offset != end || lens != [chunk.len; 2] {
            return None;
        }
        end += u64::from(chunk.len);
    }
    let whole = blobs.next().is_none();
    whole.then(|| piece.place(&(first.offset..end)))
}

/// Puts a chunk into its place in the piece's buffer.
fn put(plain: &[u8], chunk: &ChunkRef, piece: &mut Piece) -> Result<(), RepoError> {
    // A faulty writer's tree may claim another length than the chunk has.
    if plain.len() != chunk.plain_len as usize {
        return Err(RepoError::Tree);
    }
    let place = piece.place(&chunk.range());
    piece.buf[place].copy_from_slice(&plain[..chunk.len as usize]);
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
