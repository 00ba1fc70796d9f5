//! What a diff consists of, and the rules that hold for reader and writer alike.

use super::error::DiffErrorKind;

/// Which of the two kinds of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffVersion {
    /// One diff: `rbd export-diff`.
    V1,
    /// An image and all its snapshots: `rbd export --export-format 2`.
    V2,
}

/// What a diff says before its extents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffHeader {
    /// The snapshot that it builds on; without one it builds on no bytes at all. Names are 1 to 4096
    /// bytes but NUL, and need not be UTF-8.
    pub from: Option<Vec<u8>>,
    /// The snapshot that it leads to; without one it is the image's head.
    pub to: Option<Vec<u8>>,
    /// The image's size in bytes when the diff is applied.
    pub size: u64,
    /// Whether the snapshot is protected, where a v2 stream says so.
    pub protected: Option<bool>,
}

/// A range of the image that a diff sets. Extents ascend and do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes; in no way aligned.
    pub offset: u64,
    /// In bytes; never 0.
    pub length: u64,
    /// To what it is set.
    pub kind: ExtentKind,
}

impl Extent {
    /// The first byte behind it. It exists for every extent that was read.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// To what an extent is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// To the bytes that follow it in the stream.
    Data,
    /// To zeros.
    Zero,
}

pub(super) const BANNER_V1: &[u8; 12] = b"rbd diff v1\n";
pub(super) const BANNER_V2: &[u8; 12] = b"rbd diff v2\n";

/// The most bytes that `import-diff` takes for a name.
pub(super) const NAME_MAX: u32 = 4096;

pub(super) fn check_name(name: &[u8]) -> Result<(), DiffErrorKind> {
    if name.is_empty() {
        Err(DiffErrorKind::NameEmpty)
    } else if name.len() as u64 > u64::from(NAME_MAX) {
        Err(DiffErrorKind::NameTooLong(name.len() as u64))
    } else if name.contains(&0) {
        // `import-diff` would cut it there and make another snapshot than the one that is meant.
        Err(DiffErrorKind::NameNul)
    } else {
        Ok(())
    }
}

/// Where the next extent may lie.
#[derive(Debug)]
pub(super) struct Bounds {
    size: u64,
    /// Behind the extent in front.
    end: u64,
}

impl Bounds {
    pub(super) fn new(size: u64) -> Self {
        Self { size, end: 0 }
    }

    /// Takes an extent, which must follow the ones before.
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
