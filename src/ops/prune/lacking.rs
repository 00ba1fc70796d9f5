//! Finds the backups that need lost chunks.

use std::collections::HashSet;
use std::sync::Arc;

use super::usage::BATCH;
use crate::base::{BlobId, Cancel};
use crate::format::BlobKind;
use crate::ops::affected::{AffectedBackup, affected, holes};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::ids::{Ids, Key, NodeKey};
use crate::ops::walk_blobs::{BlobVisitor, walk_blobs};
use crate::repo::{Backup, BlobReader, Index, Records, RepoError, RepoErrorKind};

/// Returns the backups that need any of these chunks, with the parts that cannot be restored.
/// Leaves out backups that their writers withdrew or that the log removes. Reads each node once,
/// and reads nodes above lost chunks again for each backup.
pub(super) fn backups_lacking(
    index: &Arc<Index>,
    records: &Records,
    lost: &HashSet<BlobId>,
    context: &Context<'_>,
) -> Result<Vec<AffectedBackup>, OpsError> {
    let mut found = Vec::new();
    if lost.is_empty() {
        return Ok(found);
    }
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let mut search = Search::new(index, lost, context.cancel)?;
    let counts = |backup: &&Backup| !records.is_voided(backup) && !records.is_removed(backup);
    for backup in records.all().iter().filter(counts) {
        for top in backup.tops() {
            walk_blobs(&blobs, top, BATCH, context, &mut search)?;
        }
        if !backup.tops().any(|top| search.lacks(&top)) {
            continue;
        }
        let is_whole = |id: &BlobId| Ok(!lost.contains(id));
        found.push(affected(backup, |_, content| {
            let enter = |id: &BlobId| search.lacks(id);
            holes(
                &blobs,
                content,
                enter,
                |chunk| is_whole(&chunk.id),
                |_, _, _| Ok(()),
            )
        })?);
    }
    Ok(found)
}

/// A walk that notes which nodes have a lost chunk below them.
struct Search<'a> {
    lost: &'a HashSet<BlobId>,
    /// The nodes of the index, with [`WHOLE`] or [`LACKS`] for those that were walked. A node that
    /// is missing here is in no pack. The table takes 17 bytes for each node.
    nodes: Ids<NodeKey>,
    /// For each node from the top to the current one: whether a part below it is known to be lost.
    open: Vec<bool>,
}

/// The note on a node of which every part can be restored.
const WHOLE: u8 = 1;
/// The note on a node that has a lost part below it, or that cannot be read.
const LACKS: u8 = 2;

impl<'a> Search<'a> {
    fn new(index: &Index, lost: &'a HashSet<BlobId>, cancel: &Cancel) -> Result<Self, OpsError> {
        let mut nodes = Vec::new();
        index.each_pack(|listing| {
            cancel.check()?;
            if listing.contents.kind == BlobKind::Node {
                nodes.extend(listing.contents.blobs().map(|blob| NodeKey::of(&blob.id)));
            }
            Ok(())
        })?;
        Ok(Self {
            lost,
            nodes: Ids::new(nodes),
            open: Vec::new(),
        })
    }

    /// Returns whether a node that was walked cannot be read, or has a lost part below it.
    fn lacks(&self, node: &BlobId) -> bool {
        self.nodes.noted(node) != Some(WHOLE)
    }

    /// Notes whether a node lacks a part. If it does, the node above it does, too.
    fn conclude(&mut self, node: &BlobId, lacks: bool) {
        if let Some(note) = self.nodes.note(node) {
            *note = if lacks { LACKS } else { WHOLE };
        }
        self.add(lacks);
    }

    fn add(&mut self, lacks: bool) {
        if let Some(above) = self.open.last_mut() {
            *above |= lacks;
        }
    }
}

impl BlobVisitor for Search<'_> {
    fn enter(&mut self, id: &BlobId) -> Result<bool, OpsError> {
        match self.nodes.noted(id) {
            Some(WHOLE) => {}
            Some(LACKS) => self.add(true),
            _ => {
                self.open.push(false);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_wanted(&self, id: &BlobId) -> bool {
        !matches!(self.nodes.noted(id), Some(WHOLE | LACKS))
    }

    fn chunk(&mut self, id: &BlobId) -> Result<(), OpsError> {
        self.add(self.lost.contains(id));
        Ok(())
    }

    fn leave(&mut self, id: &BlobId) -> Result<(), OpsError> {
        let lacks = self.open.pop().unwrap_or_default();
        self.conclude(id, lacks);
        Ok(())
    }

    fn unreadable(&mut self, id: &BlobId, error: RepoError) -> Result<(), OpsError> {
        if error.kind() != RepoErrorKind::Damaged {
            return Err(error.into());
        }
        self.open.pop();
        self.conclude(id, true);
        Ok(())
    }
}
