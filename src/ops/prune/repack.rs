//! Repacking: copies the used blobs of some packs into new packs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::usage::{PackUse, Usage};
use crate::base::{BlobId, ObjectHash, Phase, Progress, to_usize};
use crate::format::BlobKind;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{
    BlobReader, Index, Opener, PackWorker, Packer, PackerOptions, PlacedRun, UnindexedPacks,
};

/// Runs of a pack with a smaller gap between them are read together, in bytes.
const GAP: u64 = 256 << 10;
/// The most bytes to read together, unless a single run is longer.
const READ_MAX: u64 = 8 << 20;

/// Bytes that were read and written to repack.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Repacked {
    pub(super) read: u64,
    pub(super) written: u64,
}

/// The index was rebuilt meanwhile, from a store that has changed.
const FORGOTTEN: OpsError = OpsError::Internal("the index has lost a pack that it knew");

/// A run, and the blobs of it that are used.
type Wanted = (Arc<PlacedRun>, Vec<BlobId>);

/// Copies the used blobs of these packs into new packs, which are durable and indexed when it
/// returns. The index must exclude all packs that are going to be deleted: blobs that it finds are
/// not copied.
pub(super) fn repack(
    index: &Arc<Index>,
    usage: &mut Usage,
    packs: &[PackUse],
    unindexed: UnindexedPacks,
    context: &Context<'_>,
) -> Result<Repacked, OpsError> {
    if packs.is_empty() {
        return Ok(Repacked::default());
    }
    let read = AtomicU64::new(0);
    let total = packs.iter().map(|pack| pack.size).sum();
    let mut done = 0;
    let options = PackerOptions {
        // The plan adds unnamed packs to the index later, if they are used.
        name_unnamed: false,
        ..PackerOptions::default()
    };
    let ((), _, report) = Packer::scope(index, unindexed, options, |packer| {
        for of_one_volume in packs.chunk_by(|a, b| a.class == b.class) {
            // A group at a time, to save memory.
            for group in of_one_volume.chunks(context.threads.max(1) * 4) {
                let mut wanted = Vec::new();
                for pack in group {
                    wanted.push(wanted_of(index, usage, &pack.pack)?);
                }
                copy(packer, index, &wanted, &read, context)?;
                done += group.iter().map(|pack| pack.size).sum::<u64>();
                context.observer.progress(Progress {
                    phase: Phase::Repack,
                    done,
                    total: Some(total),
                });
            }
            packer.end_pack()?;
        }
        Ok::<(), OpsError>(())
    })?;
    verify(index, usage, packs)?;
    Ok(Repacked {
        read: read.into_inner(),
        written: report.bytes_stored,
    })
}

/// Returns the runs of a pack that have used blobs, and these blobs.
fn wanted_of(index: &Index, usage: &mut Usage, pack: &ObjectHash) -> Result<Vec<Wanted>, OpsError> {
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

/// Reads these runs, each thread a pack at a time, and hands their blobs to the packer.
fn copy(
    packer: &Packer<'_>,
    index: &Arc<Index>,
    packs: &[Vec<Wanted>],
    read: &AtomicU64,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), OpsError> {
        let blobs = BlobReader::new(index);
        let mut opener = Opener::default();
        let mut worker = packer.worker()?;
        while let Some(wanted) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut rest = &wanted[..];
            while !rest.is_empty() {
                context.cancel.check()?;
                let (together, after) = rest.split_at(read_together(rest));
                rest = after;
                let bytes = copy_together(packer, &blobs, &mut opener, &mut worker, together)?;
                read.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        Ok(packer.flush(&mut worker)?)
    };
    thread::scope(|scope| {
        let threads = context.threads.clamp(1, packs.len().max(1));
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// Returns how many of these runs of one pack to read together.
fn read_together(wanted: &[Wanted]) -> usize {
    let range = |wanted: &Wanted| wanted.0.range();
    let Some(first) = wanted.first().map(range) else {
        return 0;
    };
    let near = |(a, b): (&Wanted, &Wanted)| {
        range(b).start <= range(a).end + GAP && range(b).end <= first.start + READ_MAX
    };
    1 + wanted
        .iter()
        .zip(&wanted[1..])
        .take_while(|pair| near(*pair))
        .count()
}

/// Copies the wanted blobs of runs that are read together. Returns the bytes that were read.
fn copy_together(
    packer: &Packer<'_>,
    blobs: &BlobReader,
    opener: &mut Opener,
    worker: &mut PackWorker,
    wanted: &[Wanted],
) -> Result<u64, OpsError> {
    let ([(first, _), ..], Some((last, _))) = (wanted, wanted.last()) else {
        return Ok(0);
    };
    let Some(place) = first.locations().next() else {
        return Ok(0);
    };
    let start = first.range().start;
    let mut stored = vec![0; to_usize(last.range().end - start)];
    let fetched = blobs.fetch(&place, start, &mut stored);
    let project = blobs.index().project();
    for (run, ids) in wanted {
        let range = run.range();
        let bytes = &mut stored[to_usize(range.start - start)..to_usize(range.end - start)];
        let mut locations = run.locations();
        let Some(place) = locations.next() else {
            continue;
        };
        // Copied as it is: no need to compress again.
        let whole = place.kind() == BlobKind::Chunk && ids.len() == place.run().blobs.len();
        if whole && fetched.is_ok() {
            let copied = match opener.unseal(project, &place, bytes) {
                Ok(content) => {
                    packer.add_run(worker, place.run().codec, content, &place.run().blobs)?
                }
                Err(_) => false,
            };
            if copied {
                continue;
            }
            // It was decrypted in place, or is damaged. Fetch it again and copy chunk by chunk.
            blobs.fetch(&place, range.start, bytes).ok();
        }
        let wanted: Vec<_> = run
            .locations()
            .filter(|location| ids.contains(&location.blob().id))
            .collect();
        let joined = match &fetched {
            Ok(()) => opener.open_run(project, &place, bytes).ok(),
            Err(_) => None,
        };
        let intact = |plain: &&[u8]| {
            let mut blobs = wanted.iter();
            blobs.all(|location| Opener::blob(project, location, plain).is_ok())
        };
        if let Some(plain) = joined.filter(intact) {
            let places = wanted.iter().map(|l| (l.blob().id, l.range()));
            match place.kind() {
                BlobKind::Chunk => drop(packer.store_chunks(worker, plain, places)?),
                BlobKind::Node => {
                    for (id, range) in places {
                        packer.add_node(id, &plain[range])?;
                    }
                }
            }
            continue;
        }
        // Another copy may be whole. If none is, this fails and nothing is deleted.
        for location in wanted {
            let id = location.blob().id;
            let plain = blobs.rescue(location.kind(), &id)?;
            match location.kind() {
                BlobKind::Chunk => {
                    packer.store_chunks(worker, &plain, [(id, 0..plain.len())])?;
                }
                BlobKind::Node => packer.add_node(id, &plain)?,
            }
        }
    }
    Ok(stored.len() as u64)
}

/// Verifies that all used blobs of these packs are in other packs now.
fn verify(index: &Index, usage: &mut Usage, packs: &[PackUse]) -> Result<(), OpsError> {
    for pack in packs {
        let listing = index.listing(&pack.pack)?.ok_or(FORGOTTEN)?;
        let kind = listing.contents.kind;
        for blob in listing.contents.blobs() {
            if usage.is_used(kind, &blob.id) && index.find(&blob.id)?.is_none() {
                return Err(OpsError::Internal("a blob was not packed again"));
            }
        }
    }
    Ok(())
}
