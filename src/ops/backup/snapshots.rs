//! Existing backups of the snapshot that a source shows.

use super::options::BackupOptions;
use crate::base::{Notice, Root};
use crate::format::ByteString;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::trusted;
use crate::repo::{Backup, Project, Records};

/// The backups of one snapshot that a volume has already. A snapshot never changes, so a new backup
/// of it must have the same content.
pub(super) struct Taken<'a> {
    volume: String,
    snapshot: Option<ByteString>,
    /// Oldest first.
    backups: Vec<&'a Backup>,
    /// Whether these backups may be wrong, since they relied on lists of changes that may have been
    /// incomplete. Then a new backup may have other content.
    pub(super) may_be_wrong: bool,
}

impl<'a> Taken<'a> {
    /// Finds the volume's backups of `snapshot`, if the source shows one. Ignores backups by
    /// another write key, unless the settings trust all keys. The packs of such backups may lack
    /// the blobs that their trees name.
    pub(super) fn find(
        project: &Project,
        records: &'a Records,
        options: &BackupOptions,
        snapshot: Option<ByteString>,
    ) -> Self {
        let is_of = |backup: &&Backup| {
            let same = snapshot.is_some() && backup.snapshot() == snapshot.as_ref();
            same && trusted(project, backup)
        };
        Self {
            backups: records.of_volume(&options.volume).filter(is_of).collect(),
            volume: options.volume.clone(),
            snapshot,
            may_be_wrong: false,
        }
    }

    /// Returns the options for storing the source. If the volume has backups of the snapshot, these
    /// are the options of a dry run: the content is only compared. With --reread, or if these
    /// backups may be wrong, the content is stored, too.
    pub(super) fn compare_only(&self, options: &BackupOptions) -> BackupOptions {
        let store = self.backups.is_empty() || self.may_be_wrong || options.reread;
        BackupOptions {
            dry_run: options.dry_run || !store,
            ..options.clone()
        }
    }

    /// Fails if the volume has backups of the snapshot, but none of this size: then the content
    /// differs. Does not fail if these backups may be wrong.
    pub(super) fn check_size(&self, size: u64) -> Result<(), OpsError> {
        self.one(|backup| backup.record.content.size == size)
            .map(drop)
    }

    /// Returns the newest of these backups whose content has this root. If there is none, fails.
    /// Returns `None` instead if the volume has no backups of the snapshot, or if its backups of
    /// the snapshot may be wrong.
    pub(super) fn same_content(&self, root: Root) -> Result<Option<&'a Backup>, OpsError> {
        self.one(|backup| backup.record.content.root == root)
    }

    fn one(&self, same: impl Fn(&Backup) -> bool) -> Result<Option<&'a Backup>, OpsError> {
        let found = self.backups.iter().rev().copied().find(|b| same(b));
        match (&self.snapshot, self.backups.last()) {
            (Some(snapshot), Some(other)) if found.is_none() && !self.may_be_wrong => {
                Err(OpsError::SnapshotTaken {
                    volume: self.volume.clone(),
                    snapshot: snapshot.to_string(),
                    backup: other.id.to_string(),
                })
            }
            _ => Ok(found),
        }
    }
}

/// Reports that an existing backup keeps its own labels and attachments, if others were given.
pub(super) fn notice_labels(existing: &Backup, options: &BackupOptions, context: &Context<'_>) {
    let kept = &existing.record.labels;
    let mut given = options.labels.iter();
    // A backup of an image in a cluster has more labels than the user gave. So compare only the
    // labels that the user gave.
    if given.any(|(key, value)| kept.get(key) != Some(value)) {
        let backup = existing.id;
        context.observer.notice(Notice::LabelsKept { backup });
    }
    if !options.attached.is_empty() {
        let backup = existing.id;
        context.observer.notice(Notice::NotAttached { backup });
    }
}
