//! Records that their writers withdrew or that the log removes. A prune deletes those whose trees
//! are incomplete. The others stay.

use std::collections::HashSet;

use super::usage::BATCH;
use crate::base::{BlobId, ObjectHash};
use crate::format::{LogDetails, LogItem, LogKind};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::walk_blobs::{BlobVisitor, walk_blobs};
use crate::repo::{
    Backup, BlobReader, Index, Log, NewEntry, Project, Records, RepoError, RepoErrorKind, Voids,
    Worker,
};

/// Returns whether all nodes of a backup can be read, and all of its chunks are in packs that
/// exist.
pub(super) fn is_whole(
    index: &Index,
    exists: &dyn Fn(&ObjectHash) -> bool,
    blobs: &BlobReader,
    backup: &Backup,
    context: &Context<'_>,
) -> Result<bool, OpsError> {
    let mut complete = Complete {
        index,
        exists,
        seen: HashSet::new(),
    };
    for top in backup.tops() {
        match walk_blobs(blobs, top, BATCH, context, &mut complete) {
            Ok(()) => {}
            Err(OpsError::Repo(error)) if error.kind() == RepoErrorKind::Damaged => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// A walk that fails at the first chunk that no existing pack has, or at the first node that cannot
/// be read.
struct Complete<'a> {
    index: &'a Index,
    exists: &'a dyn Fn(&ObjectHash) -> bool,
    seen: HashSet<BlobId>,
}

impl BlobVisitor for Complete<'_> {
    fn enter(&mut self, node: &BlobId) -> Result<bool, OpsError> {
        Ok(self.seen.insert(*node))
    }

    fn is_wanted(&self, node: &BlobId) -> bool {
        !self.seen.contains(node)
    }

    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError> {
        let mut places = self.index.find_anywhere(chunk)?.into_iter();
        if places.any(|place| (self.exists)(&place.pack())) {
            return Ok(());
        }
        let (kind, id) = ("chunk", *chunk);
        Err(RepoError::Missing { kind, id }.into())
    }
}

/// Removes the records of `backups` and their voids. A void is the object with which a writer
/// withdrew a record. Also removes voids that an interrupted prune or a forget left behind. Such a
/// void names a record that the log removes and that no longer exists.
pub(super) fn remove(
    project: &Project,
    records: &Records,
    backups: &[Backup],
    by: Worker<'_>,
) -> Result<(), OpsError> {
    let voids = Voids::load(project)?;
    if backups.is_empty() && voids.records().next().is_none() {
        return Ok(());
    }
    let present = Records::present(project)?;
    let mut log = Log::load(project)?;
    let record = |backup: &Backup| LogItem {
        kind: LogKind::Record,
        hash: backup.id,
    };
    let of_record = |record: ObjectHash| {
        let kind = LogKind::Void;
        let voids = voids.naming(record);
        let voids: Vec<_> = voids.map(|hash| LogItem { kind, hash }).collect();
        voids
    };
    // A void stays if the log does not remove its record: another process may be about to store
    // this record.
    let is_left =
        |record: &ObjectHash| !present.contains(record) && log.removed(LogKind::Record, *record);
    let left: Vec<ObjectHash> = voids.records().filter(is_left).collect();
    // Delete the records first. A void without a record has no effect.
    let items = backups.iter().map(record);
    let of_these = backups.iter().map(|backup| backup.id).chain(left);
    let items: Vec<LogItem> = items.chain(of_these.flat_map(of_record)).collect();
    if items.is_empty() {
        return Ok(());
    }
    let reason = "withdrawn by its writer";
    let described = backups.iter();
    let described = described.map(|backup| records.describe_removed(backup, &log, reason));
    let described = described.collect();
    let entry = NewEntry {
        removed: items.clone(),
        details: LogDetails {
            removed_records: described,
            ..LogDetails::default()
        },
        ..NewEntry::default()
    };
    log.append(project, entry, by)?;
    for removed in items
        .iter()
        .filter_map(|item| log.removal(item.kind, item.hash))
    {
        removed.delete(project)?;
    }
    Ok(())
}
