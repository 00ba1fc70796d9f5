//! Section 11: backup records. They are meant to grow, so they describe themselves: JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::FormatError;
use crate::base::{ChunkSize, SLOT_SIZE};

/// One backup. Ids are in hexadecimal, times in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Features that a reader must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Of which volume.
    pub volume: VolumeInfo,
    /// What it holds.
    pub content: Content,
    /// When reading began.
    pub time: String,
    /// When the record was made.
    pub finished: String,
    /// Where it was made.
    #[serde(default)]
    pub host: Option<String>,
    /// The record that this one was compared with.
    #[serde(default)]
    pub base: Option<String>,
    /// Records that no other record named as head when this one was made.
    #[serde(default)]
    pub heads: Vec<String>,
    /// Given by the user.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the source said of itself.
    #[serde(default)]
    pub source: Option<SourceInfo>,
    /// What it took.
    #[serde(default)]
    pub counts: Counts,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

/// A volume's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Random, stays for all its backups.
    pub id: String,
    /// As the user calls it.
    pub name: String,
}

/// How a content is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// On a fixed grid of slots and chunks.
    Image,
    /// By content.
    Stream,
}

/// Where a backup's tree begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How it is cut.
    pub kind: ContentKind,
    /// In bytes.
    pub size: u64,
    /// In bytes; 0 for a stream.
    pub chunk_size: u32,
    /// The top node, if not all is zero.
    pub top: Option<String>,
    /// Equal roots, equal bytes.
    pub root: String,
}

/// Bytes that need not be UTF-8, such as a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ByteString {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Hex {
        /// In hexadecimal.
        hex: String,
    },
}

impl From<&[u8]> for ByteString {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex {
                hex: crate::base::hex(bytes),
            },
        }
    }
}

impl std::fmt::Display for ByteString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.pad(text),
            Self::Hex { hex } => write!(f, "0x{hex}"),
        }
    }
}

/// What a source said of itself. By it the next backup sees whether a file was written to since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// `file`, `device` or `stdin`.
    pub kind: String,
    /// Where it was read from, on its host.
    #[serde(default)]
    pub path: Option<ByteString>,
    /// Device number and inode of the file.
    #[serde(default)]
    pub inode: Option<(u64, u64)>,
    /// Last modification and last change of the inode, nanoseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub changed_ns: Option<(i64, i64)>,
    /// These times were old enough when they were read that no later write can hide behind them.
    #[serde(default)]
    pub settled: bool,
}

/// What a backup took, in bytes and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Bytes of chunks that differ from the base.
    pub changed: u64,
    /// Bytes read from the source.
    pub read: u64,
    /// Bytes of chunks that the project did not hold.
    pub new: u64,
    /// Bytes written to the repository.
    pub stored: u64,
    /// Chunks that the project did not hold.
    pub chunks_new: u64,
}

impl BackupRecord {
    /// No body is longer, in bytes.
    pub const BODY_MAX: usize = 16 << 20;

    /// The body to compress and seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From the opened body. Unknown required features are refused before the rest is looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        refuse_unknown_features(bytes)?;
        let record: Self = from_json(bytes)?;
        record.content.check()?;
        Ok(record)
    }
}

impl Content {
    fn check(&self) -> Result<(), FormatError> {
        let chunk_size = u64::from(self.chunk_size);
        let fits = match self.kind {
            ContentKind::Image => ChunkSize::new(chunk_size).is_some(),
            ContentKind::Stream => chunk_size == 0,
        };
        if !fits {
            return Err(FormatError::BadValue("chunk_size"));
        }
        if self.size > u64::MAX - SLOT_SIZE {
            return Err(FormatError::LimitExceeded("size"));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Requires {
    #[serde(default)]
    requires: Vec<String>,
}

/// Features come first: a newer object may not even fit today's members.
pub(super) fn refuse_unknown_features(bytes: &[u8]) -> Result<(), FormatError> {
    let Requires { requires } = from_json(bytes)?;
    match requires.first() {
        None => Ok(()),
        Some(feature) => Err(FormatError::UnknownFeature(
            feature.chars().take(80).collect(),
        )),
    }
}

pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|e| FormatError::BadJson(e.to_string()))
}

#[expect(
    clippy::expect_used,
    reason = "plain data with string keys always has a JSON form"
)]
pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}
