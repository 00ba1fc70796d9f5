//! Backup records: section 11 (Backup record) of `docs/format.md`. They are JSON, because later
//! versions will add members.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::byte_string::ByteString;
use super::error::FormatError;
use super::json::{Object, from_json_with_features, nullable, nullable_object, object, to_json};
use super::time::RecordTime;
use crate::base::{BlobId, ChunkSize, LEAF_SIZE, ObjectHash, Root, VolumeId};

/// Describes one backup. In JSON, ids and hashes are in hexadecimal, times in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Features that a reader must know.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The volume.
    #[serde(deserialize_with = "object")]
    pub volume: VolumeInfo,
    /// The content.
    #[serde(deserialize_with = "object")]
    pub content: Content,
    /// When the writer began to make the snapshot that it then read. If it made none, when it began
    /// to read.
    pub time: RecordTime,
    /// The time at which the record was made.
    pub finished: RecordTime,
    /// The name of the host that made the backup.
    #[serde(default)]
    pub host: Option<String>,
    /// The record of the backup that this one was compared with, or that its changes build on.
    #[serde(default)]
    pub base: Option<ObjectHash>,
    /// The records of the volume that no other record of the volume followed when the writer listed
    /// the records, before it read the source. The order of the volume's backups depends on this
    /// member.
    #[serde(default, deserialize_with = "nullable")]
    pub follows: Vec<ObjectHash>,
    /// The record that this record replaces in the order of backups. This member counts only if a
    /// full signer signed the record. The record repeats `follows` and `time` of the replaced one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ObjectHash>,
    /// The first record of this backup, if this record is a later one. A backup gets a later record
    /// when its labels are changed, or when it is copied to another project. A program that copies
    /// backups detects with this member that this backup was copied already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<ObjectHash>,
    /// The heads of the project when this record was made: the records that were not listed in
    /// `heads` of any other record.
    #[serde(default, deserialize_with = "nullable")]
    pub heads: Vec<ObjectHash>,
    /// The marks that existed when this record was made. The backup uses none of their packs.
    #[serde(default, deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<ObjectHash>,
    /// Labels that the user gave, or that come from the name or the metadata of an image.
    #[serde(default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// The origin of the content.
    #[serde(default, deserialize_with = "nullable_object")]
    pub source: Option<SourceInfo>,
    /// Contents that belong to the backup but are not part of the volume. Each is a stream. Code
    /// that walks over the trees of a backup must walk over all of [`contents`](Self::contents).
    #[serde(default, deserialize_with = "attachments")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The amounts that were read and stored.
    #[serde(default, deserialize_with = "counts")]
    pub counts: Counts,
    /// Program and version.
    #[serde(default)]
    pub tool: Option<String>,
}

/// Identifies a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// A random id, the same in all backups of the volume.
    pub id: VolumeId,
    /// The name that the user gave it.
    pub name: String,
}

/// The rule that cuts a content into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum ContentKind {
    /// Chunks of a fixed size.
    Image,
    /// The content decides where chunks begin.
    Stream,
}

// A derived implementation would also accept `{"image": null}`.
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

/// The content of a backup: its kind, its size, and the top of its tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How the content is cut into chunks.
    pub kind: ContentKind,
    /// The size in bytes.
    pub size: u64,
    /// The size of chunks in bytes; 0 for a stream.
    pub chunk_size: u32,
    /// The top node. `None` if the size is 0, or if the content is an image of zeros.
    #[serde(deserialize_with = "Option::deserialize")]
    pub top: Option<BlobId>,
    /// A MAC of the kind, size, chunk size and top: equal roots mean equal bytes.
    pub root: Root,
}

/// A content that belongs to a backup but is not part of the volume. It is cut like a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The name of the attachment; each name occurs once in a record.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// The top node of its tree; `None` if and only if the size is 0.
    #[serde(deserialize_with = "Option::deserialize")]
    pub top: Option<BlobId>,
    /// The root of a stream with this size and top.
    pub root: Root,
}

impl Attachment {
    /// Returns the description of its content.
    #[must_use]
    pub fn as_content(&self) -> Content {
        Content {
            kind: ContentKind::Stream,
            size: self.size,
            chunk_size: 0,
            top: self.top,
            root: self.root,
        }
    }
}

/// The origin of a content. A later backup uses it to test whether a file has changed. A later
/// backup of a diff uses it to find the backup from which the diff starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// `file`, `device`, `stdin`, `command`, `rbd-diff` or `rbd`.
    pub kind: String,
    /// The name of the source, as the user stated it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of the image in its cluster, as the user or the cluster stated it. Unlike a name, an
    /// id is never used again for another image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The path on the host.
    #[serde(default)]
    pub path: Option<ByteString>,
    /// The device number and the inode number of the file.
    #[serde(default)]
    pub inode: Option<(u64, u64)>,
    /// When the content was last modified (mtime), and when the inode was last changed (ctime), in
    /// nanoseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub changed_ns: Option<(i64, i64)>,
    /// Whether every later write must change the times in `changed_ns`. This is so if these times
    /// were old enough when they were read. Otherwise, a write soon after the last one can leave
    /// them the same.
    #[serde(default)]
    pub settled: bool,
    /// The RBD snapshot that has this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ByteString>,
    /// Whether `snapshot` was protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// The snapshot from which the diff started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_snapshot: Option<ByteString>,
    /// The properties of the image, as Ceph described them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "nullable_object")]
    pub image: Option<RbdImage>,
    /// The image in its cluster, if the content was read from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "nullable_object")]
    pub rbd: Option<RbdIdentity>,
    /// The name of a group. Backups whose sources show the same point in time have the same name
    /// here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `quiesced` if the programs that use the source had written everything to it. `crash` if the
    /// source is in the state in which a power cut would have left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// The number of backups in a row, up to this one, that read only changes. 0 if this one read
    /// all data of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_in_row: Option<u64>,
    /// `verified` if all data was read, and the lists of changes named each change since an earlier
    /// backup. `distrusted` if this backup found a change that no list named, or if an earlier
    /// backup found one and no backup after it has verified the lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_list: Option<String>,
}

impl SourceInfo {
    /// Returns a source of this kind, without other fields.
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
        let image = self
            .image
            .iter()
            .map(|image| ("data_pool", &image.data_pool));
        let rbd = self.rbd.iter().flat_map(|rbd| {
            [
                ("pool", &rbd.pool),
                ("namespace", &rbd.namespace),
                ("image", &rbd.image),
            ]
        });
        for (field, text) in named.into_iter().chain(image).chain(rbd) {
            if text.as_ref().is_some_and(|text| !text.is_valid()) {
                return Err(FormatError::BadValue(field));
            }
        }
        Ok(())
    }
}

/// Identifies an RBD image, and the snapshot that was read. Cluster, pool id, namespace and image
/// id of an image never change. Together, they are never used again for another image. The names of
/// the pool and of the image can change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdIdentity {
    /// The `fsid` of the cluster.
    pub cluster: String,
    /// The number of the pool.
    pub pool_id: u64,
    /// The name of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<ByteString>,
    /// The namespace; `None` for the default namespace of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ByteString>,
    /// The id of the image.
    pub image_id: String,
    /// The name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ByteString>,
    /// The number of the snapshot. Unlike a name, a number is never used again in the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<u64>,
}

impl fmt::Display for RbdIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [&self.pool, &self.namespace, &self.image];
        let names = names.into_iter().flatten().map(ToString::to_string);
        let names: Vec<String> = names.collect();
        write!(f, "{} (id {})", names.join("/"), self.image_id)
    }
}

impl RbdIdentity {
    /// Returns whether both identify the same image, even if names and snapshots differ.
    #[must_use]
    pub fn same_image(&self, other: &Self) -> bool {
        let key = |of: &Self| {
            (
                of.cluster.clone(),
                of.pool_id,
                of.namespace.clone(),
                of.image_id.clone(),
            )
        };
        key(self) == key(other)
    }

    /// Returns whether the images have the same name, and are in pools and namespaces with the same
    /// names.
    #[must_use]
    pub fn same_name(&self, other: &Self) -> bool {
        (&self.pool, &self.namespace, &self.image) == (&other.pool, &other.namespace, &other.image)
    }
}

/// The properties of an RBD image, as `rbd info` or `rbd export --export-format 2` describes them.
/// For a property that is missing, Ceph used its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdImage {
    /// The binary logarithm of the size of objects, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u8>,
    /// Ceph's feature bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<u64>,
    /// The stripe unit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_unit: Option<u64>,
    /// The number of objects in a stripe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_count: Option<u64>,
    /// The pool that holds the image's data, if this is not the pool of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_pool: Option<ByteString>,
}

/// The amounts that a backup read and stored, in bytes and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Bytes of the chunks that differ from the chunk at the same place in the base, each counted
    /// whole. A chunk that was zeroed or cut off differs, too. For a stream, bytes of chunks that
    /// the project did not hold.
    pub changed: u64,
    /// Bytes read from the source.
    pub read: u64,
    /// Plain bytes of the chunks that were stored.
    pub new: u64,
    /// Bytes written to the repository.
    pub stored: u64,
    /// The number of chunks that were stored.
    pub chunks_new: u64,
}

fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counts, D::Error> {
    nullable_object(deserializer).map(Option::unwrap_or_default)
}

fn attachments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Attachment>, D::Error> {
    let all: Vec<Object<Attachment>> = nullable(deserializer)?;
    Ok(all.into_iter().map(|attachment| attachment.0).collect())
}

impl BackupRecord {
    /// The maximum length of a body, in bytes.
    pub const BODY_MAX: usize = 16 << 20;

    /// Returns the body, to be compressed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Decodes an opened body.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let record: Self = from_json_with_features(bytes)?;
        record.check()?;
        Ok(record)
    }

    /// Returns all contents of the backup: first the content of the volume, then the attachments.
    /// Each of them has its own tree.
    pub fn contents(&self) -> impl Iterator<Item = Content> {
        let attachments = self.attachments.iter().map(Attachment::as_content);
        std::iter::once(self.content.clone()).chain(attachments)
    }

    /// Returns the records that this record names: its heads, those that it follows, and its base.
    pub fn names(&self) -> impl Iterator<Item = &ObjectHash> {
        self.heads.iter().chain(&self.follows).chain(&self.base)
    }

    fn check(&self) -> Result<(), FormatError> {
        for content in self.contents() {
            content.check()?;
        }
        let mut names = HashSet::new();
        for attachment in &self.attachments {
            if !names.insert(&attachment.name) {
                return Err(FormatError::BadValue("attachments"));
            }
        }
        self.source.as_ref().map_or(Ok(()), SourceInfo::check)
    }
}

impl Content {
    /// The maximum size in bytes. Rounding it up to whole leaves does not overflow.
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
            // A stream of zeros also has a tree, since the tree of a stream lists runs of zeros.
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
