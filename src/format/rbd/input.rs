//! Reads from a stream. The errors distinguish a stream that ends too early from a read that fails.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

use super::error::{CutIn, DiffError, DiffErrorKind};

/// The size in bytes of the buffer for headers; larger reads of data bypass it.
const BUFFER: usize = 16 << 10;

/// A stream, and the offset of its next byte.
#[derive(Debug)]
pub(super) struct Input<R> {
    inner: BufReader<R>,
    offset: u64,
    /// Skips a long range without reading it. `None` if the stream cannot seek.
    seek: Option<SeekForward<R>>,
}

/// A function that moves forward by a number of bytes, but not beyond the end. It returns the
/// number of bytes that it skipped.
type SeekForward<R> = fn(&mut BufReader<R>, u64) -> io::Result<u64>;

fn seek_forward<R: Read + Seek>(inner: &mut BufReader<R>, length: u64) -> io::Result<u64> {
    let here = inner.stream_position()?;
    let end = inner.get_mut().seek(SeekFrom::End(0))?;
    let length = length.min(end.saturating_sub(here));
    inner.seek(SeekFrom::Start(here + length))?;
    Ok(length)
}

impl<R: Read> Input<R> {
    /// Wraps a stream whose next byte is at `offset`.
    pub(super) fn new(inner: R, offset: u64) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            offset,
            seek: None,
        }
    }

    /// Wraps a stream that can seek and is at its beginning. [`skip`](Self::skip) then seeks over
    /// ranges that are longer than the buffer.
    pub(super) fn seekable(inner: R) -> Self
    where
        R: Seek,
    {
        Self {
            seek: Some(seek_forward),
            ..Self::new(inner, 0)
        }
    }

    /// Returns the offset of the next byte from the beginning of the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until `buffer` is full or the stream ends. Returns the number of bytes that were read.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DiffError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(DiffError::read(error, self.offset)),
            }
        }
        Ok(filled)
    }

    /// Fills the whole of `buffer`. If the stream ends earlier, the error names `part`.
    pub(super) fn exact(&mut self, buffer: &mut [u8], part: CutIn) -> Result<(), DiffError> {
        if self.fill(buffer)? == buffer.len() {
            Ok(())
        } else {
            Err(DiffErrorKind::Cut(part).at(self.offset))
        }
    }

    pub(super) fn array<const N: usize>(&mut self, part: CutIn) -> Result<[u8; N], DiffError> {
        let mut bytes = [0; N];
        self.exact(&mut bytes, part)?;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self, part: CutIn) -> Result<u8, DiffError> {
        self.array(part).map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self, part: CutIn) -> Result<u32, DiffError> {
        self.array(part).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, part: CutIn) -> Result<u64, DiffError> {
        self.array(part).map(u64::from_le_bytes)
    }

    /// Reads the tag of a record. Returns its offset and the tag.
    pub(super) fn tag(&mut self, part: CutIn) -> Result<(u64, u8), DiffError> {
        Ok((self.offset, self.u8(part)?))
    }

    /// Skips `length` bytes. If the stream ends earlier, the error names `part`.
    pub(super) fn skip(&mut self, length: u64, part: CutIn) -> Result<(), DiffError> {
        let mut left = length;
        if let Some(seek) = self.seek.filter(|_| length > BUFFER as u64) {
            let passed = seek(&mut self.inner, length);
            let passed = passed.map_err(|error| DiffError::read(error, self.offset))?;
            self.offset += passed;
            left -= passed;
        }
        while left > 0 {
            let there = match self.inner.fill_buf() {
                Ok(buffer) => buffer.len(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(DiffError::read(error, self.offset)),
            };
            if there == 0 {
                return Err(DiffErrorKind::Cut(part).at(self.offset));
            }
            let passed = usize::try_from(left).map_or(there, |left| left.min(there));
            self.inner.consume(passed);
            self.offset += passed as u64;
            left -= passed as u64;
        }
        Ok(())
    }

    /// Checks that the stream has ended.
    pub(super) fn end(&mut self) -> Result<(), DiffError> {
        let at = self.offset;
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(DiffErrorKind::Trailing.at(at)),
        }
    }
}
