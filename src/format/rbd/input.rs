//! Reading off a stream: what ends too early is told from what cannot be read.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

use super::error::{CutIn, DiffError, DiffErrorKind};

/// Headers are gathered from it; data in larger pieces goes past it.
const BUFFER: usize = 16 << 10;

/// A stream, and how much of it was consumed.
#[derive(Debug)]
pub(super) struct Input<R> {
    inner: BufReader<R>,
    offset: u64,
    /// How long stretches are passed over without being read, where that can be done.
    leap: Option<Leap<R>>,
}

/// Moves on by so many bytes, but not behind the end; how many there were.
type Leap<R> = fn(&mut BufReader<R>, u64) -> io::Result<u64>;

fn leap<R: Read + Seek>(inner: &mut BufReader<R>, length: u64) -> io::Result<u64> {
    let here = inner.stream_position()?;
    let end = inner.get_mut().seek(SeekFrom::End(0))?;
    let length = length.min(end.saturating_sub(here));
    inner.seek(SeekFrom::Start(here + length))?;
    Ok(length)
}

impl<R: Read> Input<R> {
    /// A stream whose next byte is at `offset`.
    pub(super) fn new(inner: R, offset: u64) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            offset,
            leap: None,
        }
    }

    /// The same, of which what is passed over need not be read.
    pub(super) fn seekable(inner: R) -> Self
    where
        R: Seek,
    {
        Self {
            leap: Some(leap),
            ..Self::new(inner, 0)
        }
    }

    /// Bytes consumed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// As much of `buffer` as the stream fills; less only at its end.
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

    /// The whole of `buffer`, which belongs to `part`.
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

    /// The tag of a record, and where it is.
    pub(super) fn tag(&mut self, part: CutIn) -> Result<(u64, u8), DiffError> {
        Ok((self.offset, self.u8(part)?))
    }

    /// Passes over `length` bytes, which belong to `part`.
    pub(super) fn skip(&mut self, length: u64, part: CutIn) -> Result<(), DiffError> {
        let mut left = length;
        if let Some(leap) = self.leap.filter(|_| length > BUFFER as u64) {
            let passed = leap(&mut self.inner, length);
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

    /// Sees to it that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), DiffError> {
        let at = self.offset;
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(DiffErrorKind::Trailing.at(at)),
        }
    }
}
