//! The messages of commands for diffs.

use serde::Serialize;

use crate::format::ByteString;

/// One diff of a stream. `from` and `to` are names of snapshots: strings, or `{"hex": …}` if they
/// are not UTF-8. `size` is the size of the image at `to`, in bytes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffEntry {
    /// `None` if the diff starts from an empty image.
    pub(crate) from: Option<ByteString>,
    /// `None` if the diff leads to the head of the image, which is its current state.
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    /// Whether the snapshot `to` is protected. `None` if the stream does not state it.
    pub(crate) protected: Option<bool>,
    pub(crate) extents: u64,
    pub(crate) extents_data: u64,
    pub(crate) extents_zero: u64,
    pub(crate) bytes_data: u64,
    /// How many of `bytes_data` are in blocks of 4 KiB that contain only zeros.
    pub(crate) bytes_zero_in_data: u64,
    pub(crate) bytes_zero: u64,
    /// The number of 4 MiB leaves that the diff touches.
    pub(crate) leaves: u64,
    /// The number of 64 KiB chunks that the diff touches.
    pub(crate) chunks: u64,
    /// The offset of the first byte that the diff touches; `None` if it touches none.
    pub(crate) first: Option<u64>,
    /// The offset of the last byte that the diff touches; `None` if it touches none.
    pub(crate) last: Option<u64>,
    /// False if the stream is damaged in this diff.
    pub(crate) whole: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffImage {
    /// The binary logarithm of the size of the image's objects, in bytes. `None` if the stream does
    /// not state it.
    pub(crate) order: Option<u8>,
    /// The bits of the features; `None` if the stream does not state them.
    pub(crate) features: Option<u64>,
    pub(crate) feature_names: Vec<String>,
    pub(crate) stripe_unit: Option<u64>,
    pub(crate) stripe_count: Option<u64>,
    pub(crate) metadata: Vec<Metadata>,
    /// The number of diffs that the stream announces.
    pub(crate) diffs: u64,
}

/// One entry of the metadata of an image.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Metadata {
    pub(crate) key: ByteString,
    pub(crate) value: ByteString,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffStream {
    pub(crate) source: String,
    /// 1 or 2; `None` if the stream is damaged before it shows its version.
    pub(crate) version: Option<u8>,
    /// The number of complete diffs.
    pub(crate) diffs: u64,
    /// The number of bytes up to the end of the stream, or up to the damage.
    pub(crate) bytes: u64,
    pub(crate) whole: bool,
    /// The problem and its byte offset, if the stream is damaged.
    pub(crate) damage: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct MergeSummary {
    pub(crate) target: String,
    pub(crate) from: Option<ByteString>,
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    /// The number of diffs merged.
    pub(crate) diffs: u64,
    pub(crate) extents: u64,
    pub(crate) bytes_data: u64,
    pub(crate) bytes_zero: u64,
    pub(crate) bytes_written: u64,
    pub(crate) duration: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ExportSummary {
    /// The backup that the diff leads to.
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    /// The backup that the diff starts from, if any.
    pub(crate) from_backup_id: Option<String>,
    pub(crate) target: String,
    /// The snapshot that the diff starts from; `None` for an empty image.
    pub(crate) from: Option<ByteString>,
    /// The snapshot that the diff leads to; `None` for the head of the image.
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    pub(crate) extents: u64,
    pub(crate) bytes_data: u64,
    pub(crate) bytes_zero: u64,
    pub(crate) bytes_written: u64,
    /// Bytes that were read from the repository.
    pub(crate) bytes_fetched: u64,
    pub(crate) duration: f64,
}
