//! Filling pieces with what belongs there, or finding what of them is wrong.

use std::sync::atomic::Ordering;

use super::Run;
use super::pieces::{Piece, collect, len};
use crate::base::is_zero;
use crate::ops::OpsError;
use crate::repo::{ChunkFetcher, ChunkRef};
use crate::volume::FileTarget;

/// What one thread works with.
pub(super) struct Tools<'a> {
    run: &'a Run<'a>,
    fetcher: ChunkFetcher<'a>,
}

impl<'a> Tools<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Result<Self, OpsError> {
        Ok(Self {
            run,
            fetcher: ChunkFetcher::new(run.image.blobs())?,
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

    /// Fetches the piece's chunks; these and its zeros are to be written, and nothing between them.
    pub(super) fn change(&mut self, piece: &mut Piece) -> Result<(), OpsError> {
        let wanted = std::mem::take(&mut piece.chunks);
        if wanted.is_empty() {
            return Ok(());
        }
        piece.buf.resize(len(&piece.range));
        self.fetch(&wanted, piece)?;
        for chunk in &wanted {
            collect(&mut piece.data, chunk.range());
        }
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

    fn fetch(&mut self, wanted: &[ChunkRef], piece: &mut Piece) -> Result<(), OpsError> {
        let start = piece.range.start;
        let fetched = self.fetcher.fetch(wanted, start, &mut piece.buf)?;
        self.run.fetched.fetch_add(fetched, Ordering::Relaxed);
        Ok(())
    }
}
