//! Keeps a backup safe from concurrent prunes: data that it relies on stays, or is stored again
//! before the record is committed.

use std::collections::HashSet;
use std::sync::Arc;

use super::options::BackupOptions;
use crate::base::{BlobId, Notice, ObjectHash, Role};
use crate::format::{BlobKind, LogDetails, LogItem, LogKind, Node, RemovedRecord};
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::ops::walk_blobs::{BlobVisitor, walk_blobs};
use crate::repo::{
    Backup, BlobReader, CommitCheck, CommitPermit, Compression, Index, IndexContent, Lease, Log,
    NewEntry, NodeReader, PackWorker, Packer, PackerOptions, Project, PruneGuard, RepoError,
    RepoErrorKind, UnindexedPacks, Voids, Worker,
};

/// The maximum number of attempts to store again the data that a prune marked. If none succeeds,
/// the backup fails.
const ATTEMPTS_MAX: usize = 4;

/// Protects a backup from prunes. A dry run has no guard, since it commits nothing.
pub(super) struct Protection<'a> {
    guard: Option<PruneGuard<'a>>,
    project: &'a Project,
    options: &'a BackupOptions,
    context: &'a Context<'a>,
}

impl<'a> Protection<'a> {
    /// Begins the protection. Must be called before records are read.
    pub(super) fn begin(
        project: &'a Project,
        options: &'a BackupOptions,
        context: &'a Context<'a>,
    ) -> Result<Self, OpsError> {
        let guard = if options.dry_run {
            None
        } else {
            Some(PruneGuard::begin(project, worker(options))?)
        };
        Ok(Self {
            guard,
            project,
            options,
            context,
        })
    }

    /// Protects the tree of `base`. Must be called for each backup on which the new one builds.
    pub(super) fn build_on(&mut self, base: Option<&Backup>) {
        if let (Some(guard), Some(base)) = (&mut self.guard, base) {
            guard.build_on(base);
        }
    }

    /// Returns the lease of this backup; `None` for a dry run.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.guard.as_ref().map(|guard| &**guard.lease())
    }

    /// Adds the lease of this backup to a list of unindexed packs, so that the lease names these
    /// packs.
    pub(super) fn with_lease(&self, unindexed: UnindexedPacks) -> UnindexedPacks {
        match &self.guard {
            Some(guard) => unindexed.with_lease(guard.lease()),
            None => unindexed,
        }
    }

    /// Opens an index that does not find data that is about to be deleted.
    pub(super) fn index(&self) -> Result<Arc<Index>, OpsError> {
        self.index_with(None)
    }

    /// Opens an index like [`index`](Self::index). It begins with the content of an earlier index
    /// of this process, if there is one.
    pub(super) fn index_with(&self, earlier: Option<IndexContent>) -> Result<Arc<Index>, OpsError> {
        let context = self.context;
        let observer = Arc::clone(&context.observer);
        Ok(match &self.guard {
            Some(guard) => guard.index(earlier, context.cache, observer)?,
            None => self.context.index(self.project)?,
        })
    }

    /// Decides which packs that no segment names may be used: those in `left_over`, which an
    /// interrupted run stored, and those that the index knows. Returns the usable packs of
    /// `left_over`. Excludes unusable packs from the index. From now on, the lease names all usable
    /// packs. A dry run has no lease, and uses all packs.
    pub(super) fn adopt(
        &self,
        index: &Index,
        left_over: Vec<ObjectHash>,
    ) -> Result<Vec<ObjectHash>, OpsError> {
        index.verify_unnamed()?;
        let Some(guard) = &self.guard else {
            return Ok(left_over);
        };
        let unnamed = index.unnamed()?;
        let mut all = left_over.clone();
        all.extend(&unnamed);
        let free: HashSet<_> = guard.adopt(all)?.into_iter().collect();
        index.exclude(unnamed.into_iter().filter(|pack| !free.contains(pack)));
        Ok(left_over
            .into_iter()
            .filter(|pack| free.contains(pack))
            .collect())
    }

    /// Checks that no prune deletes data of these trees, and stores again the data that a prune
    /// marked. Must be called right before the records are committed, with the top nodes of all
    /// trees of these records. Returns the permit for the commit; `None` for a dry run.
    pub(super) fn clear(
        &mut self,
        index: &Arc<Index>,
        tops: &[BlobId],
    ) -> Result<Option<CommitPermit>, OpsError> {
        let Some(guard) = &mut self.guard else {
            return Ok(None);
        };
        for _ in 0..ATTEMPTS_MAX {
            self.context.cancel.check()?;
            match guard.clear(index, tops)? {
                CommitCheck::Permitted(cleared) => return Ok(Some(cleared)),
                CommitCheck::Disturbed => {
                    self.context.observer.notice(Notice::ConcurrentPrune);
                    // A write key cannot store chunks again, since it cannot read them.
                    let lost = |error: &RepoError| {
                        matches!(error.kind(), RepoErrorKind::Damaged | RepoErrorKind::Role)
                    };
                    match store_again(index, tops, guard.lease(), self.context) {
                        Err(OpsError::Repo(error)) if lost(&error) => {
                            return Err(OpsError::LostToPrune {
                                volume: self.options.volume.clone(),
                            });
                        }
                        other => other?,
                    }
                }
            }
        }
        Err(self.lost_race())
    }

    /// Must be called after each attempt to commit records. A failed attempt counts, too, since it
    /// may have stored a record. If this process was paused for minutes, data that the records rely
    /// on may have been deleted. Then withdraws the records and fails.
    pub(super) fn committed(&self, cleared: &CommitPermit) -> Result<(), OpsError> {
        let records = cleared.records();
        let in_time = |guard: &PruneGuard<'_>| !guard.came_too_late();
        if records.is_empty() || self.guard.as_ref().is_none_or(in_time) {
            return Ok(());
        }
        self.take_back(records)?;
        Err(self.lost_race())
    }

    /// Withdraws records that this run stored, or may have stored.
    fn take_back(&self, records: Vec<RemovedRecord>) -> Result<(), OpsError> {
        // Readers ignore log entries of a write key, so store voids.
        if self.project.keys.role() != Role::Full {
            for record in &records {
                Voids::put(
                    self.project,
                    record.record,
                    "the backup was paused too long",
                )?;
            }
            return Ok(());
        }
        let ids: Vec<ObjectHash> = records.iter().map(|record| record.record).collect();
        let kind = LogKind::Record;
        let mut log = Log::load(self.project)?;
        let entry = NewEntry {
            removed: ids
                .iter()
                .map(|hash| LogItem { kind, hash: *hash })
                .collect(),
            details: LogDetails {
                removed_records: records,
                ..LogDetails::default()
            },
            ..NewEntry::default()
        };
        log.append(self.project, entry, worker(self.options))?;
        for removed in ids.iter().filter_map(|id| log.removal(kind, *id)) {
            removed.delete(self.project)?;
        }
        Ok(())
    }

    fn lost_race(&self) -> OpsError {
        OpsError::LostToPrune {
            volume: self.options.volume.clone(),
        }
    }
}

fn worker(options: &BackupOptions) -> Worker<'_> {
    Worker {
        host: options.host.as_deref(),
        tool: TOOL,
    }
}

/// Stores again the blobs of these trees that would be lost. A chunk must be in one pack that
/// stays, and a node in two.
fn store_again(
    index: &Arc<Index>,
    tops: &[BlobId],
    lease: &Arc<Lease>,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    let unindexed = UnindexedPacks::none().0.with_lease(lease);
    let options = PackerOptions {
        compression: Compression::default(),
        ..PackerOptions::default()
    };
    Packer::scope(index, unindexed, options, |packer| {
        let blobs = BlobReader::new(index);
        let nodes = ResealedNodes {
            blobs: &blobs,
            packer,
        };
        let mut resealer = Resealer {
            blobs: &blobs,
            packer,
            worker: packer.worker()?,
            seen: HashSet::new(),
        };
        for top in tops {
            walk_blobs(&nodes, *top, 1, context, &mut resealer)?;
        }
        Ok::<(), OpsError>(packer.flush(&mut resealer.worker)?)
    })?;
    Ok(())
}

/// Reads nodes also from packs that are about to be deleted. Stores a node again unless it is in
/// two packs that stay.
struct ResealedNodes<'a> {
    blobs: &'a BlobReader,
    packer: &'a Packer<'a>,
}

impl NodeReader for ResealedNodes<'_> {
    fn read(&self, id: &BlobId) -> Result<Arc<Node>, RepoError> {
        let plain = self.blobs.rescue(BlobKind::Node, id)?;
        // `add_node` stores two new copies, even if one pack with the node stays. It stores none if
        // two such packs stay.
        self.packer.add_node(*id, &plain)?;
        let node = Node::decode(&plain).map_err(|_| RepoError::Tree)?;
        Ok(Arc::new(node))
    }
}

/// A walk over trees that stores a chunk again unless the index finds it in a pack that stays.
struct Resealer<'a> {
    blobs: &'a BlobReader,
    packer: &'a Packer<'a>,
    worker: PackWorker,
    seen: HashSet<BlobId>,
}

impl BlobVisitor for Resealer<'_> {
    fn enter(&mut self, node: &BlobId) -> Result<bool, OpsError> {
        Ok(self.seen.insert(*node))
    }

    fn chunk(&mut self, chunk: &BlobId) -> Result<(), OpsError> {
        if self.blobs.index().find_trusted(chunk)?.is_none() {
            let plain = self.blobs.rescue(BlobKind::Chunk, chunk)?;
            let all = [(*chunk, 0..plain.len())];
            self.packer.store_chunks(&mut self.worker, &plain, all)?;
        }
        Ok(())
    }
}
