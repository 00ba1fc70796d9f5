//! Copies the backups of one volume, oldest first.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;

use super::attachments::copy_attachments;
use super::base::CopyBase;
use super::copies::{Copies, origin};
use super::image::copy_image;
use super::report::CopyReport;
use super::stream::copy_stream;
use crate::base::{ObjectHash, VolumeId};
use crate::format::{BackupRecord, ContentKind, Counts, VolumeInfo};
use crate::ops::backup::content::content;
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::pack::{Packed, pack};
use crate::ops::backup::present::Present;
use crate::ops::backup::protect::Protection;
use crate::ops::backup::record::load;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobReader, CommitPermit, Index, Project, Records, RepoErrorKind, RunLen,
};

/// The two projects of a copy, and all that its volumes have in common.
pub(super) struct CopyTask<'a> {
    pub(super) source: &'a Project,
    /// The backups of the source.
    pub(super) records: &'a Records,
    pub(super) target: &'a Project,
    pub(super) context: &'a Context<'a>,
    /// Receives the result for each backup, and decides whether to go on.
    pub(super) each: &'a mut dyn FnMut(&Backup, Result<CopyReport, OpsError>) -> ControlFlow<()>,
}

impl CopyTask<'_> {
    /// Reports which of these backups the volume of the target has, and which it lacks.
    pub(super) fn show_volume(
        &mut self,
        copies: &Copies,
        backups: &[&Backup],
        volume: &str,
    ) -> ControlFlow<()> {
        backups.iter().try_for_each(|backup| {
            let report = match copies.of(self.source, backup) {
                Some(copy) => CopyReport::existing(copy),
                None => CopyReport::lacking(volume),
            };
            (self.each)(backup, Ok(report))
        })
    }

    /// Copies these backups of one volume, which are in order, oldest first. `options` names the
    /// volume of the target. Goes on if a backup is damaged.
    pub(super) fn copy_volume(
        &mut self,
        from: &BlobReader,
        backups: &[&Backup],
        options: &BackupOptions,
    ) -> Result<ControlFlow<()>, OpsError> {
        let (target, context) = (self.target, self.context);
        let mut protection = Protection::begin(target, options, context)?;
        let records = load(target, context)?;
        let copies = Copies::find(target, &records, &options.volume);
        copies
            .all()
            .for_each(|copy| protection.build_on(Some(copy)));
        let present = Present::find(protection.index()?, None, options, context)?;
        let mut volume = VolumeCopy {
            source: self.source,
            target,
            records: self.records,
            from,
            index: Arc::clone(present.index()),
            protection,
            options: present.options(options),
            context,
            volume: volume_id(&records, options, backups),
            heads: records.heads(),
            copies,
        };
        for backup in backups {
            let result = match volume.copy(backup) {
                Err(error) if !is_of_one_backup(&error) => return Err(error),
                result => result,
            };
            if (self.each)(backup, result).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        present.close();
        Ok(ControlFlow::Continue(()))
    }
}

/// Returns the id of the volume in the target. A new volume gets the id that it has in the source.
fn volume_id(records: &Records, options: &BackupOptions, backups: &[&Backup]) -> Option<VolumeId> {
    let there = records.of_volume(&options.volume).next_back();
    there
        .or(backups.first().copied())
        .map(|backup| backup.volume)
}

/// Whether an error means that an object is damaged, or that one is missing.
fn is_damage(error: &OpsError) -> bool {
    matches!(error, OpsError::Repo(error) if error.kind() == RepoErrorKind::Damaged)
}

/// Whether other backups can be copied in spite of this error.
fn is_of_one_backup(error: &OpsError) -> bool {
    matches!(
        error,
        OpsError::NotCopied { .. }
            | OpsError::CopyWithdrawn { .. }
            | OpsError::AttachmentTooLarge { .. }
    )
}

/// Copies the backups of one volume.
struct VolumeCopy<'a> {
    source: &'a Project,
    target: &'a Project,
    records: &'a Records,
    from: &'a BlobReader,
    index: Arc<Index>,
    protection: Protection<'a>,
    options: BackupOptions,
    context: &'a Context<'a>,
    volume: Option<VolumeId>,
    /// The heads of the target.
    heads: Vec<ObjectHash>,
    copies: Copies,
}

impl VolumeCopy<'_> {
    /// Copies a backup, unless the target has a copy of it.
    fn copy(&mut self, backup: &Backup) -> Result<CopyReport, OpsError> {
        if let Some(copy) = self.copies.of(self.source, backup) {
            return Ok(CopyReport::existing(copy));
        }
        if self.records.is_voided(backup) || self.records.is_removed(backup) {
            return Err(OpsError::CopyWithdrawn { backup: backup.id });
        }
        let base = self.base_of(backup);
        let (packed, base) = match (self.store(backup, base.as_ref()), base) {
            // The damage may be in a tree of the base.
            (Err(error), Some(_)) if is_damage(&error) => (self.store(backup, None), None),
            stored => stored,
        };
        let packed = packed.map_err(|error| match error {
            OpsError::Repo(error) if error.kind() == RepoErrorKind::Damaged => {
                OpsError::not_copied(backup, "its content".to_owned(), error)
            }
            error => error,
        })?;
        self.context.cancel.check()?;
        let base = base.map(|base| base.copy.id);
        let counts = packed.counts;
        let copy = self.commit(backup, packed)?;
        let report = CopyReport {
            id: Some(copy.id),
            existing: false,
            volume: copy.record.volume.name.clone(),
            base,
            counts,
        };
        self.heads = vec![copy.id];
        self.copies.add(self.target, copy);
        Ok(report)
    }

    /// Returns the backup with which to compare one of the same volume: the next older one of which
    /// the target has a copy, or else the next newer one. If data of the target was lost, returns
    /// none, so that lost data is stored again.
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
            let copy = self.copies.of(self.source, source)?;
            let (here, there) = (&source.record.content, &copy.record.content);
            let fits = (here.kind, here.chunk_size) == (kind, chunk_size);
            (fits && there.chunk_size == target_chunk_size).then_some(CopyBase { source, copy })
        })
    }

    /// Stores the content and the attachments.
    fn store(&self, backup: &Backup, base: Option<&CopyBase<'_>>) -> Result<Packed, OpsError> {
        let source = backup.record.source.as_ref();
        // Later diffs read single chunks of such backups.
        let run_len = match source.map(|source| &source.kind[..]) {
            Some("rbd" | "rbd-diff") => RunLen::Part,
            _ => RunLen::Leaf,
        };
        pack(
            self.target,
            &self.index,
            &self.protection,
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

    /// Commits the copy of a backup.
    fn commit(&mut self, backup: &Backup, packed: Packed) -> Result<Backup, OpsError> {
        let tops: Vec<_> = packed.tops().collect();
        let cleared = self.protection.clear(&self.index, &tops)?;
        let cleared = cleared.ok_or(OpsError::Internal("a copy needs a permit"))?;
        let record = self.record(backup, &packed, &cleared);
        let id = Records::commit(self.target, &record, &packed.receipt, &cleared);
        let stays = self.protection.committed(&cleared);
        // Report the failure to commit first.
        let id = id?;
        stays?;
        let signer = self.target.keys.signing().public();
        Ok(Backup {
            id,
            volume: record.volume.id,
            time: record.time.at(),
            top: record.content.top,
            root: record.content.root,
            is_full: self.target.signers.is_full(&signer),
            signer,
            record,
        })
    }

    /// Returns the record of a copy.
    fn record(&self, backup: &Backup, packed: &Packed, cleared: &CommitPermit) -> BackupRecord {
        let record = &backup.record;
        BackupRecord {
            requires: Vec::new(),
            volume: VolumeInfo {
                id: self.volume.unwrap_or(backup.volume),
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
            source: record.source.clone(),
            attachments: packed.attachments.clone(),
            counts: Counts {
                changed: record.counts.changed,
                read: record.counts.read,
                ..packed.counts
            },
            tool: Some(TOOL.to_owned()),
        }
    }

    /// Returns the copy of the backup with this record in the source.
    fn copy_of(&self, record: ObjectHash) -> Option<ObjectHash> {
        let backup = self.records.get(record)?;
        self.copies.of(self.source, backup).map(|copy| copy.id)
    }

    /// Returns the copies of the backups that this one follows. If the target lacks one of these,
    /// returns the copies of those that it follows instead.
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
