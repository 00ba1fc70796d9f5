//! Fetches many chunks at once: locates them, reads their packs with few requests, and opens each
//! run once.

use std::ops::Range;

use crate::base::{Buffer, to_usize};
use crate::format::BlobKind;
use crate::repo::blobs::{BlobReader, Opener};
use crate::repo::error::RepoError;
use crate::repo::location::BlobLocation;
use crate::repo::tree::ChunkRef;

/// Runs of a pack with at most this many bytes between them are read with one request.
const GAP: u64 = 64 << 10;
/// Maximum number of bytes read with one request, unless a single run is longer.
const READ_MAX: u64 = 8 << 20;

/// Reads chunks of a backup's content. Each thread uses its own fetcher.
pub struct ChunkFetcher<'a> {
    blobs: &'a BlobReader,
    opener: Opener,
    stored: Buffer,
}

/// A wanted chunk and its location.
type Placed = (BlobLocation, ChunkRef);

/// The buffer that chunks are copied into.
struct Place<'a> {
    /// The offset in the content of the first byte of `bytes`.
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
        // The tree may state a wrong length for the chunk, if a faulty program wrote it.
        if plain.len() != chunk.plain_len as usize {
            return Err(RepoError::Tree);
        }
        let into = self.at(&chunk.range());
        into.copy_from_slice(&plain[..chunk.len as usize]);
        Ok(())
    }
}

impl<'a> ChunkFetcher<'a> {
    /// Returns a fetcher that reads with this reader.
    #[must_use]
    pub fn new(blobs: &'a BlobReader) -> Self {
        Self {
            blobs,
            opener: Opener::default(),
            stored: Buffer::default(),
        }
    }

    /// Copies chunks to their places in `into`, a buffer for the content from byte `start` on. The
    /// chunks must be in ascending order. Returns the number of bytes that were read from packs,
    /// without those that were read again because of damage. After an error, the content of `into`
    /// is unspecified.
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

    /// Opens a run in the fetched bytes, and copies these chunks of the run. The fetched bytes
    /// begin at `start` in the pack.
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

    /// Reads chunks one by one, each from a pack in which it is undamaged, and copies them.
    fn elsewhere(&self, chunks: &[Placed], into: &mut Place<'_>) -> Result<(), RepoError> {
        for (_, chunk) in chunks {
            into.put(&self.blobs.chunk(&chunk.id)?, chunk)?;
        }
        Ok(())
    }
}

/// Returns how many chunks from the beginning of `places` are read with one request. `places` is
/// sorted by pack and run.
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

/// Returns the range of the content that these chunks fill, if the run can be decompressed directly
/// into this range. For this, they must be all chunks of their run, in its order and without gaps
/// between them. Otherwise returns `None`.
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
