//! Finds out whether backups need packs that no segment names, that are missing, or whose content
//! is not known.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::{BlobId, ObjectHash};
use crate::format::BlobKind;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::walk_blobs::{BlobVisitor, walk_blobs};
use crate::repo::{Backup, BlobLocation, BlobReader, Index, Records, RepoError, RepoErrorKind};

/// The maximum number of nodes to read ahead. They take about 9 MiB.
const BATCH: usize = 4096;

/// What backups need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// A backup needs data that an unnamed pack has, and that too few named packs have.
    pub(super) unnamed: bool,
    /// A backup needs data that no readable pack has.
    pub(super) nowhere: bool,
    /// A record cannot be read. It may need data that no readable pack has.
    pub(super) unknown: bool,
}

/// Walks the trees of all backups that are neither withdrawn nor removed. `unnamed` are the packs
/// of the index that no segment names. With `all`, also finds out whether backups need data that no
/// readable pack has. Otherwise, stops as soon as a backup is found to need an unnamed pack.
pub(super) fn find_needs(
    index: &Arc<Index>,
    records: &Records,
    unnamed: &HashSet<ObjectHash>,
    all: bool,
    context: &Context<'_>,
) -> Result<Needs, OpsError> {
    index.require_present()?;
    let mut ids = HashSet::new();
    for pack in unnamed {
        if let Some(listing) = index.listing(pack)? {
            ids.extend(listing.contents.blobs().map(|blob| blob.id));
        }
    }
    let mut visitor = Search {
        index,
        unnamed,
        ids,
        all,
        seen: HashSet::new(),
        needs: Needs {
            unnamed: false,
            nowhere: false,
            unknown: !records.damaged().is_empty(),
        },
    };
    let blobs = BlobReader::new(index).stopped_by(context.cancel);
    let counts = |backup: &&Backup| !records.is_voided(backup) && !records.is_removed(backup);
    for backup in records.all().iter().filter(counts) {
        for top in backup.tops() {
            walk_blobs(&blobs, top, BATCH, context, &mut visitor)?;
        }
    }
    Ok(visitor.needs)
}

struct Search<'a> {
    index: &'a Index,
    unnamed: &'a HashSet<ObjectHash>,
    /// The blobs of the unnamed packs.
    ids: HashSet<BlobId>,
    all: bool,
    /// Nodes that were entered.
    seen: HashSet<BlobId>,
    needs: Needs,
}

impl Search<'_> {
    fn is_done(&self) -> bool {
        self.needs.unnamed && !self.all
    }

    /// Notes a blob that must be in this number of packs.
    fn note(&mut self, id: &BlobId, copies: usize) -> Result<(), RepoError> {
        let is_unnamed = self.ids.contains(id);
        if !is_unnamed && !self.all {
            return Ok(());
        }
        let places = self.index.find_all_readable(id)?;
        self.needs.nowhere |= places.is_empty();
        let packs: HashSet<_> = places.iter().map(BlobLocation::pack).collect();
        let named = packs.difference(self.unnamed).count();
        self.needs.unnamed |= is_unnamed && named < copies;
        Ok(())
    }
}

impl BlobVisitor for Search<'_> {
    fn enter(&mut self, node: &BlobId) -> Result<bool, OpsError> {
        if self.is_done() || !self.seen.insert(*node) {
            return Ok(false);
        }
        self.note(node, BlobKind::Node.copies())?;
        Ok(!self.is_done())
    }

    fn is_wanted(&self, node: &BlobId) -> bool {
        !self.is_done() && !self.seen.contains(node)
    }

    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError> {
        Ok(self.note(chunk, 1)?)
    }

    fn unreadable(&mut self, _: &BlobId, error: RepoError) -> Result<(), OpsError> {
        if error.kind() != RepoErrorKind::Damaged {
            return Err(error.into());
        }
        // The chunks below this node are not known.
        self.needs.nowhere = true;
        Ok(())
    }
}
