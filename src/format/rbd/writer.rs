//! Writing a v1 stream.

use std::io::Write;

use super::error::{DiffError, DiffErrorKind};
use super::record::{BANNER_V1, Bounds, DiffHeader, check_name};

/// Writes one diff, as `rbd import-diff` takes it: ascending extents, then the end. What a reader would
/// refuse is refused before it is written. Errors name the byte of the stream that was to be written.
///
/// Headers are written in small pieces: give it a buffered writer.
#[derive(Debug)]
pub struct DiffWriter<W> {
    output: W,
    offset: u64,
    bounds: Bounds,
    /// Data that the current extent still lacks, in bytes.
    left: u64,
    failed: bool,
}

impl<W: Write> DiffWriter<W> {
    /// Writes the header. It cannot say whether a snapshot is protected.
    pub fn new(output: W, header: &DiffHeader) -> Result<Self, DiffError> {
        let mut records = BANNER_V1.to_vec();
        for (tag, name) in [(b'f', &header.from), (b't', &header.to)] {
            if let Some(name) = name {
                check_name(name).map_err(|kind| kind.at(records.len() as u64))?;
                records.push(tag);
                let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
                records.extend(length.to_le_bytes());
                records.extend(name);
            }
        }
        if header.protected.is_some() {
            return Err(DiffErrorKind::ProtectionInV1.at(records.len() as u64));
        }
        records.push(b's');
        records.extend(header.size.to_le_bytes());
        let mut writer = Self {
            output,
            offset: 0,
            bounds: Bounds::new(header.size),
            left: 0,
            failed: false,
        };
        writer.put(&records)?;
        Ok(writer)
    }

    /// Begins an extent of `length` bytes at byte `offset` of the image, whose [data](Self::data) is to
    /// follow.
    pub fn extent(&mut self, offset: u64, length: u64) -> Result<(), DiffError> {
        self.record(b'w', offset, length)?;
        self.left = length;
        Ok(())
    }

    /// The next bytes of the current extent's data.
    pub fn data(&mut self, data: &[u8]) -> Result<(), DiffError> {
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(self.misuse("the extent has less room than there is data")),
        }
        self.put(data)
    }

    /// An extent of zeros: `length` bytes at byte `offset` of the image.
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), DiffError> {
        self.record(b'z', offset, length)
    }

    /// Bytes of the stream written.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the end, flushes, and gives the output back.
    pub fn finish(mut self) -> Result<W, DiffError> {
        self.complete()?;
        self.put(b"e")?;
        let flushed = self.output.flush();
        flushed.map_err(|error| DiffError::write(error, self.offset))?;
        Ok(self.output)
    }

    fn record(&mut self, tag: u8, offset: u64, length: u64) -> Result<(), DiffError> {
        self.complete()?;
        let admitted = self.bounds.admit(offset, length);
        admitted.map_err(|kind| kind.at(self.offset))?;
        let mut record = [tag; 17];
        record[1..9].copy_from_slice(&offset.to_le_bytes());
        record[9..].copy_from_slice(&length.to_le_bytes());
        self.put(&record)
    }

    /// Sees to it that the extent before has all its data.
    fn complete(&self) -> Result<(), DiffError> {
        match self.left {
            0 => Ok(()),
            _ => Err(self.misuse("the extent before lacks data")),
        }
    }

    fn misuse(&self, what: &'static str) -> DiffError {
        DiffErrorKind::Misuse(what).at(self.offset)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DiffError> {
        if self.failed {
            return Err(self.misuse("writing failed before"));
        }
        self.output.write_all(bytes).map_err(|error| {
            self.failed = true;
            DiffError::write(error, self.offset)
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
