//! Writes an RBD diff stream of version 1.

use std::io::Write;

use super::error::{DiffError, DiffErrorKind};
use super::record::{BANNER_V1, Bounds, DiffHeader, check_name};

/// Writes one diff for `rbd import-diff`: extents in ascending order, then the end record. Refuses
/// to write a record that a reader would refuse. The error then states the offset in the stream at
/// which the record would have begun.
///
/// The output should be buffered: headers are written in small pieces.
#[derive(Debug)]
pub struct DiffWriter<W> {
    output: W,
    offset: u64,
    bounds: Bounds,
    /// The number of bytes of the current extent's data that were not written yet.
    left: u64,
    failed: bool,
}

impl<W: Write> DiffWriter<W> {
    /// Writes the header. Fails if `protected` has a value, which a v1 header cannot state.
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

    /// Begins an extent of `length` bytes at byte `offset` of the image. Its [data](Self::data)
    /// must follow.
    pub fn extent(&mut self, offset: u64, length: u64) -> Result<(), DiffError> {
        self.record(b'w', offset, length)?;
        self.left = length;
        Ok(())
    }

    /// Writes the next bytes of the current extent's data.
    pub fn data(&mut self, data: &[u8]) -> Result<(), DiffError> {
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(self.misuse("there is more data than the extent has room for")),
        }
        self.put(data)
    }

    /// Writes an extent of zeros: `length` bytes at byte `offset` of the image.
    pub fn zero(&mut self, offset: u64, length: u64) -> Result<(), DiffError> {
        self.record(b'z', offset, length)
    }

    /// Returns the number of bytes of the stream that were written.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the end record, flushes, and returns the output.
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

    /// Checks that the previous extent has all its data.
    fn complete(&self) -> Result<(), DiffError> {
        match self.left {
            0 => Ok(()),
            _ => Err(self.misuse("the previous extent is incomplete")),
        }
    }

    fn misuse(&self, what: &'static str) -> DiffError {
        DiffErrorKind::Misuse(what).at(self.offset)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), DiffError> {
        if self.failed {
            return Err(self.misuse("an earlier write failed"));
        }
        self.output.write_all(bytes).map_err(|error| {
            self.failed = true;
            DiffError::write(error, self.offset)
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
