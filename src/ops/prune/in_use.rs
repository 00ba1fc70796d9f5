//! Finds the data in use: walks the trees of records, of running backups and of readers.

use std::sync::Arc;

use super::state::RepoState;
use super::usage::{ANY_CLASS, Known, Usage, report_progress};
use super::voided::is_whole;
use crate::base::{BlobId, ObjectHash};
use crate::format::BlobKind;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Backup, BlobReader, Index, RepoError, Work};

/// The problems that a prune finds in the trees.
#[derive(Default)]
pub(super) struct Walked {
    /// Backups whose writers withdrew them, or that the log removed, if their trees are not whole.
    /// These backups use nothing.
    pub(super) obsolete: Vec<Backup>,
    /// Other backups with damage in their trees, and the first damage of each. They are backups of
    /// write keys, or withdrawn or removed backups that seemed whole at first. They use all blobs
    /// that can still be reached in their trees.
    pub(super) broken: Vec<(ObjectHash, Arc<RepoError>)>,
    /// Whether a running backup of a write key intends to commit a tree that is not whole.
    lacks_intended: bool,
}

impl Walked {
    /// Returns whether the walk found a missing or damaged blob. A newer index may contain an
    /// undamaged copy of this blob.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lacks_intended || !(self.obsolete.is_empty() && self.broken.is_empty())
    }
}

/// Finds the blobs that records and running processes use. Returns them with the packs of the
/// index and the problems in the trees. Goes on if a chunk is in no pack, since there is no pack to
/// keep for it. Fails if a node that a backup of a full key needs is in no pack, since the blobs
/// below this node are not known.
pub(super) fn find_usage(
    index: &Arc<Index>,
    state: &RepoState,
    context: &Context<'_>,
) -> Result<(Usage, Vec<ObjectHash>, Walked), OpsError> {
    index.verify_unnamed()?;
    let exists = |pack: &ObjectHash| state.packs.contains_key(pack);
    let (mut usage, known) = Usage::new(index, exists, context)?;
    let new = &mut |kind, id: &BlobId, known| match known {
        Known::Stored => Ok(()),
        Known::Nowhere => Err(missing(kind, id)),
    };
    let walked = walk_all(index, &mut usage, state, context, OnLoss::Note, new)?;
    Ok((usage, known, walked))
}

/// The reaction of a walk to a chunk that is in no pack and that a backup of a full key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnLoss {
    Fail,
    /// Notes the chunk as used, and goes on.
    Note,
}

pub(super) fn missing(kind: BlobKind, id: &BlobId) -> RepoError {
    let kind = match kind {
        BlobKind::Chunk => "chunk",
        BlobKind::Node => "tree node",
    };
    RepoError::Missing { kind, id: *id }
}

/// Walks the trees of all records, of all backups that are about to be committed, and of all
/// backups that are being read. Calls `new` for each blob in trees of the first two kinds that was
/// not known to be used. If `new` returns an error about damage, the walk fails only if a backup of
/// a full key needs the blob. Backups of write keys do not matter here, since they can name any
/// blob. With [`OnLoss::Note`], the walk does not fail if `new` reports a chunk as missing.
pub(super) fn walk_all(
    index: &Arc<Index>,
    usage: &mut Usage,
    state: &RepoState,
    context: &Context<'_>,
    on_loss: OnLoss,
    new: &mut dyn FnMut(BlobKind, &BlobId, Known) -> Result<(), RepoError>,
) -> Result<Walked, OpsError> {
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let exists = |pack: &ObjectHash| state.packs.contains_key(pack);
    let records = &state.records;
    let running = state.leases.others.iter();
    let running = running.filter(|lease| !lease.expired && !lease.is_held_for(Work::Read));
    let mut walked = Walked::default();
    let mut done = 0;
    let is_obsolete = |backup: &Backup| records.is_voided(backup) || records.is_removed(backup);
    // First walk the trees of full keys. These walks fail at damage, and later walks do not enter
    // the same nodes again. The trees of removed records are walked later: someone may have stored
    // such a record again, and its data may be damaged.
    for of_full in [true, false] {
        let new = &mut |kind, id: &BlobId, known| match new(kind, id, known) {
            Err(RepoError::Missing { .. })
                if of_full && kind == BlobKind::Chunk && on_loss == OnLoss::Note =>
            {
                Ok(())
            }
            result => result,
        };
        let is_relied_on = |b: &Backup| b.is_full && !is_obsolete(b);
        for backup in records.all().iter().filter(|b| is_relied_on(b) == of_full) {
            let class = usage.class(backup.volume);
            if is_obsolete(backup) && !is_whole(index, &exists, &blobs, backup, context)? {
                walked.obsolete.push(backup.clone());
            } else if of_full {
                for top in backup.tops() {
                    usage.walk(&blobs, top, class, context, new)?;
                }
            } else {
                let mut damage = None;
                for top in backup.tops() {
                    let found = usage.walk_readable(&blobs, top, class, context, new)?;
                    damage = damage.or(found);
                }
                let broken = damage.map(|damage| (backup.id, Arc::new(damage)));
                walked.broken.extend(broken);
            }
            done += 1;
            report_progress(context, done, records.all().len());
        }
        for lease in running.clone().filter(|lease| lease.is_full == of_full) {
            for top in &lease.tops {
                if of_full {
                    usage.walk(&blobs, *top, ANY_CLASS, context, new)?;
                } else {
                    let damage = usage.walk_readable(&blobs, *top, ANY_CLASS, context, new)?;
                    walked.lacks_intended |= damage.is_some();
                }
            }
        }
    }
    // Release the blobs that an earlier walk held, and hold those that are being read now.
    usage.release();
    for top in state.leases.trees_read() {
        usage.hold(&blobs, top, context)?;
    }
    Ok(walked)
}
