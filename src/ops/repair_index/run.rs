//! Runs a planned repair of the index.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::plan::{IndexAction, IndexRepair, IndexStep};
use crate::base::{ObjectHash, Phase, Progress};
use crate::format::{LogItem, LogKind, PACK_SIZE_MAX, PackListing};
use crate::ops::context::thread_pool;
use crate::ops::error::OpsError;
use crate::ops::history::unnamed;
use crate::ops::prune::{confirm, still_valid};
use crate::repo::{ListedPack, Log, NewEntry, RepoError, quarantine, read_damaged, read_whole};

/// Maximum number of packs that are read at the same time.
const READERS_MAX: usize = 4;
/// After this many packs are read, a segment that names them is stored. If the repair is killed,
/// the next repair need not read the named packs again.
const BATCH: usize = 256;

/// A pack, and its verified listing or the reason why it cannot be named.
type ReadPack<'p> = (&'p ListedPack, Result<PackListing, Arc<RepoError>>);

impl IndexRepair<'_> {
    /// The damaged and missing segments, and the packs that no segment names.
    #[must_use]
    pub fn steps(&self) -> &[IndexStep] {
        &self.steps
    }

    /// Whether a backup needs data that no readable pack has.
    #[must_use]
    pub const fn lacks_data(&self) -> bool {
        self.lacks_data
    }

    /// Bytes of the segments, which were read to make the plan.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Ends the use of the index.
    pub fn close(self) {
        self.index.close();
    }

    /// Runs the plan. Calls `done` for each finished step, with whether the problem of the step is
    /// solved now. Returns the bytes of packs that were read.
    ///
    /// Each damaged segment is first stored in `quarantine/`. Each pack is read as a whole before a
    /// segment names it, since other processes trust segments that a key of the role `full` signed.
    /// The last new segment supersedes the damaged ones. At that time, segments name all undamaged
    /// packs. Nothing is deleted. The repair can be interrupted at any time, and run again.
    pub fn run(&self, done: &mut dyn FnMut(&IndexStep, bool)) -> Result<u64, OpsError> {
        if self.lease.is_none() {
            return Err(OpsError::Internal("the plan of a dry run cannot be run"));
        }
        self.quarantine()?;
        let total = self.packs.iter().map(|pack| pack.info.size).sum();
        let bytes = AtomicU64::new(0);
        let mut rest = &self.packs[..];
        loop {
            let (batch, later) = rest.split_at(rest.len().min(BATCH));
            let read = self.read(batch, &bytes, total)?;
            let superseded = if later.is_empty() {
                self.segments(IndexAction::Replace)
            } else {
                Vec::new()
            };
            self.name(&read, superseded)?;
            for (pack, listing) in read {
                done(
                    &IndexStep {
                        object: pack.object(self.project.id),
                        action: IndexAction::Name,
                        problem: listing.as_ref().err().cloned(),
                    },
                    listing.is_ok(),
                );
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.remove_missing()?;
        let others = self.steps.iter();
        for step in others.filter(|step| step.action != IndexAction::Name) {
            done(step, step.repairs());
        }
        Ok(bytes.into_inner())
    }

    /// Stores the bytes of damaged segments in `quarantine/`.
    fn quarantine(&self) -> Result<(), OpsError> {
        let backend = self.project.objects.backend();
        let damaged = self.steps.iter();
        for step in damaged.filter(|step| step.action == IndexAction::Replace) {
            let name = step.object.name();
            if let Some(bytes) = read_damaged(backend, &name, PACK_SIZE_MAX)? {
                quarantine(backend, &name, &bytes)?;
            }
        }
        Ok(())
    }

    /// The segments for which the plan has this action.
    fn segments(&self, action: IndexAction) -> Vec<ObjectHash> {
        let steps = self.steps.iter().filter(|step| step.action == action);
        steps.filter_map(|step| step.object.hash()).collect()
    }

    /// Reads these packs as a whole. Adds their sizes to `bytes`.
    fn read<'p>(
        &self,
        packs: &'p [ListedPack],
        bytes: &AtomicU64,
        total: u64,
    ) -> Result<Vec<ReadPack<'p>>, OpsError> {
        let context = self.context;
        let threads = context.threads.min(READERS_MAX);
        let read = |pack: &'p ListedPack| {
            context.cancel.check()?;
            let object = pack.object(self.project.id);
            let read = || read_whole(&self.project, object);
            // Read a damaged pack twice: the memory or the connection may have been bad.
            let listing = match read() {
                Err(RepoError::Damaged { .. }) => read(),
                first => first,
            };
            let size = pack.info.size;
            context.observer.progress(Progress {
                phase: Phase::CheckData,
                done: bytes.fetch_add(size, Ordering::Relaxed) + size,
                total: Some(total),
            });
            match listing {
                Ok(listing) => Ok((pack, Ok(listing))),
                Err(
                    error @ (RepoError::Damaged { .. }
                    | RepoError::Foreign { .. }
                    | RepoError::Unsupported { .. }),
                ) => Ok((pack, Err(Arc::new(error)))),
                Err(error) => Err(OpsError::from(error)),
            }
        };
        thread_pool(threads)?.install(|| packs.par_iter().map(read).collect())
    }

    /// Names the undamaged ones of these packs in new segments. The last new segment supersedes the
    /// segments in `superseded`.
    fn name(&self, read: &[ReadPack<'_>], superseded: Vec<ObjectHash>) -> Result<(), OpsError> {
        let listings = read.iter().filter_map(|(_, read)| read.as_ref().ok());
        let listings: Vec<_> = listings.cloned().collect();
        if listings.is_empty() && superseded.is_empty() {
            return Ok(());
        }
        confirm(self.lease.as_ref(), self.context)?;
        let still_valid = || still_valid(self.lease.as_ref(), self.context);
        self.index
            .replace_segments(superseded, listings, still_valid)
    }

    /// Adds an entry to the log that removes the missing segments, since other segments name their
    /// packs now. The entry also adds the existing segments that the log does not name yet.
    fn remove_missing(&self) -> Result<(), OpsError> {
        let missing = self.segments(IndexAction::Remove);
        if missing.is_empty() {
            return Ok(());
        }
        let item = |hash| LogItem {
            kind: LogKind::Segment,
            hash,
        };
        let mut log = Log::load(&self.project)?;
        let present = self.index.segments()?.into_iter();
        let entry = NewEntry {
            added: unnamed(&log, present.map(item)),
            removed: missing.into_iter().map(item).collect(),
            ..NewEntry::default()
        };
        confirm(self.lease.as_ref(), self.context)?;
        Ok(log.append(&self.project, entry, self.by)?)
    }
}
