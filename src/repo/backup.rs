//! One backup: its record in typed form.

use jiff::Timestamp;

use super::error::{Damage, RepoError};
use super::layout::ObjectRef;
use super::project::Project;
use crate::base::{BlobId, ObjectHash, Root, VolumeId};
use crate::format::{BackupRecord, ByteString, FormatError, root_description};

/// A backup: its record, with the parts that have a form of their own.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The record's name.
    pub id: ObjectHash,
    /// Which volume it is of.
    pub volume: VolumeId,
    /// When reading began.
    pub time: Timestamp,
    /// The top of its tree, unless all is zero.
    pub top: Option<BlobId>,
    /// Equal roots, equal bytes.
    pub root: Root,
    /// All that is written down.
    pub record: BackupRecord,
}

impl Backup {
    /// The snapshot that it is of, if its source named one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&ByteString> {
        self.record.source.as_ref()?.snapshot.as_ref()
    }

    /// The marks that were there when it was committed, of which it uses nothing.
    pub fn marks(&self) -> impl Iterator<Item = ObjectHash> {
        self.record
            .marks
            .iter()
            .filter_map(|mark| mark.parse().ok())
    }

    pub(super) fn parse(project: &Project, id: ObjectHash, body: &[u8]) -> Result<Self, RepoError> {
        let object = ObjectRef::Backup(project.id, id);
        let bad = |field| RepoError::format(object, FormatError::BadValue(field));
        let record = BackupRecord::decode(body).map_err(|e| RepoError::format(object, e))?;
        let content = &record.content;
        let top = match &content.top {
            None => None,
            Some(id) => Some(id.parse::<BlobId>().map_err(|_| bad("top"))?),
        };
        let root: Root = content.root.parse().map_err(|_| bad("root"))?;
        let described =
            root_description(content.kind, content.size, content.chunk_size, top.as_ref());
        if project.keys.root(&described) != root {
            return Err(RepoError::damaged(
                object,
                Damage::Impossible("its root does not fit its content"),
            ));
        }
        Ok(Self {
            id,
            volume: record.volume.id.parse().map_err(|_| bad("volume.id"))?,
            time: record.time.parse().map_err(|_| bad("time"))?,
            top,
            root,
            record,
        })
    }
}
