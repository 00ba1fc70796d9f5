//! Verifies that every backup is complete and, if asked, that all of its data opens.

mod finding;
mod task;
mod walk;

pub use finding::{Finding, StatementFault};
pub use task::CheckReport;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use self::task::CheckTask;
use self::walk::walk_trees;
use super::context::{Context, READER, thread_pool};
use super::error::OpsError;
use super::history::notice_unconfirmed;
use crate::base::{Notice, ObjectHash, Phase, Progress, Silent, lock, recover, to_usize};
use crate::format::PackListing;
use crate::repo::{
    Backup, Damage, ForeignReason, HistoryEnds, Index, Lease, Log, Marks, ObjectKind, ObjectRef,
    Opener, PlacedRun, Project, Records, RepoError, Repository, Voids, lease_for_reading,
    listing_of,
};
use crate::storage::StorageErrorClass;

/// Maximum number of packs that are in memory at once. Each is read completely, so this limits the
/// memory.
const READERS_MAX: usize = 3;

/// Verifies a project and the objects that it depends on. Damage is reported through `each`; `Err`
/// means that the check itself failed.
pub fn check(
    repository: &Repository,
    project: &Project,
    read_data: bool,
    context: &Context<'_>,
    each: &mut dyn FnMut(&Finding),
) -> Result<CheckReport, OpsError> {
    // Use no cached copies, since the objects in the store must be checked.
    let project = &project.without_copies();
    let mut run = CheckTask {
        project,
        context,
        report: CheckReport::default(),
        each,
        bad_packs: HashSet::new(),
        missing: HashSet::new(),
        unreported: Vec::new(),
        bad_runs: HashSet::new(),
        unnamed: HashSet::new(),
        marked: Marks::load_readable(project)?.packs(),
        read: read_data.then(HashSet::new),
        proven: Vec::new(),
    };
    run.copies(repository)?;
    let mut records = Records::load(project)?;
    run.report.ends = HistoryEnds::of(&records);
    // The lease keeps a prune from deleting data that this check reads.
    let newest_first = records.all().iter().rev();
    let tops: Vec<_> = newest_first.flat_map(Backup::tops).collect();
    let lease = if read_data {
        lease_for_reading(project, &tops, READER, &context.observer)?
    } else {
        None
    };
    // Load the log after the records: if a record was deleted before it could be read, the log
    // explains that.
    let mut log = Log::load(project)?;
    let mut voids = Voids::load(project)?;
    run.log(&log);
    run.voids(&voids, &records);
    let damaged = records.take_damaged();
    let damaged_records: HashSet<_> = damaged.iter().filter_map(record_of).collect();
    run.report.records_damaged = damaged_records.iter().copied().collect();
    let foreign = records
        .take_foreign()
        .into_iter()
        .chain(log.take_foreign())
        .chain(project.find_foreign()?)
        .chain(repository.foreign_slots(&Silent)?);
    for (_, problem) in records.ignored() {
        let problem = problem.to_string();
        context.observer.notice(Notice::DamageAccepted { problem });
    }
    for error in damaged
        .into_iter()
        .chain(log.take_damaged())
        .chain(voids.take_damaged())
        .chain(project.damaged_audits()?)
        .chain(foreign)
    {
        run.found(&Finding::from_error(error));
    }
    let index = context.index(project)?;
    // If a segment is missing, no segment names its packs. Their content still exists.
    index.scan_unindexed()?;
    run.segments(&index)?;
    let packs = run.packs(&index)?;
    run.read_packs(&index, &packs)?;
    run.trees(&index, &records)?;
    run.audit(&index, lease.as_ref())?;
    for error in project.verify_certificates(&log)? {
        if let (true, Some(certificate)) = (error.is_missing(), error.object_hash()) {
            run.report.certificates_vanished.push(certificate);
            run.found(&Finding::CertificateVanished { certificate });
        }
    }
    notice_unconfirmed(&records, &log, &context.observer);
    run.report.vanished = records.vanished(&log);
    run.report
        .vanished
        .retain(|id| !damaged_records.contains(id));
    for id in run.report.vanished.clone() {
        let mut backups = records.all().iter();
        let follower = backups.find(|backup| backup.record.follows.contains(&id));
        run.found(&Finding::RecordVanished {
            record: id,
            volume: follower.map(|backup| backup.record.volume.name.clone()),
        });
    }
    index.close();
    Ok(run.report)
}

/// Returns the record that an error names as damaged.
fn record_of(error: &RepoError) -> Option<ObjectHash> {
    match error {
        RepoError::Damaged {
            object: ObjectRef::Backup(_, id),
            source,
        } if !matches!(source, Damage::Missing) => Some(*id),
        _ => None,
    }
}

/// The packs of the index, compared with those that exist.
#[derive(Default)]
struct Compared {
    /// Packs of the size that the index states, and that size in bytes.
    packs: Vec<(ObjectRef, u64)>,
    /// All other packs, with their size and the size that the index states; `None` for a missing
    /// pack.
    wrong: Vec<(ObjectRef, Option<(u64, u64)>)>,
    /// Missing packs that only superseded segments name. This is no damage.
    deleted: Vec<ObjectHash>,
}

impl CheckTask<'_> {
    /// Verifies both copies of each object that is kept twice.
    fn copies(&mut self, repository: &Repository) -> Result<(), OpsError> {
        let objects = repository.objects();
        let mut listed: HashMap<ObjectRef, Vec<bool>> = HashMap::new();
        let project = ObjectRef::Project(self.project.id);
        let of_project = [
            ObjectKind::Key,
            ObjectKind::Settings,
            ObjectKind::Certificate,
        ];
        let of_project = of_project.map(|kind| kind.directory(self.project.id));
        let of_repository = ObjectKind::Key.info().directory.to_owned();
        for directory in std::iter::once(&of_repository).chain(&of_project) {
            for (object, copy, _) in objects.list(directory)? {
                listed.entry(object).or_default().push(copy);
            }
        }
        listed.insert(ObjectRef::Repository, vec![false, true]);
        listed.insert(project, vec![false, true]);
        let mut listed: Vec<_> = listed.into_keys().map(|o| (o.name(), o)).collect();
        listed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (_, object) in listed {
            self.context.cancel.check()?;
            self.copies_of(repository, object)?;
        }
        Ok(())
    }

    fn copies_of(&mut self, repository: &Repository, object: ObjectRef) -> Result<(), OpsError> {
        let copies = [(object.name(), false), (object.copy_name(), true)];
        let verdicts = copies.map(|(name, is_second)| {
            let verdict = repository.verify_copy(self.project, object, &name);
            (name, is_second, verdict)
        });
        let foreign =
            |verdict: &Result<(), RepoError>| matches!(verdict, Err(RepoError::Foreign { .. }));
        // Another step reports foreign objects.
        if verdicts.iter().any(|(.., verdict)| foreign(verdict)) {
            return Ok(());
        }
        for (name, is_second, verdict) in verdicts {
            match verdict {
                Ok(()) => {}
                // A copy that seems to need a newer version is damaged: this version has read the
                // other copy when it opened the repository.
                Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    self.found(&Finding::CopyDamaged {
                        object,
                        name: name.to_string(),
                        is_second,
                        problem: Arc::new(error),
                    });
                }
                // Missing permission to read it is not damage, but this copy is of no use.
                Err(RepoError::Storage(error))
                    if error.kind.class() == StorageErrorClass::Denied =>
                {
                    let source = Damage::Unreadable(Box::new(error));
                    self.found(&Finding::CopyDamaged {
                        object,
                        name: name.to_string(),
                        is_second,
                        problem: Arc::new(RepoError::Damaged { object, source }),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Verifies that every entry of the log exists and has the right number.
    fn log(&mut self, log: &Log) {
        for entry in log.miscounted() {
            let object = ObjectRef::Log(self.project.id, entry);
            let why = "its number is not one more than those of the entries before it";
            self.found(&Finding::ObjectDamaged {
                object,
                problem: Arc::new(RepoError::Damaged {
                    object,
                    source: Damage::Impossible(why),
                }),
            });
        }
        self.report.entries_vanished = log.missing();
        for entry in log.missing() {
            self.found(&Finding::EntryVanished { entry });
        }
    }

    /// Verifies that the signer of each void is also the signer of the record that it names.
    fn voids(&mut self, voids: &Voids, records: &Records) {
        for backup in records.all() {
            for hash in voids.foreign(backup.id, &backup.signer) {
                let object = ObjectRef::Void(self.project.id, hash);
                let reason = ForeignReason::OtherSigner;
                self.found(&Finding::from_error(RepoError::Foreign { object, reason }));
            }
        }
    }

    /// Verifies that every index segment opens.
    fn segments(&mut self, index: &Index) -> Result<(), OpsError> {
        for error in index.verify_segments()? {
            self.found(&Finding::from_error(error));
        }
        Ok(())
    }

    /// Verifies that every pack in the index exists with its size. Returns the packs that can be
    /// read, with their sizes.
    fn packs(&mut self, index: &Index) -> Result<Vec<(ObjectRef, u64)>, OpsError> {
        let mut compared = self.compare(index)?;
        // The cache may be damaged, so read the segments again.
        if !compared.wrong.is_empty() {
            index.rebuild()?;
            index.scan_unindexed()?;
            compared = self.compare(index)?;
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
    fn compare(&self, index: &Index) -> Result<Compared, OpsError> {
        let project = self.project.id;
        let sizes: HashMap<ObjectRef, u64> = index
            .list_packs()?
            .into_iter()
            .map(|pack| (pack.object(project), pack.info.size))
            .collect();
        // Packs that only superseded segments name are read only if a backup needs them.
        let retired: HashSet<_> = index.retired()?.into_iter().collect();
        let mut compared = Compared::default();
        index.each_pack(|listing| {
            self.context.cancel.check()?;
            let expected = listing.contents.pack_size();
            let object = ObjectRef::of_pack(project, listing.contents.kind, listing.pack);
            match (sizes.get(&object), retired.contains(&listing.pack)) {
                (Some(found), false) if *found == expected => {
                    compared.packs.push((object, expected));
                }
                (Some(found), true) if *found == expected => {}
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

    /// Verifies, if asked, that every pack has its hash, and that every blob in it opens and has
    /// its id.
    fn read_packs(&mut self, index: &Index, packs: &[(ObjectRef, u64)]) -> Result<(), OpsError> {
        let Some(read) = &mut self.read else {
            return Ok(());
        };
        read.extend(packs.iter().filter_map(|(pack, _)| pack.hash()));
        let total: u64 = packs.iter().map(|(_, size)| size).sum();
        let done = AtomicU64::new(0);
        let findings = Mutex::new(Vec::new());
        let proven = Mutex::new(Vec::new());
        let context = self.context;
        let (unnamed, authority) = (&self.unnamed, *self.project.keys.authority());
        thread_pool(context.threads.min(READERS_MAX))?.install(|| {
            packs.par_iter().try_for_each(|(pack, size)| {
                context.cancel.check()?;
                let Some(hash) = pack.hash() else {
                    return Ok(());
                };
                match read_pack(index, *pack, hash, *size)? {
                    PackVerdict::Whole(listing) => {
                        // If a backup uses such a pack of a full key, a prune or a later backup
                        // names it.
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
        self.proven.append(&mut recover(proven.into_inner()));
        self.report.bytes_read += done.into_inner();
        for (pack, damage, bad) in recover(findings.into_inner()) {
            if let RepoError::Damaged {
                source: Damage::Missing,
                ..
            } = damage
            {
                self.missing.insert(pack);
            }
            // A pack of the wrong size is reported already.
            if self.bad_packs.insert(pack) {
                self.report.packs_damaged += 1;
                self.found(&Finding::from_error(damage));
            }
            if let Some(bad) = bad {
                self.bad_packs.remove(&pack);
                self.bad_runs
                    .extend(bad.into_iter().map(|ordinal| (pack, ordinal)));
            }
        }
        Ok(())
    }

    /// Stores an audit of the undamaged packs of write keys, so that other keys may rely on them,
    /// too.
    fn audit(&mut self, index: &Index, lease: Option<&Lease>) -> Result<(), OpsError> {
        let packs = std::mem::take(&mut self.proven);
        if let (Some(lease), false) = (lease, packs.is_empty()) {
            index.vouch(packs, lease, READER)?;
        }
        Ok(())
    }

    /// Verifies that all blobs in the trees of backups exist and are not known to be damaged.
    fn trees(&mut self, index: &Arc<Index>, records: &Records) -> Result<(), OpsError> {
        let found = loop {
            let found = walk_trees(self, index, records)?;
            if found.unread.is_empty() {
                break found;
            }
            // Marked packs are read only if a backup uses them.
            let unread: Vec<_> = found.unread.into_values().collect();
            self.read_packs(index, &unread)?;
        };
        // All data in the other missing packs that backups need was stored again.
        let unreported = std::mem::take(&mut self.unreported).into_iter();
        let (missed, spare): (Vec<_>, Vec<_>) = unreported
            .partition(|pack| pack.hash().is_some_and(|hash| found.missed.contains(&hash)));
        for pack in missed {
            self.report.packs_damaged += 1;
            self.found(&Finding::PackMissing { pack });
        }
        if !spare.is_empty() {
            let packs = spare.len() as u64;
            self.context
                .observer
                .notice(Notice::PacksNotNeeded { packs });
        }
        for pack in found.needed.into_values() {
            self.found(&Finding::PackUnindexed { pack });
        }
        for error in found.errors {
            self.found(&Finding::from_error(error));
        }
        for backup in &found.affected {
            self.found(&Finding::BackupAffected(backup.clone()));
        }
        self.report.backups = records.all().len() as u64;
        self.report.backups_affected = found.affected.iter().map(|b| b.id).collect();
        Ok(())
    }
}

/// The result of reading a pack.
enum PackVerdict {
    /// Every blob in it opens and has its id.
    Whole(PackListing),
    /// The pack is damaged. If only some runs are, these are their ordinals.
    Damaged(RepoError, Option<Vec<u64>>),
}

fn read_pack(
    index: &Index,
    object: ObjectRef,
    pack: ObjectHash,
    size: u64,
) -> Result<PackVerdict, RepoError> {
    let project = index.project();
    let damaged = |source| RepoError::Damaged { object, source };
    let read = match project.objects.get(object, size) {
        // All that the index knows of may still be at its beginning.
        Err(RepoError::Damaged {
            source: Damage::TooLarge,
            ..
        }) => project.objects.get_start(object, to_usize(size)),
        read => read,
    };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error @ RepoError::Damaged { .. }) => return Ok(PackVerdict::Damaged(error, None)),
        Err(error) => return Err(error),
    };
    let (damage, listing) = match listing_of(project, object, &bytes) {
        Ok(listing) => (None, Some(listing)),
        // Use the runs that the index lists to find the affected backups. The contents in the
        // damaged pack may be those of another pack.
        Err(error @ (RepoError::Damaged { .. } | RepoError::Foreign { .. })) => {
            (Some(error), index.listing(&pack)?)
        }
        Err(error) => return Err(error),
    };
    let bad = listing
        .clone()
        .map(|listing| bad_runs(project, listing, bytes));
    Ok(match (damage, listing, bad) {
        (None, Some(listing), Some(bad)) if bad.is_empty() => PackVerdict::Whole(listing),
        (Some(damage), _, bad) => PackVerdict::Damaged(damage, bad),
        (None, _, bad) => {
            let why = Damage::Impossible("a part of it does not open");
            PackVerdict::Damaged(damaged(why), bad)
        }
    })
}

/// Returns the ordinals of the runs that do not open, or hold a blob that does not have its id.
fn bad_runs(project: &Project, listing: PackListing, mut bytes: Vec<u8>) -> Vec<u64> {
    let mut opener = Opener::default();
    let mut bad = Vec::new();
    for placed in PlacedRun::all_of(listing) {
        let run: Vec<_> = placed.locations().collect();
        let [first, ..] = &run[..] else { continue };
        let range = first.run_range();
        let whole = bytes
            .get_mut(to_usize(range.start)..to_usize(range.end))
            .and_then(|stored| opener.open_run(project, first, stored).ok())
            .is_some_and(|opened| {
                run.iter()
                    .all(|blob| Opener::blob(project, blob, opened).is_ok())
            });
        if !whole {
            bad.push(first.ordinal());
        }
    }
    bad
}
