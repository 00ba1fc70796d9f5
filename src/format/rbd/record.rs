//! The parts of a diff, and the rules that both reader and writer check.

use super::error::DiffErrorKind;

/// The version of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffVersion {
    /// One diff, as `rbd export-diff` writes it.
    V1,
    /// An image with all its snapshots, as `rbd export --export-format 2` writes it.
    V2,
}

/// The header of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffHeader {
    /// The snapshot from which the diff starts; `None` for the empty image. Names have 1 to 4096
    /// bytes, of which none is NUL. They need not be UTF-8.
    pub from: Option<Vec<u8>>,
    /// The snapshot to which the diff leads; `None` for the image itself (its head).
    pub to: Option<Vec<u8>>,
    /// The size of the image after the diff, in bytes.
    pub size: u64,
    /// Whether the snapshot `to` is protected; `None` if the stream does not state it.
    pub protected: Option<bool>,
}

/// A range of the image that a diff sets. Extents are in ascending order and do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first byte; it need not be aligned.
    pub offset: u64,
    /// The length in bytes; never 0.
    pub length: u64,
    /// The new content of the range.
    pub kind: ExtentKind,
}

impl Extent {
    /// Returns the offset of the first byte after the range, at most `u64::MAX`. The result is
    /// exact for each extent that a reader returned.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// The new content of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// The bytes that follow the extent in the stream.
    Data,
    /// Zeros.
    Zero,
}

pub(super) const BANNER_V1: &[u8; 12] = b"rbd diff v1\n";
pub(super) const BANNER_V2: &[u8; 12] = b"rbd diff v2\n";

/// The maximum length of a name that `rbd import-diff` accepts, in bytes.
pub(super) const NAME_MAX: u32 = 4096;

pub(super) fn check_name(name: &[u8]) -> Result<(), DiffErrorKind> {
    if name.is_empty() {
        Err(DiffErrorKind::NameEmpty)
    } else if name.len() as u64 > u64::from(NAME_MAX) {
        Err(DiffErrorKind::NameTooLong(name.len() as u64))
    } else if name.contains(&0) {
        // `rbd import-diff` would cut the name at the NUL byte, and so use another snapshot.
        Err(DiffErrorKind::NameNul)
    } else {
        Ok(())
    }
}

/// The range in which the next extent may be.
#[derive(Debug)]
pub(super) struct Bounds {
    size: u64,
    /// The end of the previous extent.
    end: u64,
}

impl Bounds {
    pub(super) fn new(size: u64) -> Self {
        Self { size, end: 0 }
    }

    /// Checks the next extent, and notes its end.
    pub(super) fn admit(&mut self, offset: u64, length: u64) -> Result<(), DiffErrorKind> {
        if length == 0 {
            return Err(DiffErrorKind::EmptyExtent);
        }
        let end = offset.checked_add(length).ok_or(DiffErrorKind::Overflow)?;
        if offset < self.end {
            return Err(DiffErrorKind::OutOfOrder { end: self.end });
        }
        if end > self.size {
            return Err(DiffErrorKind::PastEnd { size: self.size });
        }
        self.end = end;
        Ok(())
    }
}
