//! Copies one project: lists its objects, copies them in a safe order, and begins again if a store
//! changes meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::copier::Job;
use super::report::Side;
use super::task::Task;
use crate::base::{Notice, ObjectHash, ProjectId, SignerId};
use crate::ops::check::Finding;
use crate::ops::error::OpsError;
use crate::repo::{Damage, ObjectKind, ObjectRef, PublicLog, RepoError};
use crate::storage::ObjectInfo;

/// The maximum number of attempts to copy a project. An attempt fails if the source or the target
/// changes meanwhile.
const ROUNDS_MAX: u32 = 1000;

/// A lease expires if it was not renewed for this time.
const LEASE_LIFE: Duration = Duration::from_mins(10);

/// The kinds of objects whose content needs no other objects in the store.
const DATA: [ObjectKind; 3] = [ObjectKind::Parity, ObjectKind::Pack, ObjectKind::Tree];
/// The kinds of objects that name packs.
const NAMES: [ObjectKind; 2] = [ObjectKind::Index, ObjectKind::Audit];
/// The kinds of objects that count only together.
const HISTORY: [ObjectKind; 3] = [ObjectKind::Backup, ObjectKind::Void, ObjectKind::Log];

/// The kinds of objects that a source must still have if the target has them, unless the log
/// removes them.
const LASTING: [ObjectKind; 5] = [
    ObjectKind::Backup,
    ObjectKind::Log,
    ObjectKind::Index,
    ObjectKind::Tree,
    ObjectKind::Pack,
];

/// The objects of a project in the source, as of one moment.
pub(super) struct Listed {
    pub(super) log: PublicLog,
    /// All listed objects, except those that the log removes.
    pub(super) objects: HashMap<ObjectRef, ObjectInfo>,
    /// Objects that exist although the log removes them.
    removed: HashSet<ObjectRef>,
    /// Log entries that no full key signed, and damaged log entries.
    unusable: HashSet<ObjectRef>,
}

impl Listed {
    /// Whether the source has an object, even if the log removes it.
    pub(super) fn has(&self, object: &ObjectRef) -> bool {
        self.objects.contains_key(object) || self.removed.contains(object)
    }
}

impl Task<'_> {
    /// Copies a project.
    pub(super) fn project(&mut self, project: ProjectId) -> Result<(), OpsError> {
        self.report.projects += 1;
        // If the authority (the public key that signs the log) is not known, the project object is
        // damaged. This damage was reported before.
        let Some(authority) = self.authorities.get(&project).copied() else {
            return Ok(());
        };
        for _ in 0..ROUNDS_MAX {
            self.context.cancel.check()?;
            let Some(listed) = self.look(project, &authority)? else {
                continue;
            };
            // Copy the certificates again: the log may name new ones.
            self.small(project)?;
            let mut gone = self.copy_kinds(&listed, &DATA)?;
            gone.extend(self.copy_kinds(&listed, &NAMES)?);
            if gone.is_empty() && self.history(project, &listed)? {
                return self.end(project, &authority, &listed);
            }
        }
        let location = self.source.location().to_owned();
        Err(OpsError::AlwaysChanging { location })
    }

    /// Lists the log, then all other objects, then the log again. Returns `None` if the log
    /// changed: then objects may have been deleted before they were listed.
    fn look(
        &mut self,
        project: ProjectId,
        authority: &SignerId,
    ) -> Result<Option<Listed>, OpsError> {
        let mut log = PublicLog::load(self.source, project, authority)?;
        let problems = log.take_problems();
        let (mut objects, mut removed) = (HashMap::new(), HashSet::new());
        for kind in [ObjectKind::Backup, ObjectKind::Void, ObjectKind::Index]
            .into_iter()
            .chain([ObjectKind::Audit, ObjectKind::Tree, ObjectKind::Pack])
            .chain([ObjectKind::Parity])
        {
            for (object, _, info) in self.source.list(&kind.directory(project))? {
                if is_removed(&object, &[&log]) {
                    removed.insert(object);
                } else {
                    objects.insert(object, info);
                }
            }
        }
        let mut known: HashSet<ObjectHash> = log.entries().map(|(hash, _)| hash).collect();
        known.extend(problems.iter().filter_map(RepoError::object_hash));
        let entries = self.source.list(&ObjectKind::Log.directory(project))?;
        let changed = entries
            .iter()
            .any(|(entry, ..)| entry.hash().is_some_and(|hash| !known.contains(&hash)));
        if changed {
            return Ok(None);
        }
        objects.extend(entries.into_iter().map(|(entry, _, info)| (entry, info)));
        let mut unusable = HashSet::new();
        for problem in problems {
            if let Some(hash) = problem.object_hash() {
                let entry = ObjectRef::Log(project, hash);
                unusable.insert(entry);
                self.found(Side::Source, entry, &Finding::from_error(problem));
            }
        }
        Ok(Some(Listed {
            log,
            objects,
            removed,
            unusable,
        }))
    }

    /// Returns the listed objects of a kind that the target lacks, ordered by name. With the option
    /// `newer_than`, leaves out older objects, but no log entries. Of the packs and the parity that
    /// the target has, compares only the sizes. Verifies all other objects in the target by their
    /// hashes. Reports objects of the target that differ from the source.
    fn lacking(&mut self, listed: &Listed, kind: ObjectKind) -> Result<Vec<Job>, OpsError> {
        let of_kind = listed.objects.iter().filter(|(o, _)| o.kind() == kind);
        let (mut jobs, mut same_size, mut differing) = (Vec::new(), Vec::new(), Vec::new());
        for (object, info) in of_kind {
            let job = Job {
                object: *object,
                size: info.size,
            };
            let is_old = self
                .options
                .newer_than
                .is_some_and(|limit| info.modified < limit && kind != ObjectKind::Log);
            match self.present.get(&info.name) {
                Some(size) if *size == info.size && DATA.contains(&kind) => {}
                Some(size) if *size == info.size => same_size.push(job),
                Some(_) => differing.push((*object, info.clone())),
                None if is_old || listed.unusable.contains(object) => {}
                None => jobs.push(job),
            }
        }
        for (object, info) in differing {
            self.compare(object, &info)?;
        }
        jobs.extend(self.verify_present(same_size)?);
        jobs.sort_by_cached_key(|job| job.object.name());
        Ok(jobs)
    }

    /// Copies the objects of these kinds. Returns those that the source no longer has.
    fn copy_kinds(
        &mut self,
        listed: &Listed,
        kinds: &[ObjectKind],
    ) -> Result<Vec<ObjectRef>, OpsError> {
        let mut jobs = Vec::new();
        for kind in kinds {
            jobs.extend(self.lacking(listed, *kind)?);
        }
        self.copy(jobs)
    }

    /// Copies records, voids and log entries. Returns whether the copy has everything now. Returns
    /// false if the source no longer has one of these objects, or if the target no longer has a
    /// pack or segment that they need.
    fn history(&mut self, project: ProjectId, listed: &Listed) -> Result<bool, OpsError> {
        let mut jobs = Vec::new();
        for kind in HISTORY {
            jobs.extend(self.lacking(listed, kind)?);
        }
        if jobs.is_empty() {
            return Ok(true);
        }
        if self.has_lost(project, listed)? || !self.copy_together(project, jobs)?.is_empty() {
            return Ok(false);
        }
        // A prune of the target may have begun before the records existed. It may have deleted
        // packs that the records need, and may still do so as long as its lease exists.
        self.notice_leases(project)?;
        Ok(!self.has_lost(project, listed)?)
    }

    /// Lists the packs, parity, segments and audits of the target again. Returns whether one that
    /// the target had is missing now: a prune may have deleted it.
    fn has_lost(&mut self, project: ProjectId, listed: &Listed) -> Result<bool, OpsError> {
        let mut now = HashSet::new();
        for kind in DATA.into_iter().chain(NAMES) {
            let there = self.target.list(&kind.directory(project))?;
            now.extend(there.into_iter().map(|(object, ..)| object));
        }
        let kinds =
            |object: &ObjectRef| DATA.contains(&object.kind()) || NAMES.contains(&object.kind());
        let mut is_lost = false;
        for object in listed.objects.keys().filter(|object| kinds(object)) {
            if !now.contains(object) && self.present.remove(&object.name()).is_some() {
                self.copied.remove(object);
                is_lost = true;
            }
        }
        Ok(is_lost)
    }

    /// Notifies the observer if another process works in the target: a lease that was stored in the
    /// last ten minutes shows that.
    fn notice_leases(&self, project: ProjectId) -> Result<(), OpsError> {
        let modified = |kind: ObjectKind| {
            let there = self.target.list(&kind.directory(project))?.into_iter();
            let newest = there.map(|(.., info)| info.modified).max();
            Ok::<_, OpsError>(newest)
        };
        // This run has just stored records or log entries. So the newest of their times shows the
        // time now, by the clock of the target.
        let newest = HISTORY.into_iter().map(modified);
        let newest = newest.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
        let now = newest.max();
        let lease = modified(ObjectKind::Lease)?;
        if let (Some(lease), Some(now)) = (lease, now)
            && lease + LEASE_LIFE > now
        {
            let location = self.target.location().to_owned();
            self.context.observer.notice(Notice::CopyInUse { location });
        }
        Ok(())
    }

    /// Reports the objects that the source lacks. With the option `mirror`, then deletes from the
    /// target the objects that the log removes. Deletes nothing if this run has reported any
    /// finding, or if the target has log entries that the source lacks.
    fn end(
        &mut self,
        project: ProjectId,
        authority: &SignerId,
        listed: &Listed,
    ) -> Result<(), OpsError> {
        let directory = ObjectKind::Project.directory(project) + "/";
        let names = self.present.keys();
        let of_target = names.filter(|name| name.as_str().starts_with(&directory));
        let of_target = of_target.filter_map(ObjectRef::parse);
        let (mut only_there, mut present) = (Vec::new(), 0);
        for (object, _) in of_target {
            let is_listed = listed.objects.contains_key(&object);
            present += u64::from(is_listed && !self.copied.contains(&object));
            if !is_listed && LASTING.contains(&object.kind()) {
                only_there.push(object);
            }
        }
        self.report.files_present += present;
        // Log entries that only the target has can remove objects, too.
        let is_entry = |object: &ObjectRef| object.kind() == ObjectKind::Log;
        let has_other_entries = only_there.iter().any(is_entry);
        let other = if has_other_entries {
            PublicLog::load(self.target, project, authority)?
        } else {
            PublicLog::default()
        };
        let logs = [&listed.log, &other];
        let required = listed.log.required(None).into_iter();
        let required = required.filter_map(|item| ObjectRef::of_log(project, item));
        let missing = listed.log.missing().into_iter();
        let mut lacking: Vec<ObjectRef> = required
            .filter(|object| !listed.objects.contains_key(object))
            .chain(missing.map(|entry| ObjectRef::Log(project, entry)))
            .chain(only_there)
            .collect();
        lacking.retain(|object| {
            let item = object.log_item();
            item.is_none_or(|item| !logs.iter().any(|log| log.removes(item)))
        });
        if !lacking.is_empty() {
            self.report_lacking(project, &lacking)?;
        }
        // A source that hides entries of the log, even if it lists them again later, may not decide
        // what is deleted. Nor may a source that has any damage.
        if self.options.mirror && self.report.errors == 0 && !has_other_entries {
            self.mirror(project, &logs, listed)?;
        }
        Ok(())
    }

    /// Lists the source again, and reports which of these objects the source still lacks.
    fn report_lacking(
        &mut self,
        project: ProjectId,
        lacking: &[ObjectRef],
    ) -> Result<(), OpsError> {
        let mut now = HashSet::new();
        let mut kinds: Vec<ObjectKind> = lacking.iter().map(ObjectRef::kind).collect();
        kinds.sort_unstable_by_key(|kind| kind.info().directory);
        kinds.dedup();
        for kind in kinds {
            let listed = self.source.list(&kind.directory(project))?;
            now.extend(listed.into_iter().map(|(object, ..)| object));
        }
        let mut lacking: Vec<_> = lacking.iter().filter(|o| !now.contains(o)).collect();
        lacking.sort_unstable_by_key(|object| object.name());
        for object in lacking {
            let Some(hash) = object.hash() else { continue };
            let finding = match object.kind() {
                ObjectKind::Backup => Finding::RecordVanished {
                    record: hash,
                    volume: None,
                },
                ObjectKind::Log => Finding::EntryVanished { entry: hash },
                ObjectKind::Certificate => Finding::CertificateVanished { certificate: hash },
                ObjectKind::Pack | ObjectKind::Tree => Finding::PackMissing { pack: *object },
                _ => Finding::from_error(RepoError::Damaged {
                    object: *object,
                    source: Damage::Missing,
                }),
            };
            self.found(Side::Source, *object, &finding);
        }
        Ok(())
    }
}

/// Returns whether an entry of one of these logs removes an object. Parity counts as removed if an
/// entry removes the object that it protects.
pub(super) fn is_removed(object: &ObjectRef, logs: &[&PublicLog]) -> bool {
    let by_log = |object: &ObjectRef| {
        let item = object.log_item();
        item.is_some_and(|item| logs.iter().any(|log| log.removes(item)))
    };
    match object {
        ObjectRef::Parity(project, of, _) => ObjectRef::all_named(*project, *of).iter().any(by_log),
        _ => by_log(object),
    }
}
