//! One backup: its record in typed form.

use jiff::Timestamp;

use super::error::{Damage, RepoError};
use super::object_ref::ObjectRef;
use super::project::Project;
use super::tree::Top;
use crate::base::{BlobId, ObjectHash, Root, VolumeId};
use crate::format::{BackupRecord, ByteString, FormatError, root_description};

/// A backup: its record, with the ids and times in typed form.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The hash that its record is named by.
    pub id: ObjectHash,
    /// Its volume.
    pub volume: VolumeId,
    /// When reading of the source began.
    pub time: Timestamp,
    /// The top node of its tree; `None` if the content is all zeros.
    pub top: Option<BlobId>,
    /// Equal for backups with equal content.
    pub root: Root,
    /// The heads that existed when it was committed: the records that no other record named as
    /// head.
    pub heads: Vec<ObjectHash>,
    /// The marks that existed when it was committed. It uses nothing that they name.
    pub marks: Vec<ObjectHash>,
    /// The record.
    pub record: BackupRecord,
}

impl Backup {
    /// The snapshot that it was made of, if its source named one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&ByteString> {
        self.record.source.as_ref()?.snapshot.as_ref()
    }

    /// The tree of an image.
    #[must_use]
    pub fn tree(&self) -> Top {
        Top::new(self.top, self.record.content.size)
    }

    /// Parses the ids and times of a record, and verifies that its root fits its content.
    pub(super) fn from_record(
        project: &Project,
        object: ObjectRef,
        record: BackupRecord,
    ) -> Result<Self, RepoError> {
        let bad = |field| RepoError::format(object, FormatError::BadValue(field));
        let content = &record.content;
        let top = content.top.as_ref().map(|id| id.parse());
        let top: Option<BlobId> = top.transpose().map_err(|_| bad("top"))?;
        let root: Root = content.root.parse().map_err(|_| bad("root"))?;
        let described =
            root_description(content.kind, content.size, content.chunk_size, top.as_ref());
        if project.keys.root(&described) != root {
            return Err(RepoError::damaged(
                object,
                Damage::Impossible("its root does not fit its content"),
            ));
        }
        let hashes = |texts: &[String], field| {
            let hashes = texts.iter().map(|text| text.parse());
            hashes
                .collect::<Result<Vec<ObjectHash>, _>>()
                .map_err(|_| bad(field))
        };
        Ok(Self {
            id: object.hash().ok_or_else(|| bad("id"))?,
            volume: record.volume.id.parse().map_err(|_| bad("volume.id"))?,
            time: record.time.parse().map_err(|_| bad("time"))?,
            top,
            root,
            heads: hashes(&record.heads, "heads")?,
            marks: hashes(&record.marks, "marks")?,
            record,
        })
    }
}
