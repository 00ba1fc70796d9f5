//! Verifies the packs of the index, and their content.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::finding::Finding;
use super::selection::{Chosen, LedgerRun, ReadData, ReadOutcome};
use super::task::CheckTask;
use crate::base::{
    Buffer, Notice, ObjectHash, Observer, Phase, Progress, Role, lock, recover, to_usize,
};
use crate::format::{BlobKind, PackListing, VerifiedLevel};
use crate::ops::context::thread_pool;
use crate::ops::error::OpsError;
use crate::repo::{
    Damage, Index, Log, ObjectRef, Opener, PlacedRun, Project, RepoError, listing_of, read_whole,
    read_whole_with, still_damaged,
};

/// The maximum number of threads that read packs. Each of them needs about 12 MiB.
const READERS_MAX: usize = 8;

/// The kind of packs whose content every key can open.
const NODES: Option<BlobKind> = Some(BlobKind::Node);

/// The packs of the index, compared with those that exist.
#[derive(Default)]
struct Compared {
    /// Packs of the size that the index states, and that size in bytes.
    packs: Vec<(ObjectRef, u64)>,
    /// Packs of another size, with this size and the size that the index states. Also missing
    /// packs, with `None`, unless they are in `deleted`.
    wrong: Vec<(ObjectRef, Option<(u64, u64)>)>,
    /// Missing packs that only superseded segments name. They do not count as damage.
    deleted: Vec<ObjectHash>,
}

impl CheckTask<'_> {
    /// Verifies that every pack in the index exists with its size. Returns the packs that exist,
    /// each with the number of bytes to read.
    ///
    /// A check of a part of the data chooses packs before it knows which of them backups use. So
    /// with `with_retired` this also returns packs that only superseded segments name.
    pub(super) fn packs(
        &mut self,
        index: &Index,
        with_retired: bool,
    ) -> Result<Vec<(ObjectRef, u64)>, OpsError> {
        let mut compared = self.compare(index, with_retired)?;
        // The cache may be damaged, so fill it again from the segments.
        if !compared.wrong.is_empty() {
            index.rebuild()?;
            index.scan_unindexed()?;
            compared = self.compare(index, with_retired)?;
        }
        self.unnamed = index.unnamed()?.into_iter().collect();
        self.report.packs += (compared.packs.len() + compared.wrong.len()) as u64;
        self.bad_packs.extend(&compared.deleted);
        self.missing.extend(&compared.deleted);
        for (object, found) in compared.wrong {
            self.bad_packs.extend(object.hash());
            match found {
                None => {
                    self.missing.extend(object.hash());
                    self.unreported.push(object);
                }
                Some((found, expected)) => {
                    self.report.packs_damaged += 1;
                    // Some of its runs may still be readable.
                    compared.packs.push((object, found.min(expected)));
                    self.found(&Finding::PackWrongSize {
                        pack: object,
                        expected,
                        found,
                    });
                }
            }
        }
        Ok(compared.packs)
    }

    /// Compares the packs of the index with those that exist.
    fn compare(&self, index: &Index, with_retired: bool) -> Result<Compared, OpsError> {
        let project = self.project.id;
        let sizes: HashMap<ObjectRef, u64> = index
            .list_packs()?
            .into_iter()
            .map(|pack| (pack.object(project), pack.info.size))
            .collect();
        // Only superseded segments name these packs. A check of all data reads them later, and only
        // if a backup needs them.
        let retired: HashSet<_> = index.retired()?.into_iter().collect();
        let mut compared = Compared::default();
        index.each_pack(|listing| {
            self.context.cancel.check()?;
            let expected = listing.contents.pack_size();
            let object = ObjectRef::of_pack(project, listing.contents.kind, listing.pack);
            match (sizes.get(&object), retired.contains(&listing.pack)) {
                (Some(found), is_retired) if *found == expected => {
                    if with_retired || !is_retired {
                        compared.packs.push((object, expected));
                    }
                }
                (None, true) => compared.deleted.push(listing.pack),
                (found, _) => {
                    let sizes = found.map(|found| (*found, expected));
                    compared.wrong.push((object, sizes));
                }
            }
            Ok(())
        })?;
        Ok(compared)
    }

    /// Begins an entry for the ledger (the project's list of verified and damaged packs), chooses
    /// packs, and reads them.
    pub(super) fn read_chosen(
        &mut self,
        index: &Index,
        read: &ReadData,
        packs: Vec<(ObjectRef, u64)>,
    ) -> Result<(), OpsError> {
        let ledger_run = LedgerRun::new(self.project, &*self.context.observer, read)?;
        self.candidates = packs.len() as u64;
        let chosen = ledger_run.choose(index, read, packs)?;
        self.chosen = chosen.len() as u64;
        self.ledger_run = Some(ledger_run);
        self.read_packs(index, &chosen)
    }

    /// Stores the results in the ledger, if `read_chosen` began an entry. Without an index, all
    /// packs count as existing.
    pub(super) fn end_run(&mut self, index: Option<&Index>) {
        if let Some(ledger_run) = self.ledger_run.take() {
            let packs = index.and_then(|index| index.list_packs().ok());
            let packs = packs.map(|packs| packs.iter().map(|pack| pack.hash).collect());
            let exists = |pack: &ObjectHash| {
                let known = packs.as_ref();
                known.is_none_or(|packs: &HashSet<_>| packs.contains(pack))
            };
            let chosen = Chosen {
                packs: self.chosen,
                of: self.candidates,
                is_all: self.all_read || !self.reads_all,
            };
            self.report.data = Some(ledger_run.end(&chosen, exists));
        }
    }

    /// Verifies that every pack has its hash. If the key can open the packs, also verifies that
    /// every blob in them opens and has its id. Begins no further pack after the time limit.
    pub(super) fn read_packs(
        &mut self,
        index: &Index,
        packs: &[(ObjectRef, u64)],
    ) -> Result<(), OpsError> {
        let Some(ledger_run) = &self.ledger_run else {
            return Ok(());
        };
        let total: u64 = packs.iter().map(|(_, size)| size).sum();
        let done = AtomicU64::new(0);
        let findings = Mutex::new(Vec::new());
        let seen = Mutex::new(HashSet::new());
        let proven = Mutex::new(Vec::new());
        let buffers = Mutex::new(Vec::new());
        let context = self.context;
        let (unnamed, authority) = (&self.unnamed, *self.project.keys.authority());
        let whole_pack = Mutex::new(Buffer::default());
        // With one more thread, the others can compute while it waits for the store.
        let readers = (context.threads + 1).min(READERS_MAX);
        thread_pool(readers)?.install(|| {
            // Give each thread one pack at a time. Otherwise, one thread may still read several
            // packs when the other threads have finished.
            let packs = packs.par_iter().with_max_len(1);
            packs.try_for_each(|(pack, size)| {
                context.cancel.check()?;
                let Some(hash) = pack.hash().filter(|_| !ledger_run.is_over()) else {
                    return Ok(());
                };
                let opens = ledger_run.level == VerifiedLevel::Opened || pack.blob_kind() == NODES;
                let own = lock(&buffers).pop();
                let mut own = own.unwrap_or_else(|| PackBuffers::new(&whole_pack));
                let observer = &*context.observer;
                let (verdict, outcome) =
                    read_twice(index, *pack, hash, *size, opens, &mut own, observer)?;
                lock(&buffers).push(own);
                ledger_run.note(hash, *size, outcome);
                lock(&seen).insert(hash);
                match verdict {
                    PackVerdict::Whole(listing) => {
                        // A prune or a later backup adds an unnamed pack of a full key to the index
                        // if a backup uses the pack. So the pack needs no audit.
                        let is_ours = unnamed.contains(&hash) && listing.signer == authority;
                        if !is_ours && !index.may_rely_on(&listing)? {
                            lock(&proven).push(listing);
                        }
                    }
                    PackVerdict::Damaged(damage, bad) => {
                        lock(&findings).push((hash, damage, bad));
                    }
                }
                let done = done.fetch_add(*size, Ordering::Relaxed) + size;
                let progress = Progress {
                    phase: Phase::CheckData,
                    done,
                    total: Some(total),
                };
                context.observer.progress(progress);
                Ok::<(), RepoError>(())
            })
        })?;
        let seen = recover(seen.into_inner());
        self.read.extend(seen);
        // Only a full key can store an audit (a signed list of packs that were read as a whole).
        if ledger_run.level == VerifiedLevel::Opened {
            self.proven.append(&mut recover(proven.into_inner()));
        }
        let findings = recover(findings.into_inner());
        let is_unknown = |(_, error, bad): &(_, RepoError, Option<_>)| {
            bad.is_none() && !error.is_missing() && ledger_run.level == VerifiedLevel::Hashed
        };
        if findings.iter().any(is_unknown) {
            context.observer.notice(Notice::PartsUnknown);
        }
        let is_removed = self.removed_meanwhile()?;
        self.report.bytes_read += done.into_inner();
        for (pack, damage, bad) in findings {
            if damage.is_missing() && is_removed.contains(&pack) {
                continue;
            }
            if let RepoError::Damaged {
                source: Damage::Missing,
                ..
            } = damage
            {
                self.missing.insert(pack);
            }
            note_damage(index, pack, &damage, bad.as_deref())?;
            // A pack of the wrong size is reported already.
            if self.bad_packs.insert(pack) {
                let is_relied_on = match index.listing(&pack)? {
                    Some(listing) => index.may_rely_on(&listing)?,
                    None => false,
                };
                // Report the damage at once in two cases, even if no backup needs the pack. Either
                // all runs are undamaged, so other parts of the pack are damaged. Or the pack is
                // not relied on: the holder of a write key may have stored wrong data in it.
                let is_whole = bad.as_ref().is_some_and(Vec::is_empty);
                if is_relied_on && !is_whole {
                    self.unreported_damage.push((pack, damage));
                } else {
                    self.report.packs_damaged += 1;
                    self.found(&Finding::from_error(damage));
                }
            }
            if let Some(bad) = bad {
                self.bad_packs.remove(&pack);
                self.bad_runs
                    .extend(bad.into_iter().map(|ordinal| (pack, ordinal)));
            }
        }
        Ok(())
    }

    /// Returns the packs that this check has read and that the log states as removed. A verify key
    /// takes no lease, so a prune may delete packs while they are read. For other keys, the result
    /// is empty.
    fn removed_meanwhile(&self) -> Result<HashSet<ObjectHash>, OpsError> {
        if self.project.role() != Role::Verify {
            return Ok(HashSet::new());
        }
        Log::load(self.project)?;
        let removed = Log::removals(self.project)?;
        let packs = self.read.iter().filter(|pack| removed.has_pack(pack));
        Ok(packs.copied().collect())
    }

    /// Reads again only the packs and parts of packs that this host found damaged earlier, and
    /// notes the damage.
    pub(super) fn known_damage(&mut self, index: &Index) -> Result<(), OpsError> {
        let mut with_runs = HashSet::new();
        for (pack, bad) in still_damaged(index)? {
            if self.read.contains(&pack) {
                continue;
            }
            with_runs.insert(pack);
            let Some(listing) = index.listing(&pack)? else {
                continue;
            };
            let object = ObjectRef::of_pack(self.project.id, listing.contents.kind, pack);
            if !self.bad_packs.contains(&pack) {
                self.unreported_damage.push((pack, bad_part(object)));
            }
            self.bad_runs
                .extend(bad.into_iter().map(|ordinal| (pack, ordinal)));
        }
        for (pack, damage) in index.damaged_outside_runs()? {
            let reported = [&self.read, &self.bad_packs, &with_runs];
            let is_reported = reported.iter().any(|packs| packs.contains(&pack));
            if !is_reported && index.is_named(&pack)? {
                self.report.packs_damaged += 1;
                self.found(&Finding::from_error(damage));
            }
        }
        Ok(())
    }
}

/// Remembers the damage of a pack on this host, so that the next backup of the same data stores
/// this data again. `bad` are the ordinals of the damaged runs. If `bad` is `None`, the damaged
/// parts are not known. Then notes all parts of the pack, unless the pack is missing.
fn note_damage(
    index: &Index,
    pack: ObjectHash,
    damage: &RepoError,
    bad: Option<&[u64]>,
) -> Result<(), OpsError> {
    match bad {
        Some([]) => index.note_damaged_outside_runs(pack),
        Some(bad) => index.note_damaged_runs(pack, bad.iter().copied()),
        None if damage.is_missing() => {}
        None => {
            index.note_damaged_outside_runs(pack);
            if let Some(listing) = index.listing(&pack)? {
                index.note_damaged_runs(pack, 0..listing.contents.runs.len() as u64);
            }
        }
    }
    Ok(())
}

/// The result of reading a pack.
enum PackVerdict {
    /// No damage was found at the level of this check.
    Whole(PackListing),
    /// The pack is damaged. The list has the ordinals of the damaged runs. `None` if the runs were
    /// not read.
    Damaged(RepoError, Option<Vec<u64>>),
}

/// The memory of one thread that reads packs. All packs use the same memory.
struct PackBuffers<'a> {
    /// A piece of a pack.
    piece: Buffer,
    /// A whole pack. All threads share it, so only one of them at a time searches a damaged pack.
    whole: &'a Mutex<Buffer>,
    opener: Opener,
}

impl<'a> PackBuffers<'a> {
    fn new(whole: &'a Mutex<Buffer>) -> Self {
        Self {
            piece: Buffer::default(),
            whole,
            opener: Opener::default(),
        }
    }
}

/// Reads a pack, one piece at a time. If the pack exists but seems damaged, reads it once more:
/// memory or the connection may have changed the data. The second time, also searches the damaged
/// runs.
fn read_twice(
    index: &Index,
    object: ObjectRef,
    pack: ObjectHash,
    size: u64,
    opens: bool,
    buffers: &mut PackBuffers<'_>,
    observer: &dyn Observer,
) -> Result<(PackVerdict, ReadOutcome), RepoError> {
    let first = if opens {
        open_pack(index.project(), object, buffers)
    } else {
        hash_pack(index, object, pack)
    };
    let first = match first? {
        PackVerdict::Damaged(error, _) if !error.is_missing() => error,
        verdict @ PackVerdict::Damaged(..) => return Ok((verdict, ReadOutcome::Missing)),
        verdict @ PackVerdict::Whole(_) => return Ok((verdict, ReadOutcome::Whole)),
    };
    let second = if opens {
        read_pack(index, object, pack, size, buffers)?
    } else {
        hash_pack(index, object, pack)?
    };
    let outcome = match &second {
        PackVerdict::Whole(_) => {
            observer.notice(Notice::GoodWhenReadAgain {
                problem: first.to_string(),
            });
            ReadOutcome::WholeWhenReadAgain
        }
        PackVerdict::Damaged(error, _) if error.is_missing() => ReadOutcome::Missing,
        PackVerdict::Damaged(..) => ReadOutcome::Damaged,
    };
    Ok((second, outcome))
}

/// Verifies that a pack has its hash, and that its signer signed all of it. If the index lists the
/// pack, also verifies that the index states the same content.
fn hash_pack(index: &Index, object: ObjectRef, pack: ObjectHash) -> Result<PackVerdict, RepoError> {
    let listing = match read_whole(index.project(), object) {
        Ok(listing) => listing,
        Err(error @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
            return Ok(PackVerdict::Damaged(error, None));
        }
        Err(error) => return Err(error),
    };
    let listed = index.listing(&pack)?;
    if listed.is_some_and(|listed| listed.contents != listing.contents) {
        let source = Damage::Impossible("the index states another content for it");
        let error = RepoError::Damaged { object, source };
        return Ok(PackVerdict::Damaged(error, None));
    }
    Ok(PackVerdict::Whole(listing))
}

/// Reads a pack, one piece at a time, and verifies its hash, its signature, and all of its runs and
/// blobs. Does not return which runs are damaged.
fn open_pack(
    project: &Project,
    object: ObjectRef,
    PackBuffers { piece, opener, .. }: &mut PackBuffers<'_>,
) -> Result<PackVerdict, RepoError> {
    let mut all_open = true;
    let read = read_whole_with(project, object, piece, |run, stored| {
        all_open = all_open && opens_whole(project, &run, stored, opener);
    });
    match read {
        Ok(listing) if all_open => Ok(PackVerdict::Whole(listing)),
        Ok(_) => Ok(PackVerdict::Damaged(bad_part(object), None)),
        Err(error @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
            Ok(PackVerdict::Damaged(error, None))
        }
        Err(error) => Err(error),
    }
}

/// The error of a pack with a run that does not open.
fn bad_part(object: ObjectRef) -> RepoError {
    let source = Damage::Impossible("a part of it cannot be decrypted");
    RepoError::Damaged { object, source }
}

/// Reads a whole pack into memory, and verifies it like [`open_pack`]. If it is damaged, also
/// returns which runs are. `size` is the number of bytes to read.
fn read_pack(
    index: &Index,
    object: ObjectRef,
    pack: ObjectHash,
    size: u64,
    PackBuffers { whole, opener, .. }: &mut PackBuffers<'_>,
) -> Result<PackVerdict, RepoError> {
    let project = index.project();
    let bytes = &mut *lock(whole);
    let read = match project.objects.get_into(object, size, bytes) {
        // The pack is longer than the index states. All runs that the index knows may still be at
        // the beginning of the pack.
        Err(RepoError::Damaged {
            source: Damage::TooLarge,
            ..
        }) => {
            bytes.resize(to_usize(size));
            project.objects.get_start(object, bytes)
        }
        read => read,
    };
    match read {
        Ok(()) => {}
        Err(error @ RepoError::Damaged { .. }) => return Ok(PackVerdict::Damaged(error, None)),
        Err(error) => return Err(error),
    }
    let (damage, listing) = match listing_of(project, object, bytes) {
        Ok(listing) => (None, Some(listing)),
        // To find the affected backups, use the runs that the index lists. The list of runs in the
        // damaged pack may be that of another pack.
        Err(error @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
            (Some(error), index.listing(&pack)?)
        }
        Err(error) => return Err(error),
    };
    let bad = listing
        .clone()
        .map(|listing| bad_runs(project, listing, bytes, opener));
    Ok(match (damage, listing, bad) {
        (None, Some(listing), Some(bad)) if bad.is_empty() => PackVerdict::Whole(listing),
        (Some(damage), _, bad) => PackVerdict::Damaged(damage, bad),
        (None, _, bad) => PackVerdict::Damaged(bad_part(object), bad),
    })
}

/// Returns the ordinals of the runs that do not open, or that hold a blob whose content does not
/// have its id. Overwrites the bytes of the pack.
fn bad_runs(
    project: &Project,
    listing: PackListing,
    bytes: &mut [u8],
    opener: &mut Opener,
) -> Vec<u64> {
    let mut bad = Vec::new();
    for run in PlacedRun::all_of(listing) {
        let range = run.range();
        let stored = bytes.get_mut(to_usize(range.start)..to_usize(range.end));
        if !stored.is_some_and(|stored| opens_whole(project, &run, stored, opener)) {
            bad.push(run.ordinal());
        }
    }
    bad
}

/// Returns whether a run opens and each of its blobs has the content that its id states. Overwrites
/// the stored bytes of the run.
fn opens_whole(
    project: &Project,
    run: &Arc<PlacedRun>,
    stored: &mut [u8],
    opener: &mut Opener,
) -> bool {
    let Some(first) = run.locations().next() else {
        return true;
    };
    let plain = opener.open_run(project, &first, stored);
    plain.is_ok_and(|plain| {
        run.locations()
            .all(|blob| Opener::blob(project, &blob, plain).is_ok())
    })
}
