//! Copies the backups of one volume, oldest first.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::attachments::copy_attachments;
use super::base::CopyBase;
use super::copies::{Copies, origin};
use super::image::copy_image;
use super::report::{CopyReport, EachCopy};
use super::stream::copy_stream;
use crate::base::{ObjectHash, VolumeId};
use crate::format::{BackupRecord, ContentKind, Counts, SourceInfo, VolumeInfo};
use crate::ops::backup::content::content;
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::pack::{Packed, pack};
use crate::ops::backup::present::Present;
use crate::ops::backup::protect::Protection;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::ops::image_backups::trusted;
use crate::repo::{
    Backup, BlobReader, CommitPermit, Index, IndexContent, Project, Records, RepoError,
    RepoErrorKind, RunLen,
};

/// The state of a copy that all volumes share.
pub(super) struct CopyTask<'a> {
    pub(super) source: &'a Project,
    /// The backups of the source.
    pub(super) records: &'a Records,
    pub(super) target: &'a Project,
    pub(super) context: &'a Context<'a>,
    /// The copies in the target that are known to have lost data.
    pub(super) lost: HashSet<ObjectHash>,
    /// Receives the result for each backup, and decides whether to go on.
    pub(super) each: &'a mut EachCopy<'a>,
    /// The content of the target's index after the previous backup was copied, if that index was in
    /// memory.
    pub(super) content: Option<IndexContent>,
}

impl CopyTask<'_> {
    /// Reports the backups that may not be copied, and removes them from the list. `copies` are the
    /// copies that the volume in the target has.
    pub(super) fn refuse(
        &mut self,
        copies: &Copies,
        backups: &mut Vec<&Backup>,
        accept_write_keys: bool,
    ) -> ControlFlow<()> {
        let (source, records) = (self.source, self.records);
        let refusal = |backup: &Backup| {
            let id = backup.id;
            if copies.of(source, backup).is_some() {
                return None;
            }
            if records.is_voided(backup) || records.is_removed(backup) {
                return Some(OpsError::CopyWithdrawn { backup: id });
            }
            let volume = backup.record.volume.name.clone();
            let is_refused = !accept_write_keys && !trusted(source, backup);
            is_refused.then_some(OpsError::CopyOfWriteKey { backup: id, volume })
        };
        let mut flow = ControlFlow::Continue(());
        backups.retain(|backup| match refusal(backup) {
            Some(error) if flow.is_continue() => {
                flow = (self.each)(backup, Err(error));
                false
            }
            Some(_) => false,
            None => true,
        });
        flow
    }

    /// Returns the result for a backup of which the target already has this copy. Fails if the copy
    /// has lost data.
    fn existing(&self, backup: &Backup, copy: &Backup) -> Result<CopyReport, OpsError> {
        if self.lost.contains(&copy.id) {
            return Err(OpsError::CopyLost {
                backup: backup.id,
                volume: backup.record.volume.name.clone(),
                copy: copy.id,
            });
        }
        Ok(CopyReport::existing(copy))
    }

    /// Reports which of these backups the volume of the target has, and which it lacks.
    pub(super) fn show_volume(
        &mut self,
        copies: &Copies,
        backups: &[&Backup],
        volume: &str,
    ) -> ControlFlow<()> {
        backups.iter().try_for_each(|backup| {
            let report = match copies.of(self.source, backup) {
                Some(copy) => self.existing(backup, copy),
                None => Ok(CopyReport::lacking(volume)),
            };
            (self.each)(backup, report)
        })
    }

    /// Copies these backups of one volume, which are in order, oldest first. `options` names the
    /// volume of the target, and `copies` are the copies that this volume had when the operation
    /// began. Goes on after an error that concerns only one backup.
    pub(super) fn copy_volume(
        &mut self,
        from: &BlobReader,
        copies: &Copies,
        backups: &[&Backup],
        options: &BackupOptions,
    ) -> Result<ControlFlow<()>, OpsError> {
        for backup in backups {
            let result = match copies.of(self.source, backup) {
                Some(copy) => self.existing(backup, copy),
                None => self.copy(from, backup, options),
            };
            let result = match result {
                Err(error) if !is_of_one_backup(&error) => return Err(error),
                result => result,
            };
            if (self.each)(backup, result).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Copies a backup, unless another process has copied it to the target in the meantime.
    /// Protects the copy from concurrent prunes. Reads the records and the index of the target
    /// again, since a prune may have removed data since the previous backup was copied.
    fn copy(
        &mut self,
        from: &BlobReader,
        backup: &Backup,
        options: &BackupOptions,
    ) -> Result<CopyReport, OpsError> {
        let (target, context) = (self.target, self.context);
        let protection = Protection::begin(target, options, context)?;
        let records = Records::load_to_build_on(target)?;
        let copies = Copies::find(target, &records, &options.volume);
        if let Some(copy) = copies.of(self.source, backup) {
            return self.existing(backup, copy);
        }
        let index = protection.index_with(self.content.take())?;
        let present = Present::find(index, None, options, context)?;
        let there = records.of_volume(&options.volume).next_back();
        let copy = VolumeCopy {
            source: self.source,
            target,
            records: self.records,
            from,
            index: Arc::clone(present.index()),
            options: present.options(options),
            context,
            // A new volume gets the id that it has in the source.
            volume: there.map_or(backup.volume, |backup| backup.volume),
            heads: records.heads(),
            copies,
        };
        let report = copy.copy(backup, protection)?;
        self.content = present.into_content();
        Ok(report)
    }
}

/// Returns whether other backups can be copied in spite of this error.
fn is_of_one_backup(error: &OpsError) -> bool {
    matches!(
        error,
        OpsError::NotCopied { .. } | OpsError::CopyTooLarge { .. } | OpsError::CopyLost { .. }
    )
}

/// Copies one backup to a volume of the target.
struct VolumeCopy<'a> {
    source: &'a Project,
    target: &'a Project,
    records: &'a Records,
    from: &'a BlobReader,
    index: Arc<Index>,
    options: BackupOptions,
    context: &'a Context<'a>,
    volume: VolumeId,
    /// The heads of the target.
    heads: Vec<ObjectHash>,
    copies: Copies,
}

impl VolumeCopy<'_> {
    /// Copies a backup. If it cannot be compared with its base, copies it again without a base.
    fn copy(
        &self,
        backup: &Backup,
        mut protection: Protection<'_>,
    ) -> Result<CopyReport, OpsError> {
        let base = self.base_of(backup);
        protection.build_on(base.as_ref().map(|base| base.copy));
        let stored = self.store(backup, base.as_ref(), &protection);
        let (packed, base) = match (stored, base) {
            (Err(OpsError::NotCopied { .. }), Some(base))
                if base.is_unreadable.load(Ordering::Relaxed) =>
            {
                (self.store(backup, None, &protection), None)
            }
            stored => stored,
        };
        let packed = packed.map_err(|error| failure(backup, error))?;
        self.context.cancel.check()?;
        let base = base.map(|base| base.copy.id);
        let counts = packed.counts;
        let id = self
            .commit(backup, &packed, &mut protection)
            .map_err(|error| failure(backup, error))?;
        Ok(CopyReport {
            id: Some(id),
            existing: false,
            volume: self.options.volume.clone(),
            base,
            counts,
        })
    }

    /// Returns the backup with which to compare `backup`. It is of the same volume, and the target
    /// has a copy of it. It is the next older such backup, or else the next newer one. The kinds of
    /// content and the chunk sizes must be equal. A backup by a write key that the source does not
    /// trust may be false, so it is a base only for backups by that key.
    ///
    /// Returns `None` if there is no such backup. If data of the target was lost, always returns
    /// `None`, so that the lost data is stored again.
    fn base_of<'b>(&'b self, backup: &Backup) -> Option<CopyBase<'b>> {
        let (kind, chunk_size) = (backup.record.content.kind, backup.record.content.chunk_size);
        if self.options.reread {
            return None;
        }
        let target_chunk_size = match kind {
            ContentKind::Image => self.target.chunk_size.bytes(),
            ContentKind::Stream => 0,
        };
        let entries = self.records.history(&backup.record.volume.name)?.entries();
        let place = entries.iter().position(|entry| entry.id == backup.id)?;
        let (newer, older) = entries.split_at(place);
        older.iter().chain(newer.iter().rev()).find_map(|entry| {
            let source = self.records.get(entry.id)?;
            if !trusted(self.source, source) && source.signer != backup.signer {
                return None;
            }
            let copy = self.copies.of(self.source, source)?;
            let (here, there) = (&source.record.content, &copy.record.content);
            let fits = (here.kind, here.chunk_size) == (kind, chunk_size);
            let fits = fits && there.chunk_size == target_chunk_size;
            fits.then(|| CopyBase {
                source,
                copy,
                is_unreadable: AtomicBool::new(false),
            })
        })
    }

    /// Stores the content and the attachments.
    fn store(
        &self,
        backup: &Backup,
        base: Option<&CopyBase<'_>>,
        protection: &Protection<'_>,
    ) -> Result<Packed, OpsError> {
        let source = backup.record.source.as_ref();
        // Later diffs read single chunks of a backup of an RBD image.
        let run_len = match source.map(|source| &source.kind[..]) {
            Some("rbd" | "rbd-diff") => RunLen::Part,
            _ => RunLen::Leaf,
        };
        pack(
            self.target,
            &self.index,
            protection,
            &self.options,
            run_len,
            self.context,
            |task| {
                let stored = match backup.record.content.kind {
                    ContentKind::Image => copy_image(task, self.from, backup, base)?,
                    ContentKind::Stream => {
                        copy_stream(task, self.from, backup, base, &self.options)?
                    }
                };
                let attachments = copy_attachments(task, self.from, backup, base)?;
                Ok((stored, attachments))
            },
        )
    }

    /// Commits the copy of a backup. Returns its id.
    fn commit(
        &self,
        backup: &Backup,
        packed: &Packed,
        protection: &mut Protection<'_>,
    ) -> Result<ObjectHash, OpsError> {
        let tops: Vec<_> = packed.tops().collect();
        let cleared = protection.clear(&self.index, &tops)?;
        let cleared = cleared.ok_or(OpsError::Internal("a copy needs a permit"))?;
        let record = self.record(backup, packed, &cleared);
        let receipt = packed.receipt()?;
        let id = Records::commit(self.target, &record, receipt, &cleared);
        let stays = protection.committed(&cleared);
        // If both failed, report why the commit failed.
        let id = id?;
        stays?;
        Ok(id)
    }

    /// Returns the record of a copy.
    fn record(&self, backup: &Backup, packed: &Packed, cleared: &CommitPermit) -> BackupRecord {
        let record = &backup.record;
        BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: self.volume,
                name: self.options.volume.clone(),
            },
            content: content(self.target, &packed.stored),
            time: record.time.clone(),
            finished: Timestamp::now().into(),
            host: record.host.clone(),
            base: record.base.and_then(|base| self.copy_of(base)),
            follows: self.follows(backup),
            replaces: None,
            original: Some(origin(self.source, backup)),
            heads: self.heads.clone(),
            marks: cleared.marks().to_vec(),
            labels: record.labels.clone(),
            source: self.source_info(backup),
            attachments: packed.attachments.clone(),
            counts: Counts {
                changed: record.counts.changed,
                read: record.counts.read,
                ..packed.counts
            },
            tool: Some(TOOL.to_owned()),
        }
    }

    /// Returns what the copy states about its source, or `None` if the original states nothing. The
    /// copy counts as a backup of the key of the target. If a write key that the source does not
    /// trust made the original, the original may be false. Then the copy leaves out the statements
    /// that later backups rely on.
    fn source_info(&self, backup: &Backup) -> Option<SourceInfo> {
        let stated = backup.record.source.clone()?;
        if trusted(self.source, backup) {
            return Some(stated);
        }
        Some(SourceInfo {
            inode: None,
            changed_ns: None,
            settled: false,
            snapshot: None,
            protected: None,
            from_snapshot: None,
            rbd: None,
            ..stated
        })
    }

    /// Returns the id of the copy of a backup, or `None` if the target has no copy of it. `record`
    /// is the id of the backup in the source.
    fn copy_of(&self, record: ObjectHash) -> Option<ObjectHash> {
        let backup = self.records.get(record)?;
        self.copies.of(self.source, backup).map(|copy| copy.id)
    }

    /// Returns the ids of the copies of the backups that this one follows, at most
    /// [`Records::FOLLOWS_MAX`]. In place of a backup without a copy, returns the copies of the
    /// backups that it follows.
    fn follows(&self, backup: &Backup) -> Vec<ObjectHash> {
        let history = self.records.history(&backup.record.volume.name);
        let entries = history.map_or(&[][..], |history| history.entries());
        let place = entries.iter().position(|entry| entry.id == backup.id);
        let mut todo = place.map_or_else(Vec::new, |place| entries[place].follows.clone());
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        while let Some(place) = todo.pop() {
            let entry = &entries[place];
            if !seen.insert(place) {
                continue;
            }
            match self.copy_of(entry.id) {
                Some(copy) => found.push(copy),
                None => todo.extend(&entry.follows),
            }
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(Records::FOLLOWS_MAX);
        found
    }
}

/// Names the backup in an error that concerns only this backup. Errors about damage in the source
/// already name the backup. So all other damage is in the target.
fn failure(backup: &Backup, error: OpsError) -> OpsError {
    match error {
        OpsError::AttachmentTooLarge { .. } | OpsError::Repo(RepoError::RecordTooLarge { .. }) => {
            OpsError::CopyTooLarge {
                backup: backup.id,
                volume: backup.record.volume.name.clone(),
                source: Box::new(error),
            }
        }
        OpsError::Repo(error) if error.kind() == RepoErrorKind::Damaged => {
            OpsError::DamagedTarget {
                source: Box::new(error),
            }
        }
        error => error,
    }
}
