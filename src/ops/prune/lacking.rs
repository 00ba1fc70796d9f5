//! Finds the backups that lack chunks which are lost.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::usage::BATCH;
use crate::base::BlobId;
use crate::format::Node;
use crate::ops::affected::{AffectedBackup, affected, holes};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{
    Backup, BlobReader, Index, Records, RepoError, RepoErrorKind, Visitor, children, walk,
};

/// Returns the backups that need any of these chunks, with the parts that cannot be restored.
/// Leaves out backups that their writers withdrew or that the log removes. Reads each node once,
/// and those above lost chunks again for each backup.
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
    let mut search = Search {
        lost,
        verdicts: HashMap::new(),
        open: Vec::new(),
        context,
    };
    let counts = |backup: &&Backup| !records.is_voided(backup) && !records.is_removed(backup);
    for backup in records.all().iter().filter(counts) {
        for top in backup.tops() {
            walk(&blobs, top, (), BATCH, &mut search)?;
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
    /// Whether each node that was walked has a lost part below it.
    verdicts: HashMap<BlobId, bool>,
    /// The verdicts so far on the nodes above the current one, the top first.
    open: Vec<bool>,
    context: &'a Context<'a>,
}

impl Search<'_> {
    fn lacks(&self, node: &BlobId) -> bool {
        self.verdicts.get(node).copied().unwrap_or_default()
    }

    /// Notes the verdict on a node, and adds it to that on the node above.
    fn conclude(&mut self, node: &BlobId, lacks: bool) {
        self.verdicts.insert(*node, lacks);
        self.add(lacks);
    }

    fn add(&mut self, lacks: bool) {
        if let Some(above) = self.open.last_mut() {
            *above |= lacks;
        }
    }
}

impl Visitor for Search<'_> {
    type Place = ();
    type Error = OpsError;

    fn enter(&mut self, id: &BlobId, (): &()) -> Result<bool, OpsError> {
        self.context.cancel.check()?;
        let Some(lacks) = self.verdicts.get(id).copied() else {
            return Ok(true);
        };
        self.add(lacks);
        Ok(false)
    }

    fn is_wanted(&self, id: &BlobId, _: u8) -> bool {
        !self.verdicts.contains_key(id)
    }

    fn visit(
        &mut self,
        _: &BlobId,
        node: &Node,
        (): &(),
        below: &mut Vec<(BlobId, ())>,
    ) -> Result<ControlFlow<()>, OpsError> {
        let mut lacks = false;
        for child in children(node) {
            if node.level() > 0 {
                below.push((child, ()));
            } else {
                lacks |= self.lost.contains(&child);
            }
        }
        self.open.push(lacks);
        Ok(ControlFlow::Continue(()))
    }

    fn leave(&mut self, id: &BlobId, (): &()) -> Result<(), OpsError> {
        let lacks = self.open.pop().unwrap_or_default();
        self.conclude(id, lacks);
        Ok(())
    }

    fn unreadable(&mut self, id: &BlobId, (): &(), error: RepoError) -> Result<(), OpsError> {
        if error.kind() != RepoErrorKind::Damaged {
            return Err(error.into());
        }
        self.conclude(id, true);
        Ok(())
    }
}
