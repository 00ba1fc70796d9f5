//! The record of a backup, and its commit.

use jiff::Timestamp;

use super::content::content;
use super::options::BackupOptions;
use super::pack::Packed;
use crate::base::{Notice, ObjectHash, VolumeId};
use crate::crypto::random;
use crate::format::{BackupRecord, ByteString, SourceInfo, VolumeInfo};
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::repo::{CommitPermit, Project, Records, RepoError};
use crate::volume::{ImageIdentity, ImageKind};

/// Loads the records, and sends a notice for each one that cannot be read.
pub(super) fn load(project: &Project, context: &Context<'_>) -> Result<Records, OpsError> {
    let records = Records::load_to_build_on(project)?;
    for error in records.damaged() {
        let problem = error.to_string();
        context.observer.notice(Notice::RecordDamaged { problem });
    }
    Ok(records)
}

/// Returns the id of the volume of this name, or a new id if there is no such volume.
pub(super) fn volume_id(records: &Records, name: &str) -> Result<VolumeId, OpsError> {
    match records.of_volume(name).next_back() {
        Some(before) => Ok(before.volume),
        None => Ok(VolumeId::from_bytes(random().map_err(RepoError::from)?)),
    }
}

/// A backup that is complete except for its record.
pub(super) struct Entry {
    pub(super) started: Timestamp,
    pub(super) packed: Packed,
    pub(super) source: SourceInfo,
    pub(super) base: Option<ObjectHash>,
    /// The records of the volume that the backup follows.
    pub(super) follows: Vec<ObjectHash>,
    /// The heads: the records of the project that no other record named as head when the backup
    /// began.
    pub(super) heads: Vec<ObjectHash>,
}

impl Entry {
    /// Stores the record and returns its id.
    pub(super) fn commit(
        &self,
        project: &Project,
        volume: VolumeId,
        options: &BackupOptions,
        cleared: &CommitPermit,
    ) -> Result<ObjectHash, OpsError> {
        let record = BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: volume,
                name: options.volume.clone(),
            },
            content: content(project, &self.packed.stored),
            time: self.started.into(),
            finished: Timestamp::now().into(),
            host: options.host.clone(),
            base: self.base,
            follows: self.follows.clone(),
            replaces: None,
            original: None,
            heads: self.heads.clone(),
            marks: cleared.marks().to_vec(),
            labels: options.labels.clone(),
            source: Some(self.source.clone()),
            attachments: self.packed.attachments.clone(),
            counts: self.packed.counts,
            tool: Some(TOOL.to_owned()),
        };
        Ok(Records::commit(
            project,
            &record,
            self.packed.receipt()?,
            cleared,
        )?)
    }
}

/// Describes a file or device. With `trust_times`, later backups may rely on its times even if its
/// file system is not known to keep times reliably.
pub(super) fn source_info(identity: &ImageIdentity, trust_times: bool) -> SourceInfo {
    use std::os::unix::ffi::OsStrExt;
    SourceInfo {
        kind: match identity.kind {
            ImageKind::File => "file".into(),
            ImageKind::Device => "device".into(),
        },
        path: Some(ByteString::from(identity.path.as_os_str().as_bytes())),
        inode: Some((identity.device, identity.inode)),
        changed_ns: Some((identity.mtime_ns, identity.ctime_ns)),
        settled: identity.settled && (identity.updates_times || trust_times),
        ..SourceInfo::default()
    }
}
