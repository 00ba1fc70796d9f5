//! Many chunks at once: located, read from their packs in few reads, and each run opened once.

use std::ops::Range;

use super::blobs::{BlobReader, Opener};
use super::error::RepoError;
use super::index::BlobLocation;
use super::tree::ChunkRef;
use crate::base::{Buffer, to_usize};
use crate::format::BlobKind;

/// Runs of a pack that lie nearer than this are read in one go.
const GAP: u64 = 64 << 10;
/// No more than this is read in one go, unless a single run is longer.
const READ_MAX: u64 = 8 << 20;

/// Reads chunks of a backup's content. One a thread.
pub struct ChunkFetcher<'a> {
    blobs: &'a BlobReader,
    opener: Opener,
    stored: Buffer,
}

/// A chunk that is wanted, and where it is.
type Placed = (BlobLocation, ChunkRef);

/// Where chunks are put.
struct Place<'a> {
    /// What byte of the content comes first.
    start: u64,
    bytes: &'a mut [u8],
}

fn len(range: &Range<u64>) -> usize {
    to_usize(range.end - range.start)
}

impl Place<'_> {
    fn at(&mut self, range: &Range<u64>) -> &mut [u8] {
        let at = len(&(self.start..range.start));
        &mut self.bytes[at..at + len(range)]
    }

    fn put(&mut self, plain: &[u8], chunk: &ChunkRef) -> Result<(), RepoError> {
        // A faulty writer's tree may claim another length than the chunk has.
        if plain.len() != chunk.plain_len as usize {
            return Err(RepoError::Tree);
        }
        let into = self.at(&chunk.range());
        into.copy_from_slice(&plain[..chunk.len as usize]);
        Ok(())
    }
}

impl<'a> ChunkFetcher<'a> {
    /// Reads with this reader.
    #[must_use]
    pub fn new(blobs: &'a BlobReader) -> Self {
        Self {
            blobs,
            opener: Opener::default(),
            stored: Buffer::default(),
        }
    }

    /// Puts these chunks, which are in ascending order, into their places in `into`, which begins
    /// at byte `start` of the content. Returns the bytes that were read from packs. After an error
    /// `into` holds anything.
    pub fn fetch(
        &mut self,
        wanted: &[ChunkRef],
        start: u64,
        into: &mut [u8],
    ) -> Result<u64, RepoError> {
        let mut into = Place { start, bytes: into };
        let blobs = self.blobs;
        let mut fetched = 0;
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
                    self.elsewhere(together, &mut into)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            fetched += end - start;
            for same_run in together.chunk_by(|a, b| a.0.ordinal() == b.0.ordinal()) {
                self.open(same_run, start, &mut into)?;
            }
        }
        Ok(fetched)
    }

    /// Opens a run out of what was fetched from `start` on, and takes these chunks out of it.
    fn open(
        &mut self,
        chunks: &[Placed],
        start: u64,
        into: &mut Place<'_>,
    ) -> Result<(), RepoError> {
        let [(place, _), ..] = chunks else {
            return Ok(());
        };
        let range = place.run_range();
        let at = len(&(start..range.start));
        let stored = &mut self.stored[at..at + len(&range)];
        let project = self.blobs.index().project();
        let opened = if let Some(whole) = whole_run(chunks) {
            let run = into.at(&whole);
            self.opener
                .open_run_into(project, place, stored, run)
                .and_then(|()| {
                    let mut blobs = chunks.iter();
                    blobs.try_for_each(|(place, _)| Opener::blob(project, place, run).map(drop))
                })
        } else {
            let last = chunks.last().map_or(place, |(last, _)| last);
            self.opener
                .open_run_to(project, last, stored)
                .and_then(|run| {
                    let mut blobs = chunks.iter();
                    blobs.try_for_each(|(place, chunk)| {
                        into.put(Opener::blob(project, place, run)?, chunk)
                    })
                })
        };
        match opened {
            Ok(()) => Ok(()),
            Err(RepoError::Damaged { .. }) => self.elsewhere(chunks, into),
            Err(error) => Err(error),
        }
    }

    /// Reads chunks one by one, from whichever of their packs is whole.
    fn elsewhere(&self, chunks: &[Placed], into: &mut Place<'_>) -> Result<(), RepoError> {
        for (_, chunk) in chunks {
            into.put(&self.blobs.chunk(&chunk.id)?, chunk)?;
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

/// Where in the content these chunks lie, if they are all of their run, side by side: then the run
/// is what belongs there.
fn whole_run(chunks: &[Placed]) -> Option<Range<u64>> {
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
    whole.then_some(first.offset..end)
}
