//! Repairs damaged packs of chunks: packs their undamaged chunks again, and moves the damaged packs
//! to `quarantine/`.
//!
//! From then on, a moved pack counts as missing. Its name stays in the index until no backup needs
//! the lost chunks. By this name, the next backup notices that it must store them again. All
//! undamaged chunks are copied, whether a backup needs them or not. So before the damaged pack is
//! moved, all data that a running process relies on is in another pack. No mark and no grace period
//! is needed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::copies::{Copies, DamagedRuns};
use super::in_use::Walked;
use super::items::item_of_pack;
use super::known_damage::damaged_runs;
use super::lacking::backups_lacking;
use super::lease::{confirm, refuse_second};
use super::named;
use super::repack::{Spared, Wanted, copy};
use crate::base::{BlobId, ObjectHash, to_usize};
use crate::format::{BlobKind, PACK_SIZE_MAX, PackListing};
use crate::ops::affected::AffectedBackup;
use crate::ops::context::{Context, TOOL, thread_pool, unindexed_packs};
use crate::ops::error::OpsError;
use crate::ops::parity::is_restorable;
use crate::repo::{
    BlobLocation, BlobReader, Index, IndexStored, Lease, Leases, Log, Marks, ObjectRef, Opener,
    Packer, PackerOptions, PlacedRun, Project, Records, RepoError, RepoErrorKind, Work, Worker,
    exclude_damaged, quarantine, read_whole,
};
use crate::storage::{StorageErrorClass, StorageErrorKind};

/// What a repair does with a damaged pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackAction {
    /// Packs its undamaged chunks again, and moves it to `quarantine/`.
    Repack,
    /// Nothing: a prune adds the pack to the index, replaces it or deletes it. No segment names the
    /// pack, or it is going to be deleted, or it holds nodes, which are in another pack, too.
    LeftToPrune,
    /// Nothing: parity can restore the whole pack.
    Restorable,
    /// Nothing: this process may not read the pack, so it is not known to be damaged.
    Denied,
    /// Packs again what can be read of it. The pack stays where it is: the store cannot read all of
    /// it, and may still be able to do so later.
    Unreadable,
    /// Packs again what can be read of it. The pack stays where it is, since it cannot be stored in
    /// `quarantine/`. It is larger than any pack may be, or it is not a file.
    NoPack,
    /// Nothing: the pack no longer exists.
    Missing,
    /// Nothing: a second read showed that the pack is whole.
    Whole,
    /// Nothing: the repair found more damage in the pack than was known before.
    MoreDamage,
}

/// A damaged pack, and what a repair does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackStep {
    /// The pack.
    pub object: ObjectRef,
    /// The number of its runs.
    pub runs: u64,
    /// The number of its damaged runs.
    pub damaged: u64,
    /// The action.
    pub action: PackAction,
    pack: ObjectHash,
}

/// The result of a repair of packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedPacks {
    /// The steps. A step that could not be done has another action than in the plan. There is also
    /// a step for each pack in which the repair found damage that was not known before.
    pub steps: Vec<PackStep>,
    /// The backups that have lost data, in these packs or in missing ones.
    pub lacking: Vec<AffectedBackup>,
}

/// A planned repair of packs.
pub struct PackRepair<'a> {
    project: &'a Project,
    context: &'a Context<'a>,
    by: Worker<'a>,
    /// `None` in a dry run.
    lease: Option<Arc<Lease>>,
    index: Arc<Index>,
    steps: Vec<PackStep>,
    /// The damaged chunks of each pack: those that no attempt could read. All other chunks of a
    /// pack must be in other packs before it is moved.
    damaged: BTreeMap<ObjectHash, HashSet<BlobId>>,
    /// The packs that the index names and that do not exist or are too short.
    missing: Vec<ObjectHash>,
    bytes_read: u64,
}

/// Reads all packs in which this host has found damage, and those that have a wrong size. Plans how
/// to repair the damaged ones. With `dry_run`, takes no lease, and the plan must not be run.
pub fn plan_pack_repair<'a>(
    project: &'a Project,
    host: Option<&'a str>,
    dry_run: bool,
    context: &'a Context<'a>,
) -> Result<PackRepair<'a>, OpsError> {
    let by = Worker { host, tool: TOOL };
    let lease = if dry_run {
        None
    } else {
        // Exclude prunes: one may be copying from these packs, or be about to delete them.
        let lease = Lease::take(project, Work::Prune, by)?;
        refuse_second(project, &Leases::load(project, Some(&lease))?)?;
        Some(Arc::new(lease))
    };
    // Load the log first: it decides which signers of segments and packs count.
    Log::load(project)?;
    let index = context.index(project)?;
    index.sync()?;
    let noted = exclude_damaged(&index)?.runs;
    let outside = index.damaged_outside_runs()?;
    let missing = index.lost_packs()?;
    let marked = Marks::load(project)?.packs();
    let removed = Log::removals(project)?;
    let mut repair = PackRepair {
        project,
        context,
        by,
        lease,
        index,
        steps: Vec::new(),
        damaged: BTreeMap::new(),
        missing,
        bytes_read: 0,
    };
    for listed in &repair.index.list_packs()? {
        let Some(listing) = repair.index.listing(&listed.hash)? else {
            continue;
        };
        let is_whole_outside =
            listing.contents.pack_size() == listed.info.size && !outside.contains_key(&listed.hash);
        if is_whole_outside && !noted.contains_key(&listed.hash) {
            continue;
        }
        let is_left = listed.kind == BlobKind::Node
            || marked.contains(&listed.hash)
            || removed.has_pack(&listed.hash)
            || !repair.index.is_named(&listed.hash)?;
        let (object, runs) = (
            listed.object(project.id),
            listing.contents.runs.len() as u64,
        );
        let read = repair.read_all(object)?.map(drop);
        if read == Err(PackAction::Missing) {
            continue;
        }
        let (action, damaged) = if read == Err(PackAction::Denied) {
            (PackAction::Denied, Vec::new())
        } else {
            let damaged = damaged_runs(&repair.index, listing, context)?;
            repair.bytes_read += listed.info.size;
            match (is_left, is_whole_outside && damaged.is_empty()) {
                (_, true) if read.is_ok() => continue,
                (true, _) => (PackAction::LeftToPrune, damaged),
                _ if is_restorable(&project.objects, object)? => (PackAction::Restorable, damaged),
                _ => (read.err().unwrap_or(PackAction::Repack), damaged),
            }
        };
        repair.steps.push(PackStep {
            object,
            runs,
            damaged: damaged.len() as u64,
            action,
            pack: listed.hash,
        });
        repair.index.exclude_damaged_runs(listed.hash, &damaged);
        if action != PackAction::Restorable {
            let chunks = repair.damaged_chunks(&listed.hash, &damaged)?;
            repair.damaged.insert(listed.hash, chunks);
        }
    }
    Ok(repair)
}

impl PackRepair<'_> {
    /// The damaged packs, and what is done with each.
    #[must_use]
    pub fn steps(&self) -> &[PackStep] {
        &self.steps
    }

    /// Returns the backups that need chunks of which no undamaged copy is known. These chunks are
    /// in the damaged packs of the plan, or in missing packs.
    pub fn lacking(&self) -> Result<Vec<AffectedBackup>, OpsError> {
        let lost = self.lost_chunks()?;
        let records = Records::load(self.project)?;
        backups_lacking(&self.index, &records, &lost, self.context)
    }

    /// Returns the number of bytes of the packs that were read.
    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Ends without running the plan.
    pub fn close(self) {
        self.index.close();
    }

    /// Runs the plan. After an error, all packs that were not moved are where they were, and the
    /// repair can be repeated.
    pub fn run(mut self) -> Result<RepairedPacks, OpsError> {
        if self.lease.is_none() {
            return Err(OpsError::Internal("the plan of a dry run cannot be run"));
        }
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.iter_mut().filter(|step| step.is_copied()) {
            self.confirm()?;
            step.action = self.store_in_quarantine(step)?;
        }
        if steps.iter().any(PackStep::is_copied) {
            self.move_packs(&mut steps)?;
        }
        let lacking = self.lacking()?;
        self.index.close();
        Ok(RepairedPacks { steps, lacking })
    }

    /// Copies the undamaged chunks of the packs to repack. Then deletes the packs that are stored
    /// in `quarantine/` now, except those with an undamaged chunk that could not be copied.
    fn move_packs(&mut self, steps: &mut Vec<PackStep>) -> Result<(), OpsError> {
        let packs = steps.iter().filter(|step| step.is_copied());
        let packs: Vec<_> = packs.map(|step| step.pack).collect();
        // From now on, copies of chunks count only in packs that will stay. So exclude these packs,
        // marked and removed packs, and packs that no segment or only superseded segments name.
        let marked = Marks::load(self.project)?.packs();
        let unnamed = [self.index.unnamed()?, self.index.retired()?].concat();
        let none = marked
            .into_iter()
            .chain(unnamed)
            .chain(packs.iter().copied());
        self.index.exclude(none);
        self.index.exclude_removed(Log::removals(self.project)?);
        let pool = thread_pool(self.context.threads)?;
        let found = pool.install(|| self.verify_copies(&packs))?;
        for (pack, runs) in found {
            let chunks = self.damaged_chunks(&pack, &runs)?;
            self.damaged.entry(pack).or_default().extend(chunks);
            if let Some(step) = steps.iter_mut().find(|step| step.pack == pack) {
                step.action = PackAction::MoreDamage;
            } else {
                steps.push(PackStep {
                    object: ObjectRef::Pack(self.project.id, pack),
                    runs: self.listing(&pack)?.contents.runs.len() as u64,
                    damaged: runs.len() as u64,
                    action: PackAction::MoreDamage,
                    pack,
                });
            }
        }
        let spared = self.copy(&packs)?;
        for step in steps.iter_mut().filter(|step| step.is_copied()) {
            if spared.contains(&step.pack) {
                step.action = PackAction::MoreDamage;
            }
        }
        for step in steps.iter().filter(|step| step.is_repacked()) {
            self.confirm()?;
            self.project.objects.delete(step.object)?;
        }
        Ok(())
    }

    fn confirm(&self) -> Result<(), OpsError> {
        confirm(self.lease.as_deref(), self.context)
    }

    /// Returns all bytes of a pack. If the store cannot return them, returns the action for the
    /// pack instead.
    fn read_all(&self, object: ObjectRef) -> Result<Result<Vec<u8>, PackAction>, OpsError> {
        let backend = self.project.objects.backend();
        match backend.get(&object.name(), PACK_SIZE_MAX) {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(error) => match error.kind.class() {
                StorageErrorClass::Denied => Ok(Err(PackAction::Denied)),
                StorageErrorClass::Absent => Ok(Err(PackAction::Missing)),
                StorageErrorClass::Damaged if error.kind == StorageErrorKind::Unreadable => {
                    Ok(Err(PackAction::Unreadable))
                }
                StorageErrorClass::Damaged => Ok(Err(PackAction::NoPack)),
                _ => Err(RepoError::from(error).into()),
            },
        }
    }

    /// Returns the blobs of a damaged run that can still be read.
    fn intact_blobs(&self, run: &Arc<PlacedRun>) -> Result<Vec<BlobId>, OpsError> {
        let Some(first) = run.locations().next() else {
            return Ok(Vec::new());
        };
        let (range, mut opener) = (run.range(), Opener::default());
        let mut stored = vec![0; to_usize(range.end - range.start)];
        let read = BlobReader::new(&self.index).fetch(&first, range.start, &mut stored);
        let plain = match read.and_then(|()| opener.open_run(self.project, &first, &mut stored)) {
            Ok(plain) => plain,
            Err(error) if error.kind() == RepoErrorKind::Damaged => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let is_intact = |at: &BlobLocation| Opener::blob(self.project, at, plain).is_ok();
        let intact = run.locations().filter(is_intact);
        Ok(intact.map(|at| at.blob().id).collect())
    }

    /// Returns the chunks in these damaged runs of a pack that cannot be read from the pack.
    /// Returns none for a pack of nodes.
    fn damaged_chunks(&self, pack: &ObjectHash, runs: &[u64]) -> Result<HashSet<BlobId>, OpsError> {
        let mut damaged = HashSet::new();
        let listing = self.index.listing(pack)?;
        let Some(listing) = listing.filter(|l| l.contents.kind == BlobKind::Chunk) else {
            return Ok(damaged);
        };
        let mut readable = HashSet::new();
        for run in PlacedRun::all_of(listing) {
            let ids = run.locations().map(|at| at.blob().id);
            if runs.contains(&run.ordinal()) {
                readable.extend(self.intact_blobs(&run)?);
                damaged.extend(ids);
            } else {
                readable.extend(ids);
            }
        }
        damaged.retain(|id| !readable.contains(id));
        Ok(damaged)
    }

    /// Returns the chunks of damaged and missing packs of which no undamaged copy is known in the
    /// store.
    fn lost_chunks(&self) -> Result<HashSet<BlobId>, OpsError> {
        let stored = self.index.list_packs()?.into_iter();
        let stored: HashSet<_> = stored.map(|listed| listed.hash).collect();
        let is_whole = |at: &BlobLocation| {
            let chunks = self.damaged.get(&at.pack());
            let is_damaged = chunks.is_some_and(|chunks| chunks.contains(&at.blob().id));
            stored.contains(&at.pack()) && !is_damaged
        };
        let mut lost = HashSet::new();
        let mut add = |id: &BlobId| {
            if !self.index.find_anywhere(id)?.iter().any(is_whole) {
                lost.insert(*id);
            }
            Ok::<_, OpsError>(())
        };
        self.damaged.values().flatten().try_for_each(&mut add)?;
        for pack in &self.missing {
            self.context.cancel.check()?;
            let listing = self.index.listing(pack)?;
            if let Some(listing) = listing.filter(|l| l.contents.kind == BlobKind::Chunk) {
                let mut blobs = listing.contents.blobs();
                blobs.try_for_each(|blob| add(&blob.id))?;
            }
        }
        Ok(lost)
    }

    /// Reads a damaged pack again, and stores it in `quarantine/` if all of it can be read. From
    /// now on, a chunk counts as damaged only if both attempts to read it failed. Returns the
    /// action for the pack.
    fn store_in_quarantine(&mut self, step: &PackStep) -> Result<PackAction, OpsError> {
        let read = self.read_all(step.object)?;
        if let Err(action @ (PackAction::Denied | PackAction::Missing)) = read {
            return Ok(action);
        }
        // Read the pack again: an error of the connection or of the memory may have caused the
        // damage that was found first.
        let is_whole = match read_whole(self.project, step.object) {
            Ok(listing) => damaged_runs(&self.index, listing, self.context)?.is_empty(),
            Err(RepoError::Damaged { .. } | RepoError::Foreign { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        if is_whole {
            self.damaged.remove(&step.pack);
            return Ok(PackAction::Whole);
        }
        let runs = damaged_runs(&self.index, self.listing(&step.pack)?, self.context)?;
        self.index.exclude_damaged_runs(step.pack, &runs);
        let again = self.damaged_chunks(&step.pack, &runs)?;
        if let Some(damaged) = self.damaged.get_mut(&step.pack) {
            damaged.retain(|id| again.contains(id));
        }
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(action) => return Ok(action),
        };
        quarantine(self.project.objects.backend(), &step.object.name(), &bytes)?;
        Ok(PackAction::Repack)
    }

    /// Returns the listing of a pack that the index knew before. Fails if the index has lost it.
    fn listing(&self, pack: &ObjectHash) -> Result<PackListing, OpsError> {
        let lost = OpsError::Internal("the index has lost a pack that it knew");
        self.index.listing(pack)?.ok_or(lost)
    }

    /// Reads the chunks of these packs in other packs that have them, too. From then on, damaged
    /// copies do not count, so their chunks are copied again. Returns the damaged runs of the other
    /// packs.
    fn verify_copies(&self, packs: &[ObjectHash]) -> Result<DamagedRuns, OpsError> {
        let mut found = DamagedRuns::new();
        loop {
            let mut copies = Copies::new(&self.index, self.context);
            for pack in packs {
                self.context.cancel.check()?;
                let Some(listing) = self.index.listing(pack)? else {
                    continue;
                };
                for blob in listing.contents.blobs() {
                    if let Some(place) = self.index.find_trusted(&blob.id)? {
                        copies.add(&place)?;
                    }
                }
            }
            copies.read()?;
            if copies.damaged.is_empty() {
                return Ok(found);
            }
            for (pack, runs) in copies.damaged {
                self.index.exclude_damaged_runs(pack, &runs);
                found.entry(pack).or_default().extend(runs);
            }
        }
    }

    /// Copies the undamaged chunks of these packs to new packs. When this returns, the new packs
    /// are durable, and the index and the log name them. Returns the packs with a chunk that was
    /// not copied.
    fn copy(&self, packs: &[ObjectHash]) -> Result<HashSet<ObjectHash>, OpsError> {
        let mut wanted = Vec::with_capacity(packs.len());
        for pack in packs {
            wanted.push(self.wanted_of(pack)?);
        }
        let (unindexed, _) = unindexed_packs(&self.index);
        let unindexed = match &self.lease {
            Some(lease) => unindexed.with_lease(lease),
            None => unindexed,
        };
        let options = PackerOptions {
            // A prune adds unnamed packs to the index, if they are used.
            name_unnamed: false,
            ..PackerOptions::default()
        };
        let observer = &*self.context.observer;
        let spared = Spared::any_of(packs.iter().copied().collect(), observer);
        let read = AtomicU64::new(0);
        let ((), stored, _) = Packer::scope(&self.index, unindexed, options, |packer| {
            copy(packer, &self.index, &wanted, (&read, &spared), self.context)?;
            Ok::<_, OpsError>(packer.end_pack()?)
        })?;
        let new = stored.iter().flat_map(IndexStored::packs);
        let new = new.map(|(kind, pack)| item_of_pack(*kind, *pack)).collect();
        self.confirm()?;
        let mut log = Log::load(self.project)?;
        named::name(
            &self.index,
            &mut log,
            &Walked::default(),
            &[],
            (new, &[]),
            self.by,
        )?;
        let mut spared = spared.into_packs();
        for (pack, runs) in packs.iter().zip(&wanted) {
            for id in runs.iter().flat_map(|(_, ids)| ids) {
                if self.index.find_trusted(id)?.is_none() {
                    spared.insert(*pack);
                }
            }
        }
        Ok(spared)
    }

    /// Returns the chunks of a pack to copy: all except its damaged ones.
    fn wanted_of(&self, pack: &ObjectHash) -> Result<Vec<Wanted>, OpsError> {
        let listing = self.listing(pack)?;
        let damaged = self.damaged.get(pack);
        let is_damaged = |id: &BlobId| damaged.is_some_and(|damaged| damaged.contains(id));
        let mut wanted = Vec::new();
        for run in PlacedRun::all_of(listing) {
            let ids = run.locations().map(|at| at.blob().id);
            let ids: Vec<_> = ids.filter(|id| !is_damaged(id)).collect();
            if !ids.is_empty() {
                wanted.push((run, ids));
            }
        }
        Ok(wanted)
    }
}

impl PackStep {
    /// Whether the pack is packed again and moved.
    #[must_use]
    pub fn is_repacked(&self) -> bool {
        self.action == PackAction::Repack
    }

    /// Whether the chunks of the pack that can be read are packed again.
    fn is_copied(&self) -> bool {
        use PackAction::{NoPack, Repack, Unreadable};
        matches!(self.action, Repack | Unreadable | NoPack)
    }
}
