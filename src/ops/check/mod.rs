//! Verifies that every backup is complete and, if asked, that the content of packs is undamaged.

mod causes;
mod finding;
mod packs;
mod selection;
mod task;
mod volumes;
mod walk;

pub(super) use finding::VanishedHistory;
pub use finding::{Finding, StatementFault};
pub use selection::{DataPart, ReadData, ReadReport};
pub use task::CheckReport;
pub use volumes::AffectedVolume;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use self::task::CheckTask;
use self::volumes::affected_volumes;
use self::walk::walk_trees;
use super::context::{Context, READER};
use super::error::OpsError;
use super::history::notice_unconfirmed;
use crate::base::{Notice, ObjectHash, Role, Silent};
use crate::repo::{
    Backup, Damage, ForeignReason, HistoryEnds, Index, Lease, Log, Marks, ObjectKind, ObjectRef,
    Project, Records, RepoError, Repository, Voids, lease_for_reading,
};
use crate::storage::StorageErrorClass;

/// Verifies a project and the objects that it depends on. With `read`, also reads packs. Damage is
/// reported through `each`; `Err` means that the check itself failed.
pub fn check(
    repository: &Repository,
    project: &Project,
    read: Option<&ReadData>,
    context: &Context<'_>,
    each: &mut dyn FnMut(&Finding),
) -> Result<CheckReport, OpsError> {
    // Do not use cached copies, since the objects in the store must be checked.
    let project = &project.without_copies();
    let mut run = CheckTask {
        project,
        context,
        report: CheckReport::default(),
        history: VanishedHistory::default(),
        each,
        bad_packs: HashSet::new(),
        missing: HashSet::new(),
        unreported: Vec::new(),
        unreported_damage: Vec::new(),
        bad_runs: HashSet::new(),
        unnamed: HashSet::new(),
        unlisted: HashSet::new(),
        marked: HashSet::new(),
        reads_all: read.is_some_and(ReadData::is_all),
        all_read: false,
        ledger_run: None,
        candidates: 0,
        chosen: 0,
        read: HashSet::new(),
        proven: Vec::new(),
    };
    let index = run.parts(repository, read);
    // Note what was verified even if the check failed or was interrupted.
    run.end_run(index.as_ref().ok().and_then(Option::as_deref));
    if let Some(index) = index? {
        index.close();
    }
    Ok(run.report)
}

/// The history of a project, and the lease under which it is checked.
struct CheckedHistory {
    records: Records,
    log: Log,
    /// The records that exist and cannot be read.
    damaged: HashSet<ObjectHash>,
    /// `None` if no data is read, if the key in use is a verify key, or if the store cannot be
    /// written.
    lease: Option<Lease>,
}

impl CheckTask<'_> {
    /// Checks everything. Returns the index, or `None` if a directory that the index needs cannot
    /// be listed.
    fn parts(
        &mut self,
        repository: &Repository,
        read: Option<&ReadData>,
    ) -> Result<Option<Arc<Index>>, OpsError> {
        let marks = Marks::load_readable(self.project).map_err(OpsError::from);
        let marks = self.go_on(marks)?;
        self.marked = marks.map_or_else(HashSet::new, |marks| marks.packs());
        let copies = self.copies(repository);
        self.go_on(copies)?;
        let history = self.history(repository, read.is_some());
        let history = self.go_on(history)?;
        let index = self.data(read);
        let index = self.go_on(index)?;
        if let (Some(history), Some(index)) = (&history, &index) {
            self.trees(index, &history.records)?;
            self.audit(index, history.lease.as_ref())?;
        }
        if let Some(history) = &history {
            self.vanished(history)?;
        }
        Ok(index)
    }

    /// If a directory cannot be listed, turns the error into a finding and returns `None`. Then the
    /// other parts of the check go on.
    fn go_on<T>(&mut self, part: Result<T, OpsError>) -> Result<Option<T>, OpsError> {
        match part {
            Ok(value) => Ok(Some(value)),
            Err(OpsError::Repo(error)) if error.is_unlistable() => {
                // Several parts may list the same directory.
                if self.unlisted.insert(error.to_string()) {
                    self.found(&Finding::from_error(error));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the records, the log and the voids, by which writers withdraw records. Reports their
    /// damage, and foreign objects of all kinds.
    fn history(
        &mut self,
        repository: &Repository,
        read_data: bool,
    ) -> Result<CheckedHistory, OpsError> {
        let project = self.project;
        let context = self.context;
        let run = self;
        let mut records = Records::load(project)?;
        run.report.ends = HistoryEnds::of(&records);
        // The lease keeps a prune from deleting data that this check reads.
        let newest_first = records.all().iter().rev();
        let tops: Vec<_> = newest_first.flat_map(Backup::tops).collect();
        // A verify key may not sign a lease.
        let lease = if read_data && project.role() != Role::Verify {
            lease_for_reading(project, &tops, READER, &context.observer)?
        } else {
            None
        };
        // Load the log after the records. Then it names every record that a prune or a `forget`
        // deleted before this check could read the record.
        let mut log = Log::load(project)?;
        let mut voids = Voids::load(project)?;
        run.log(&log);
        run.voids(&voids, &records);
        let damaged = records.take_damaged();
        let damaged_records: HashSet<_> = damaged.iter().filter_map(record_of).collect();
        run.report.records_damaged = damaged_records.iter().copied().collect();
        let others = [
            project.find_foreign(),
            repository.foreign_slots(&Silent),
            project.damaged_audits(),
            project.damaged_batches(),
        ];
        let mut foreign = records.take_foreign();
        foreign.extend(log.take_foreign());
        for errors in others {
            let errors = run.go_on(errors.map_err(OpsError::from))?;
            foreign.extend(errors.unwrap_or_default());
        }
        for (_, problem) in records.ignored() {
            let problem = problem.to_string();
            context.observer.notice(Notice::DamageAccepted { problem });
        }
        for error in damaged
            .into_iter()
            .chain(log.take_damaged())
            .chain(voids.take_damaged())
            .chain(foreign)
        {
            run.found(&Finding::from_error(error));
        }
        Ok(CheckedHistory {
            records,
            log,
            damaged: damaged_records,
            lease,
        })
    }

    /// Verifies the index and that its packs exist. With `read`, also reads packs.
    fn data(&mut self, read: Option<&ReadData>) -> Result<Arc<Index>, OpsError> {
        let index = self.context.index(self.project)?;
        // Also read the packs that no segment names: if a segment is lost, its packs still exist.
        index.scan_unindexed()?;
        self.segments(&index)?;
        let packs = self.packs(&index, read.is_some_and(|read| !read.is_all()))?;
        if let Some(read) = read {
            self.read_chosen(&index, read, packs)?;
        }
        if !self.reads_all {
            self.known_damage(&index)?;
        }
        Ok(index)
    }

    /// Reports certificates and records that other objects name and that do not exist.
    fn vanished(&mut self, history: &CheckedHistory) -> Result<(), OpsError> {
        let CheckedHistory {
            records,
            log,
            damaged: damaged_records,
            ..
        } = history;
        let project = self.project;
        let context = self.context;
        let run = self;
        for error in project.verify_certificates(log)? {
            if let (true, Some(certificate)) = (error.is_missing(), error.object_hash()) {
                run.report.certificates_vanished.push(certificate);
                run.found(&Finding::CertificateVanished { certificate });
            }
        }
        notice_unconfirmed(records, log, &context.observer);
        // A record that seems missing may have been stored since the records were listed.
        run.report.vanished = Records::missing_of(run.project, records.vanished().to_vec())?;
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
        Ok(())
    }
}

/// Returns the record that an error names as damaged. Returns `None` for a missing record and for
/// other objects.
fn record_of(error: &RepoError) -> Option<ObjectHash> {
    match error {
        RepoError::Damaged {
            object: ObjectRef::Backup(_, id),
            source,
        } if !matches!(source, Damage::Missing) => Some(*id),
        _ => None,
    }
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
        for (name, is_second, verdict) in verdicts {
            match verdict {
                // Another step reports foreign objects.
                Ok(()) | Err(RepoError::Foreign { .. }) => {}
                // A copy that seems to need a newer version of this program is damaged. The program
                // could read the other copy when it opened the repository.
                Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                    self.found(&Finding::CopyDamaged {
                        object,
                        name: name.to_string(),
                        is_second,
                        problem: Arc::new(error),
                    });
                }
                // A copy that this process may not read is not damaged, but it cannot replace the
                // other copy. So report it.
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
            let why = "its number is not one more than the largest of the entries before it";
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

    /// Verifies that the signer of each void is also the signer of the record that the void names.
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
        self.all_read = self.reads_all;
        // Report the remaining missing and damaged packs only if a backup needs data from them. If
        // a pack is not reported, other packs have all of its data that backups need. If a node
        // cannot be read, the chunks below it are not known, so any of these packs may be needed.
        let all = !found.errors.is_empty();
        let is_needed = |pack: &ObjectHash| all || found.missed.contains(pack);
        let unreported = std::mem::take(&mut self.unreported).into_iter();
        let (missed, spare): (Vec<_>, Vec<_>) =
            unreported.partition(|pack| pack.hash().is_some_and(|hash| is_needed(&hash)));
        for pack in missed {
            self.report.packs_damaged += 1;
            self.found(&Finding::PackMissing { pack });
        }
        let damaged = std::mem::take(&mut self.unreported_damage).into_iter();
        let (needed, unneeded): (Vec<_>, Vec<_>) = damaged.partition(|(pack, _)| is_needed(pack));
        for (_, damage) in needed {
            self.report.packs_damaged += 1;
            self.found(&Finding::from_error(damage));
        }
        let packs = (spare.len() + unneeded.len()) as u64;
        if packs > 0 {
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
        let affected: HashSet<_> = self.report.backups_affected.iter().copied().collect();
        let all = records.all().iter();
        let whole = all.map(|b| b.id).filter(|id| !affected.contains(id));
        self.report.backups_whole = whole.collect();
        self.report.volumes_affected = affected_volumes(records.all(), &affected);
        Ok(())
    }
}
