//! Section 11: backup records. They are meant to grow, so they describe themselves: JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::byte_string::ByteString;
use super::error::FormatError;
use super::json::{
    check_time, from_json, nullable, nullable_object, object, refuse_unknown_features, to_json,
};
use crate::base::{ChunkSize, LEAF_SIZE, ObjectHash};

/// One backup. Ids are in hexadecimal, times in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Of which volume.
    #[serde(deserialize_with = "object")]
    pub volume: VolumeInfo,
    /// What it holds.
    #[serde(deserialize_with = "object")]
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
    #[serde(default, deserialize_with = "nullable")]
    pub heads: Vec<String>,
    /// Marks that were there when this one was made, of whose packs it uses none.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// Given by the user.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// What the source said of itself.
    #[serde(default, deserialize_with = "nullable_object")]
    pub source: Option<SourceInfo>,
    /// What it took.
    #[serde(default, deserialize_with = "counts")]
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
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum ContentKind {
    /// On a fixed grid of leaves and chunks.
    Image,
    /// By content.
    Stream,
}

// A derived one would also take `{"image": null}`.
impl TryFrom<String> for ContentKind {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match &text[..] {
            "image" => Ok(Self::Image),
            "stream" => Ok(Self::Stream),
            _ => Err("unknown kind of content"),
        }
    }
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
    /// The top node; none for an image of zeros, and for no bytes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub top: Option<String>,
    /// Equal roots, equal bytes.
    pub root: String,
}

/// What a source said of itself. By it the next backup sees whether a file was written to since, and
/// the next diff finds the backup that it builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// `file`, `device`, `stdin` or `rbd-diff`.
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
    /// The snapshot that the content is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ByteString>,
    /// Whether that snapshot was protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// The snapshot that the diff began at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_snapshot: Option<ByteString>,
    /// The image, as its cluster described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "nullable_object")]
    pub image: Option<RbdImage>,
}

impl SourceInfo {
    /// One that says no more of itself.
    #[must_use]
    pub fn of_kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), FormatError> {
        let named = [
            ("path", &self.path),
            ("snapshot", &self.snapshot),
            ("from_snapshot", &self.from_snapshot),
        ];
        for (field, text) in named {
            if text.as_ref().is_some_and(|text| !text.is_valid()) {
                return Err(FormatError::BadValue(field));
            }
        }
        let metadata = self.image.iter().flat_map(|image| &image.metadata);
        let mut texts = metadata.flat_map(|(key, value)| [key, value]);
        if texts.all(ByteString::is_valid) {
            Ok(())
        } else {
            Err(FormatError::BadValue("metadata"))
        }
    }
}

/// An RBD image, as `rbd export --export-format 2` describes it. What is not there the cluster chose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdImage {
    /// Binary logarithm of an object's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u8>,
    /// Ceph's feature bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<u64>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_unit: Option<u64>,
    /// In objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_count: Option<u64>,
    /// Keys and values, in the order in which they came.
    #[serde(default, deserialize_with = "nullable")]
    pub metadata: Vec<(ByteString, ByteString)>,
}

/// What a backup took, in bytes and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Bytes of chunks, each counted whole, that are not what the base has in the same place: written, cleared or
    /// cut off. Of a stream, of those that the project did not hold.
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

fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counts, D::Error> {
    nullable_object(deserializer).map(Option::unwrap_or_default)
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
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), FormatError> {
        check_time("time", &self.time)?;
        check_time("finished", &self.finished)?;
        self.content.check()?;
        let is_hash = |text: &String| text.parse::<ObjectHash>().is_ok();
        if !self.base.iter().all(is_hash) {
            return Err(FormatError::BadValue("base"));
        }
        if !self.heads.iter().all(is_hash) {
            return Err(FormatError::BadValue("heads"));
        }
        if !self.marks.iter().all(is_hash) {
            return Err(FormatError::BadValue("marks"));
        }
        self.source.as_ref().map_or(Ok(()), SourceInfo::check)
    }
}

impl Content {
    /// Large enough for anything, and such that rounding up to a leaf does not overflow.
    pub const SIZE_MAX: u64 = u64::MAX - LEAF_SIZE + 1;

    fn check(&self) -> Result<(), FormatError> {
        let chunk_size = u64::from(self.chunk_size);
        let fits = match self.kind {
            ContentKind::Image => ChunkSize::new(chunk_size).is_some(),
            ContentKind::Stream => chunk_size == 0,
        };
        if !fits {
            return Err(FormatError::BadValue("chunk_size"));
        }
        if self.size > Self::SIZE_MAX {
            return Err(FormatError::LimitExceeded("size"));
        }
        let fits = match (self.size, self.kind) {
            (0, _) => self.top.is_none(),
            // A stream lists its zeros.
            (_, ContentKind::Stream) => self.top.is_some(),
            (_, ContentKind::Image) => true,
        };
        if fits {
            Ok(())
        } else {
            Err(FormatError::BadValue("top"))
        }
    }
}
