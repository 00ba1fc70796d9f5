//! One backup.

use jiff::Timestamp;

use super::envelope::Signed;
use super::error::{Damage, RepoError};
use super::object_ref::ObjectRef;
use super::project::Project;
use super::tree::Top;
use crate::base::{BlobId, ObjectHash, Root, SignerId, VolumeId};
use crate::format::{BackupRecord, ByteString, root_description};

/// A backup: its record, and the hash that names the record.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The hash that names its record.
    pub id: ObjectHash,
    /// Its volume.
    pub volume: VolumeId,
    /// When the writer began to make a snapshot of the source. If it made no snapshot, when it
    /// began to read the source.
    pub time: Timestamp,
    /// The top node of its tree. `None` if the content has no bytes, or is an image of zeros.
    pub top: Option<BlobId>,
    /// Backups with equal roots have equal content.
    pub root: Root,
    /// The key that signed its record.
    pub signer: SignerId,
    /// Whether `signer` is a full key.
    pub is_full: bool,
    /// The record.
    pub record: BackupRecord,
}

impl Backup {
    /// Returns the name of the snapshot of which the backup was made. `None` if the record states
    /// no snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<&ByteString> {
        self.record.source.as_ref()?.snapshot.as_ref()
    }

    /// Returns the top node of its tree, with its level. Call this only for the backup of an image,
    /// since the level is computed as for an image.
    #[must_use]
    pub fn tree(&self) -> Top {
        Top::new(self.top, self.record.content.size)
    }

    /// Returns the top nodes of all its trees: of its content, and of its attachments. Each blob
    /// that it needs is one of these nodes, or is below one.
    pub fn tops(&self) -> impl Iterator<Item = BlobId> {
        self.record.contents().filter_map(|content| content.top)
    }

    /// Makes a backup from its record. Fails if the signer may not back up the volume, or if a root
    /// does not fit its content.
    pub(super) fn from_record(
        project: &Project,
        object: ObjectRef,
        signed: Signed<BackupRecord>,
    ) -> Result<Self, RepoError> {
        let Signed {
            signer,
            body: record,
        } = signed;
        let name = &record.volume.name;
        let may = project.signers.may_back_up(&signer, name);
        may.map_err(|reason| project.foreign(object, &signer, reason))?;
        for content in record.contents() {
            let (kind, top) = (content.kind, content.top.as_ref());
            let described = root_description(kind, content.size, content.chunk_size, top);
            if project.keys.root(&described) != content.root {
                let why = Damage::Impossible("its root does not fit its content");
                return Err(project.malformed(object, &signer, why));
            }
        }
        let unnamed = || RepoError::damaged(object, Damage::WrongHash);
        Ok(Self {
            id: object.hash().ok_or_else(unnamed)?,
            volume: record.volume.id,
            time: record.time.at(),
            top: record.content.top,
            root: record.content.root,
            is_full: project.signers.is_full(&signer),
            signer,
            record,
        })
    }
}
