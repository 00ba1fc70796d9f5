//! Records that their writers took back. One whose tree is whole stays; others are removed.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::base::{BlobId, ObjectHash};
use crate::format::{LogDetails, LogItem, LogKind, Node};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobReader, Index, Log, NewEntry, Project, RepoError, RepoErrorKind, Visitor, Voids,
    Worker, children, removed_record, walk,
};

/// The most nodes to read ahead.
const BATCH: usize = 4096;

/// Returns whether everything that a backup needs is in a pack that exists.
pub(super) fn is_whole(
    index: &Index,
    exists: &dyn Fn(&ObjectHash) -> bool,
    blobs: &BlobReader,
    backup: &Backup,
    context: &Context<'_>,
) -> Result<bool, OpsError> {
    let Some(top) = backup.top else {
        return Ok(true);
    };
    let mut complete = Complete {
        index,
        exists,
        seen: HashSet::new(),
        context,
    };
    match walk(blobs, top, (), BATCH, &mut complete) {
        Ok(()) => Ok(true),
        Err(OpsError::Repo(error)) if error.kind() == RepoErrorKind::Damaged => Ok(false),
        Err(error) => Err(error),
    }
}

/// A walk that fails at the first blob that is in no pack that exists.
struct Complete<'a> {
    index: &'a Index,
    exists: &'a dyn Fn(&ObjectHash) -> bool,
    seen: HashSet<BlobId>,
    context: &'a Context<'a>,
}

impl Visitor for Complete<'_> {
    type Place = ();
    type Error = OpsError;

    fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, OpsError> {
        Ok(self.seen.insert(*id))
    }

    fn is_wanted(&self, id: &BlobId, _: u8) -> bool {
        !self.seen.contains(id)
    }

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        (): &(),
        below: &mut Vec<(BlobId, ())>,
    ) -> Result<ControlFlow<()>, OpsError> {
        self.context.cancel.check()?;
        for child in children(node) {
            if node.level() > 0 {
                below.push((child, ()));
                continue;
            }
            let mut places = self.index.find_anywhere(&child)?.into_iter();
            if !places.any(|place| (self.exists)(&place.pack())) {
                let kind = "chunk";
                return Err(RepoError::Missing { kind, id: child }.into());
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Removes records that were taken back, and the voids that name them.
pub(super) fn remove(
    project: &Project,
    backups: &[Backup],
    by: Worker<'_>,
) -> Result<(), OpsError> {
    if backups.is_empty() {
        return Ok(());
    }
    let voids = Voids::load(project)?;
    let mut log = Log::load(project)?;
    let record = |backup: &Backup| LogItem {
        kind: LogKind::Record,
        hash: backup.id,
    };
    let of_backup = |backup: &Backup| {
        let kind = LogKind::Void;
        let voids = voids.naming(backup.id);
        let voids: Vec<_> = voids.map(|hash| LogItem { kind, hash }).collect();
        voids
    };
    // Records first: a void that is left names nothing.
    let items = backups.iter().map(record);
    let items: Vec<LogItem> = items.chain(backups.iter().flat_map(of_backup)).collect();
    let described = backups.iter().map(|backup| {
        let reason = "taken back by its writer";
        removed_record(backup.id, &backup.record, backup.is_full, reason)
    });
    let entry = NewEntry {
        removed: items.clone(),
        details: LogDetails {
            removed_records: described.collect(),
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
