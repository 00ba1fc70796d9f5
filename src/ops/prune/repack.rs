//! Repacking: copies the used blobs of some packs into new packs.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::items::item_of_pack;
use super::plan::Steps;
use super::small;
use super::usage::{PackUse, Usage};
use crate::base::{BlobId, Notice, ObjectHash, Observer, Phase, Progress, lock, recover, to_usize};
use crate::format::{BlobKind, LogItem};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{
    BlobLocation, BlobReader, Index, IndexStored, Log, Opener, PackSizes, PackWorker, Packer,
    PackerOptions, PlacedRun, Project, RepoError, RepoErrorKind, UnindexedPacks,
};

/// Runs of a pack are read together if the gap between them has fewer bytes than this.
const GAP: u64 = 256 << 10;
/// The maximum number of bytes to read together, unless a single run is longer.
const READ_MAX: u64 = 8 << 20;
/// Bytes in a full pack of chunks.
const FULL: u64 = 32 << 20;

/// The result of repacking.
#[derive(Debug, Default)]
pub(super) struct Repacked {
    /// Bytes that were read.
    pub(super) read: u64,
    /// Bytes that were stored.
    pub(super) written: u64,
    /// The number of packs that stay, because a used blob in them has no undamaged copy. Counts
    /// only packs whose signers are trusted and that the log does not remove.
    pub(super) damaged: u64,
    /// The new packs.
    pub(super) packs: Vec<LogItem>,
}

/// The result of one attempt to repack.
struct Attempt {
    read: u64,
    written: u64,
    /// Packs with a used blob of which no undamaged copy exists. These packs must stay.
    spared: HashSet<ObjectHash>,
    damaged: u64,
    /// The new packs.
    packs: Vec<LogItem>,
    /// Whether the attempt ended early because it no longer pays to merge the packs.
    ended_early: bool,
}

/// The packs with a used blob of which no undamaged copy exists.
pub(super) struct Spared<'a> {
    /// The packs that may be spared. If a used blob of such a pack has no undamaged copy, the pack
    /// stays, and the prune goes on. These are packs whose signers are not trusted, and packs that
    /// the log removes, since someone may have stored them again. If small packs are merged, the
    /// small packs may be spared, too: damage in one of them must not stop every prune. If a used
    /// blob of any other pack has no undamaged copy, the prune fails.
    may: HashSet<ObjectHash>,
    packs: Mutex<HashSet<ObjectHash>>,
    observer: &'a dyn Observer,
}

impl<'a> Spared<'a> {
    /// Returns an empty set, to which any of these packs may be added.
    pub(super) fn any_of(packs: HashSet<ObjectHash>, observer: &'a dyn Observer) -> Self {
        Self {
            may: packs,
            packs: Mutex::default(),
            observer,
        }
    }

    /// Returns the packs that were spared.
    pub(super) fn into_packs(self) -> HashSet<ObjectHash> {
        recover(self.packs.into_inner())
    }

    /// Spares a pack because of this damage, or fails if it may not be spared.
    fn add(&self, pack: ObjectHash, damage: RepoError) -> Result<(), RepoError> {
        if damage.kind() != RepoErrorKind::Damaged || !self.may.contains(&pack) {
            return Err(damage);
        }
        if lock(&self.packs).insert(pack) {
            let problem = damage.to_string();
            self.observer.notice(Notice::PackStays { problem });
        }
        Ok(())
    }
}

/// The error if the index was rebuilt during the prune, after the store had changed.
const FORGOTTEN: OpsError = OpsError::Internal("the index has lost a pack that it knew");

/// A run, and the blobs of it that are used.
pub(super) type Wanted = (Arc<PlacedRun>, Vec<BlobId>);

/// Copies the used blobs of the packs to repack and to merge into new packs, which are durable and
/// indexed when this returns. With `merge_small`, small volumes share new packs. The index must
/// exclude all packs that are going to be deleted: blobs that it finds are not copied.
///
/// Packs with a used blob of which no undamaged copy exists must stay, and are removed from the
/// steps. If it then no longer pays to merge the remaining packs, they are removed from the steps,
/// too.
pub(super) fn repack(
    index: &Arc<Index>,
    usage: &Usage,
    steps: &mut Steps,
    unindexed: impl Fn() -> UnindexedPacks,
    merge_small: bool,
    context: &Context<'_>,
) -> Result<Repacked, OpsError> {
    let mut all = Repacked::default();
    while !steps.copied().is_empty() {
        let attempt = copy_all(index, usage, steps, unindexed(), merge_small, context)?;
        all.read += attempt.read;
        all.written += attempt.written;
        all.damaged += attempt.damaged;
        all.packs.extend(attempt.packs);
        steps.spare(&attempt.spared);
        if !attempt.ended_early {
            break;
        }
        steps.merge = merged_without(steps, &HashSet::new());
    }
    Ok(all)
}

/// Returns the packs to merge, in order, if the packs in `spared` must stay.
fn merged_without(steps: &Steps, spared: &HashSet<ObjectHash>) -> Vec<PackUse> {
    let rest = |packs: &[PackUse]| {
        let packs = packs.iter().filter(|pack| !spared.contains(&pack.pack));
        packs.copied().collect::<Vec<_>>()
    };
    // `choose` returns packs in reverse order.
    let mut merge = rest(&steps.merge);
    merge.reverse();
    small::choose(merge, &rest(&steps.repack), u64::MAX)
}

/// Makes one attempt for [`repack`]. Ends early if so many packs must stay that it no longer pays
/// to merge all the other ones. Then stores as little as possible.
fn copy_all(
    index: &Arc<Index>,
    usage: &Usage,
    steps: &Steps,
    unindexed: UnindexedPacks,
    merge_small: bool,
    context: &Context<'_>,
) -> Result<Attempt, OpsError> {
    let packs = &steps.copied();
    let read = AtomicU64::new(0);
    let removed = Log::removals(index.project())?;
    let is_small = |pack: &PackUse| pack.size < PackSizes::default().small(pack.kind);
    let may_be_damaged = |pack: &&PackUse| {
        let is_removed = removed.has_pack(&pack.pack);
        !usage.trusts(&pack.pack) || is_removed || merge_small && is_small(pack)
    };
    let may = packs.iter().filter(may_be_damaged);
    let may = may.map(|pack| pack.pack).collect();
    let spared = Spared::any_of(may, &*context.observer);
    let total = packs.iter().map(|pack| pack.size).sum();
    let mut done = 0;
    let options = PackerOptions {
        // The prune adds unnamed packs to the index later, if they are used.
        name_unnamed: false,
        ..PackerOptions::default()
    };
    let (ended_early, stored, report) = Packer::scope(index, unindexed, options, |packer| {
        for of_one_volume in packs.chunk_by(|a, b| a.class == b.class) {
            // Repack one group at a time, to save memory.
            for group in groups(of_one_volume, context.threads) {
                let mut wanted = Vec::new();
                for pack in group {
                    wanted.push(wanted_of(index, usage, &pack.pack)?);
                }
                let before = lock(&spared.packs).len();
                copy(packer, index, &wanted, (&read, &spared), context)?;
                let stay = lock(&spared.packs);
                let merged = steps.merge.iter().filter(|pack| !stay.contains(&pack.pack));
                if stay.len() > before && merged_without(steps, &stay).len() < merged.count() {
                    packer.discard();
                    return Ok(true);
                }
                drop(stay);
                done += group.iter().map(|pack| pack.size).sum::<u64>();
                context.observer.progress(Progress {
                    phase: Phase::Repack,
                    done,
                    total: Some(total),
                });
            }
            // With `merge_small`, volumes share a pack that would be small otherwise.
            if !merge_small || !packer.is_open_small() {
                packer.end_pack()?;
            }
        }
        Ok::<_, OpsError>(false)
    })?;
    let spared = spared.into_packs();
    if !ended_early {
        verify(index, usage, packs, &spared)?;
    }
    let is_damaged = |pack: &&ObjectHash| usage.trusts(pack) && !removed.has_pack(pack);
    Ok(Attempt {
        read: read.into_inner(),
        written: report.bytes_stored,
        damaged: spared.iter().filter(is_damaged).count() as u64,
        spared,
        packs: stored
            .iter()
            .flat_map(IndexStored::packs)
            .map(|(kind, pack)| item_of_pack(*kind, *pack))
            .collect(),
        ended_early,
    })
}

/// Divides packs into groups. To save memory, a group has only about as much data as `4 * threads`
/// full packs.
fn groups(packs: &[PackUse], threads: usize) -> impl Iterator<Item = &[PackUse]> {
    let sizes = PackSizes::default();
    let full = threads.max(1) as u64 * 4 * FULL;
    let mut rest = packs;
    std::iter::from_fn(move || {
        let mut filled = 0;
        let more = rest.iter().take_while(|pack| {
            let has_room = filled < full;
            filled += sizes.filled(pack.kind, pack.size, pack.blobs);
            has_room
        });
        let (group, after) = rest.split_at(more.count());
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

/// Returns the runs of a pack that have used blobs, and these blobs.
fn wanted_of(index: &Index, usage: &Usage, pack: &ObjectHash) -> Result<Vec<Wanted>, OpsError> {
    let listing = index.listing(pack)?.ok_or(FORGOTTEN)?;
    let mut wanted = Vec::new();
    for run in PlacedRun::all_of(listing) {
        let mut ids = Vec::new();
        for location in run.locations() {
            let id = location.blob().id;
            if usage.is_used(location.kind(), &id) {
                ids.push(id);
            }
        }
        if !ids.is_empty() {
            wanted.push((run, ids));
        }
    }
    Ok(wanted)
}

/// Reads these runs and passes their blobs to the packer. Each thread reads one pack at a time.
pub(super) fn copy(
    packer: &Packer<'_>,
    index: &Arc<Index>,
    packs: &[Vec<Wanted>],
    (read, spared): (&AtomicU64, &Spared<'_>),
    context: &Context<'_>,
) -> Result<(), OpsError> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), OpsError> {
        let mut copier = Copier {
            packer,
            blobs: BlobReader::new(index),
            opener: Opener::default(),
            worker: packer.worker()?,
            spared,
        };
        while let Some(wanted) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut rest = &wanted[..];
            while !rest.is_empty() {
                context.cancel.check()?;
                let ranges = rest.iter().map(|(run, _)| run.range());
                let (together, after) = rest.split_at(read_together(ranges));
                rest = after;
                let bytes = copier.copy(together)?;
                read.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Ok(packer.flush(&mut copier.worker)?)
    };
    thread::scope(|scope| {
        let threads = context.threads.clamp(1, packs.len().max(1));
        let mut workers = Vec::new();
        let mut refused = None;
        for _ in 0..threads {
            match thread::Builder::new().spawn_scoped(scope, work) {
                Ok(worker) => workers.push(worker),
                Err(error) => drop(refused.insert(error)),
            }
        }
        // If some of the threads cannot be started, the others do all the work.
        let refused = refused.filter(|_| workers.is_empty());
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        refused.map_or(Ok(()), |error| Err(RepoError::Thread(error).into()))
    })
}

/// Returns how many of these ranges of one pack to read together. The ranges are in ascending
/// order.
pub(super) fn read_together(mut ranges: impl Iterator<Item = Range<u64>>) -> usize {
    let Some(first) = ranges.next() else {
        return 0;
    };
    let mut end = first.end;
    let near = ranges.take_while(|range| {
        let is_near = range.start <= end + GAP && range.end <= first.start + READ_MAX;
        end = range.end;
        is_near
    });
    1 + near.count()
}

/// Copies blobs to the packer, in one thread.
struct Copier<'a> {
    packer: &'a Packer<'a>,
    blobs: BlobReader,
    opener: Opener,
    worker: PackWorker,
    spared: &'a Spared<'a>,
}

impl Copier<'_> {
    /// Copies the wanted blobs of runs that are read together. Returns the bytes that were read.
    fn copy(&mut self, wanted: &[Wanted]) -> Result<u64, OpsError> {
        let ([(first, _), ..], Some((last, _))) = (wanted, wanted.last()) else {
            return Ok(0);
        };
        let Some(place) = first.locations().next() else {
            return Ok(0);
        };
        let start = first.range().start;
        let mut stored = vec![0; to_usize(last.range().end - start)];
        let fetched = self.blobs.fetch(&place, start, &mut stored).is_ok();
        for (run, ids) in wanted {
            let range = run.range();
            let bytes = &mut stored[to_usize(range.start - start)..to_usize(range.end - start)];
            self.copy_run(run, ids, bytes, fetched)?;
        }
        Ok(stored.len() as u64)
    }

    /// Copies the wanted blobs of a run. `bytes` holds the stored bytes of the run if they were
    /// `fetched`.
    fn copy_run(
        &mut self,
        run: &Arc<PlacedRun>,
        ids: &[BlobId],
        bytes: &mut [u8],
        mut fetched: bool,
    ) -> Result<(), OpsError> {
        let Some(place) = run.locations().next() else {
            return Ok(());
        };
        let whole = place.kind() == BlobKind::Chunk && ids.len() == place.run().blobs.len();
        if whole && fetched {
            if self.copy_whole(run, &place, bytes)? {
                return Ok(());
            }
            // The bytes were decrypted in place, or are damaged. Fetch the run again and copy chunk
            // by chunk.
            fetched = self.blobs.fetch(&place, run.range().start, bytes).is_ok();
        }
        let wanted = run.locations();
        let wanted = wanted.filter(|location| ids.contains(&location.blob().id));
        let project = self.blobs.index().project();
        let opened = if fetched {
            self.opener.open_run(project, &place, bytes).ok()
        } else {
            None
        };
        let is_intact = |location: &BlobLocation| {
            opened.is_some_and(|plain| Opener::blob(project, location, plain).is_ok())
        };
        // If the content of a blob does not match its id, only this blob is damaged.
        let (intact, damaged): (Vec<_>, Vec<_>) = wanted.partition(is_intact);
        if let Some(plain) = opened {
            let places = intact.iter().map(|l| (l.blob().id, l.range()));
            match place.kind() {
                BlobKind::Chunk => {
                    self.packer.store_chunks(&mut self.worker, plain, places)?;
                }
                BlobKind::Node => {
                    for (id, range) in places {
                        self.packer.add_node(id, &plain[range])?;
                    }
                }
            }
        }
        for location in damaged {
            self.rescue(&location)?;
        }
        Ok(())
    }

    /// Copies a run as it is, so that it need not be compressed again. Verifies each blob first,
    /// since the writer of the run may have stored other content under the id of the blob. Returns
    /// false if a blob in the run is damaged, or if another pack has one of these blobs by now.
    fn copy_whole(
        &mut self,
        run: &Arc<PlacedRun>,
        place: &BlobLocation,
        bytes: &mut [u8],
    ) -> Result<bool, OpsError> {
        let project = self.blobs.index().project();
        let Ok((content, plain)) = self.opener.open_run_both(project, place, bytes) else {
            return Ok(false);
        };
        if !all_intact(project, run, plain) {
            return Ok(false);
        }
        let run = place.run();
        let (packer, worker) = (self.packer, &mut self.worker);
        Ok(packer.add_run(worker, run.codec, content, &run.blobs)?)
    }

    /// Copies a blob that is damaged in this pack from another pack. If no undamaged copy exists,
    /// spares this pack. Fails if the pack may not be spared: see [`Spared`]. Then no data is
    /// deleted.
    fn rescue(&mut self, location: &BlobLocation) -> Result<(), OpsError> {
        let id = location.blob().id;
        match self.blobs.rescue(location.kind(), &id) {
            Ok(plain) if location.kind() == BlobKind::Chunk => {
                let all = [(id, 0..plain.len())];
                self.packer.store_chunks(&mut self.worker, &plain, all)?;
                Ok(())
            }
            Ok(plain) => Ok(self.packer.add_node(id, &plain)?),
            Err(error) => Ok(self.spared.add(location.pack(), error)?),
        }
    }
}

/// Whether every blob of an opened run matches its id.
fn all_intact(project: &Project, run: &Arc<PlacedRun>, plain: &[u8]) -> bool {
    let mut blobs = run.locations();
    blobs.all(|location| Opener::blob(project, &location, plain).is_ok())
}

/// Verifies that all used blobs of these packs are in other packs now. Leaves out the spared packs.
fn verify(
    index: &Index,
    usage: &Usage,
    packs: &[PackUse],
    spared: &HashSet<ObjectHash>,
) -> Result<(), OpsError> {
    for pack in packs.iter().filter(|pack| !spared.contains(&pack.pack)) {
        let listing = index.listing(&pack.pack)?.ok_or(FORGOTTEN)?;
        let kind = listing.contents.kind;
        for blob in listing.contents.blobs() {
            if usage.is_used(kind, &blob.id) && index.find_trusted(&blob.id)?.is_none() {
                return Err(OpsError::Internal("a blob was not packed again"));
            }
        }
    }
    Ok(())
}
