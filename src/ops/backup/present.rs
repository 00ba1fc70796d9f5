//! Makes backups correct in a repository that has lost data. A backup does not rely on missing
//! packs, or on parts of packs that this host found damaged. It stores again the lost data that it
//! needs, and reports the loss.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::options::{BackupOptions, MetDamage};
use crate::base::{Notice, ObjectHash};
use crate::format::Content;
use crate::ops::affected::{AffectedBackup, affected, listed_holes};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobReader, Index, IndexContent, LostChunks, RepoError, exclude_damaged,
};

/// An index that finds blobs only in packs that a backup may rely on.
pub(super) struct Present<'a> {
    index: Arc<Index>,
    context: &'a Context<'a>,
    /// The number of packs in the index that are missing or too short.
    packs: u64,
    /// The number of packs with parts that are known to be damaged. No other pack holds the content
    /// of these parts.
    damaged: u64,
    /// The base, if it could not be restored completely.
    base: Option<AffectedBackup>,
}

impl<'a> Present<'a> {
    /// Lists the packs, and reads again the parts of packs that were found damaged earlier. The
    /// index then finds no blob in lost packs and damaged parts. If data was lost, or with
    /// --reread, verifies the cached index and adds packs that no segment names. If data was lost,
    /// also finds the parts of `base` that are lost, before any data is stored again.
    pub(super) fn find(
        index: Arc<Index>,
        base: Option<&Backup>,
        options: &BackupOptions,
        context: &'a Context<'a>,
    ) -> Result<Self, OpsError> {
        let packs = index.lost_packs()?.len() as u64;
        let damaged = exclude_damaged(&index)?.needed.len() as u64;
        if options.reread {
            index.require_present()?;
        }
        if options.reread || packs + damaged > 0 {
            index.scan_unindexed()?;
        }
        let mut found = Self {
            index,
            context,
            packs,
            damaged,
            base: None,
        };
        if packs > 0 {
            context.observer.notice(Notice::PacksMissing { packs });
        }
        if damaged > 0 {
            let packs = damaged;
            context.observer.notice(Notice::PacksDamaged { packs });
        }
        if let Some(base) = base.filter(|_| packs + damaged > 0) {
            let lost = LostChunks::new(&found.index)?;
            let base = affected(base, |_, content| found.holes(&lost, content))?;
            let is_whole = base.holes.is_empty() && base.attachments.is_empty();
            found.base = Some(base).filter(|_| !is_whole);
        }
        Ok(found)
    }

    /// Closes the index after a success.
    pub(super) fn close(self) {
        self.index.close();
    }

    /// Closes the index after a success. Returns the content of the index if it is in memory, and
    /// `None` if it is in a file.
    pub(super) fn into_content(self) -> Option<IndexContent> {
        let content = self.index.take_content();
        self.close();
        content
    }

    pub(super) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns the options for storing the source. If data was lost, they are the same as with
    /// --reread.
    pub(super) fn options(&self, options: &BackupOptions) -> BackupOptions {
        BackupOptions {
            reread: options.reread || self.packs + self.damaged > 0,
            ..options.clone()
        }
    }

    /// Returns the damage that was found during a backup; `None` if no data is known to be lost.
    /// `builds_on` is the content of the backup, if a part of it was not read from the source.
    pub(super) fn met(&self, builds_on: Option<&Content>) -> Result<Option<MetDamage>, OpsError> {
        if self.packs + self.damaged == 0 {
            return Ok(None);
        }
        let holes = match builds_on {
            Some(content) => self.holes(&LostChunks::new(&self.index)?, content)?,
            None => Vec::new(),
        };
        Ok(Some(MetDamage {
            packs: self.packs,
            packs_damaged: self.damaged,
            base: self.base.clone(),
            holes,
        }))
    }

    /// Returns the ids of the backups in this list that cannot be restored completely.
    pub(super) fn lost_among(&self, backups: &[&Backup]) -> Result<HashSet<ObjectHash>, OpsError> {
        let mut found = HashSet::new();
        if self.packs + self.damaged == 0 {
            return Ok(found);
        }
        let lost = LostChunks::new(&self.index)?;
        for backup in backups {
            let affected = affected(backup, |_, content| self.holes(&lost, content))?;
            if !affected.holes.is_empty() || !affected.attachments.is_empty() {
                found.insert(backup.id);
            }
        }
        Ok(found)
    }

    fn holes(
        &self,
        lost: &LostChunks<'_>,
        content: &Content,
    ) -> Result<Vec<Range<u64>>, RepoError> {
        let blobs = BlobReader::new(&self.index).stopped_by(self.context.cancel);
        listed_holes(&blobs, lost, content)
    }
}
