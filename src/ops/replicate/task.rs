//! The state of one run of `replicate`: the source, the target and its files, and the findings.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::copier::{Copied, Copier, Fetched, Job};
use super::report::{ReplicateOptions, ReplicateReport, Side};
use super::same;
use crate::base::{ProjectId, SignerId};
use crate::format::Batch;
use crate::ops::check::{Finding, VanishedHistory};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{Damage, ObjectKind, ObjectRef, Objects, RepoError, authority_of, read_stored};
use crate::storage::{Name, ObjectInfo, StorageErrorKind};

/// Interrupted uploads are removed from the target after this time.
const UPLOAD_LIFE: Duration = Duration::from_hours(24);

pub(super) struct Task<'a> {
    pub(super) source: &'a Objects,
    pub(super) target: &'a Objects,
    pub(super) options: &'a ReplicateOptions,
    pub(super) context: &'a Context<'a>,
    /// The files of the target, and their sizes in bytes.
    pub(super) present: HashMap<Name, u64>,
    pub(super) report: ReplicateReport,
    history: VanishedHistory,
    /// Objects that this run has copied.
    pub(super) copied: HashSet<ObjectRef>,
    /// Of the objects that a store keeps in two copies, those that this run has copied or compared.
    settled: HashSet<ObjectRef>,
    /// The public keys that sign the logs of the projects.
    pub(super) authorities: HashMap<ProjectId, SignerId>,
    /// Files of the target that were read and found whole.
    verified: HashSet<ObjectRef>,
    /// Objects that the source listed and then did not have.
    vanished: HashSet<ObjectRef>,
    copier: Copier<'a>,
    each: &'a mut dyn FnMut(Side, &Finding),
    /// Objects about which there is a finding, and whether it is about the source.
    reported: HashSet<(bool, ObjectRef)>,
}

impl<'a> Task<'a> {
    pub(super) fn new(
        source: &'a Objects,
        target: &'a Objects,
        options: &'a ReplicateOptions,
        context: &'a Context<'a>,
        each: &'a mut dyn FnMut(Side, &Finding),
    ) -> Result<Self, OpsError> {
        let present = list_all(target)?;
        Ok(Self {
            source,
            target,
            options,
            context,
            present,
            report: ReplicateReport::default(),
            history: VanishedHistory::default(),
            copied: HashSet::new(),
            settled: HashSet::new(),
            authorities: HashMap::new(),
            verified: HashSet::new(),
            vanished: HashSet::new(),
            copier: Copier::new(source, target, context)?,
            each,
            reported: HashSet::new(),
        })
    }

    /// Reports a finding, at most once for each object of each store.
    pub(super) fn found(&mut self, side: Side, object: ObjectRef, finding: &Finding) {
        if self.reported.insert((side == Side::Source, object)) {
            self.report.errors += 1;
            if side == Side::Source {
                self.history.note(finding);
                self.report.of_history = self.history.proven();
            }
            (self.each)(side, finding);
        }
    }

    /// Reports that an object of the source is damaged.
    pub(super) fn damaged(&mut self, object: ObjectRef, problem: RepoError) {
        let problem = Arc::new(problem);
        self.found(
            Side::Source,
            object,
            &Finding::ObjectDamaged { object, problem },
        );
    }

    /// Reports that the target has another file in the place of an object.
    fn differs(&mut self, object: ObjectRef) {
        let source = Damage::Impossible("it differs from the source, and was not replaced");
        let problem = Arc::new(RepoError::Damaged { object, source });
        self.found(
            Side::Target,
            object,
            &Finding::ObjectDamaged { object, problem },
        );
    }

    /// Copies the repository file and its key slots. Of each project, copies the project object,
    /// the settings, the certificates and the key slots. Fails if the target holds another
    /// repository.
    pub(super) fn repository(&mut self, projects: &[ProjectId]) -> Result<(), OpsError> {
        let (file, fault) = same::require(self.source, self.target, &self.present)?;
        self.unpack_batches()?;
        self.copy_damaged(ObjectRef::Repository, fault);
        let keys = self.twice_in(ObjectKind::Key.info().directory)?;
        self.count_old(ObjectKind::Key.info().directory, &keys);
        for object in keys {
            self.twice(object, None)?;
        }
        for project in projects {
            let object = ObjectRef::Project(*project);
            if let Some(bytes) = self.twice(object, None)? {
                // Use the bytes that were compared with those of the target: if the object were
                // read again, the source could deliver another one.
                let authority = authority_of(*project, &bytes).map_err(OpsError::from)?;
                self.authorities.insert(*project, authority);
            }
            let keys = self.small(*project)?;
            self.count_old(&ObjectKind::Key.directory(*project), &keys);
        }
        self.parity_of_repository()?;
        // Store the repository file last: with it, the directory becomes a repository.
        self.twice(ObjectRef::Repository, Some(file)).map(drop)
    }

    /// Reports the projects that the target has and the source no longer has. If neither store has
    /// a project, reports that an unknown project has vanished. A repository has at least one
    /// project, and projects are never removed.
    pub(super) fn vanished_projects(&mut self, vanished: &[ProjectId], copied: &[ProjectId]) {
        if vanished.is_empty() && copied.is_empty() {
            let finding = Finding::ProjectVanished { project: None };
            self.found(Side::Source, ObjectRef::Repository, &finding);
        }
        for project in vanished {
            let object = ObjectRef::Project(*project);
            let project = Some(*project);
            self.found(Side::Source, object, &Finding::ProjectVanished { project });
        }
    }

    /// Copies the settings, certificates and key slots of a project. Returns its key slots.
    pub(super) fn small(&mut self, project: ProjectId) -> Result<Vec<ObjectRef>, OpsError> {
        // A slot is stored after its certificate. So slots are listed first, and copied last.
        let keys = self.twice_in(&ObjectKind::Key.directory(project))?;
        let mut objects = self.twice_in(&ObjectKind::Settings.directory(project))?;
        objects.extend(self.twice_in(&ObjectKind::Certificate.directory(project))?);
        objects.extend(&keys);
        for object in objects {
            self.twice(object, None)?;
        }
        Ok(keys)
    }

    /// Lists the objects in a directory of the source. Each object is listed once, although the
    /// directory has two copies of it.
    fn twice_in(&self, directory: &str) -> Result<Vec<ObjectRef>, OpsError> {
        let listed = self.source.list(directory)?;
        let mut objects: Vec<_> = listed.into_iter().map(|(object, ..)| object).collect();
        objects.sort_unstable_by_key(ObjectRef::name);
        objects.dedup();
        Ok(objects)
    }

    /// Counts the key slots in a directory of the target that the source does not have.
    fn count_old(&mut self, directory: &str, keys: &[ObjectRef]) {
        let known: HashSet<Name> = keys.iter().map(ObjectRef::name).collect();
        let is_old = |name: &&Name| {
            name.directory() == directory && !known.contains(*name) && !name.last().contains('.')
        };
        self.report.old_keys += self.present.keys().filter(is_old).count() as u64;
    }

    /// Stores both copies of an object that is kept twice in the target. Takes the bytes from
    /// `whole`, or else from the source. Returns the bytes of the first copy. Returns `None` if
    /// neither copy in the source is whole, or if this run has settled the object before.
    fn twice(
        &mut self,
        object: ObjectRef,
        whole: Option<same::Pair>,
    ) -> Result<Option<Vec<u8>>, OpsError> {
        self.context.cancel.check()?;
        if !self.settled.insert(object) {
            return Ok(None);
        }
        let names = [object.name(), object.copy_name()];
        let pair = match whole {
            Some(pair) => pair,
            None => match same::read_either(self.source, object)? {
                (Some(pair), fault) => {
                    self.copy_damaged(object, fault);
                    pair
                }
                (None, Some((_, problem))) => {
                    self.damaged(object, problem);
                    return Ok(None);
                }
                (None, None) => return Ok(None),
            },
        };
        let pair = same::prefer_known(self.target, object, pair);
        // Store the second copy first, as [`Objects::put_twice`] does.
        for (name, bytes) in names.into_iter().zip(&pair).rev() {
            match self.present.get(&name) {
                Some(_) if same::has(self.target, &name, bytes) => self.report.files_present += 1,
                Some(_) => self.differs(object),
                None => {
                    self.copier.put(&name, bytes)?;
                    self.report.files_copied += 1;
                    self.report.bytes_copied += bytes.len() as u64;
                    self.present.insert(name, bytes.len() as u64);
                }
            }
        }
        let [first, _] = pair;
        Ok(Some(first))
    }

    /// Copies the parity of the objects that belong to no project.
    fn parity_of_repository(&mut self) -> Result<(), OpsError> {
        let mut jobs = Vec::new();
        for (object, _, info) in self.source.list(ObjectKind::Parity.info().directory)? {
            if self.present.get(&info.name) == Some(&info.size) {
                self.report.files_present += 1;
            } else {
                let size = info.size;
                jobs.push(Job { object, size });
            }
        }
        // If parity was deleted meanwhile, its object was deleted, too.
        self.copy(jobs).map(drop)
    }

    /// Unpacks the batches that interrupted copies left in the target.
    fn unpack_batches(&mut self) -> Result<(), OpsError> {
        let objects = self.present.keys().filter_map(ObjectRef::parse);
        let batches = objects.filter(|(object, _)| object.kind() == ObjectKind::Batch);
        let projects: HashSet<_> = batches.filter_map(|(batch, _)| batch.project()).collect();
        for project in &projects {
            self.target.unpack_batches(*project)?;
        }
        if !projects.is_empty() {
            self.present = list_all(self.target)?;
        }
        Ok(())
    }

    /// Copies objects that are kept once. If all of them fit into one batch, they begin to exist at
    /// the same moment. Returns those that the source no longer has. If there are any, stores
    /// neither the other objects of their batch nor later batches.
    pub(super) fn copy_together(
        &mut self,
        project: ProjectId,
        mut jobs: Vec<Job>,
    ) -> Result<Vec<ObjectRef>, OpsError> {
        // An object that is too large for a batch is copied alone.
        let is_too_large = |job: &mut Job| {
            Batch::len_of(job.size).saturating_add(Batch::START_LEN as u64) > Batch::LEN_MAX as u64
        };
        let alone: Vec<Job> = jobs.extract_if(.., is_too_large).collect();
        let gone = self.copy(alone)?;
        if !gone.is_empty() {
            return Ok(gone);
        }
        if jobs.len() == 1 {
            return self.copy(jobs);
        }
        while !jobs.is_empty() {
            let more = jobs.split_off(fitting(&jobs));
            let (mut together, mut gone) = (Vec::new(), Vec::new());
            for (job, fetched) in self.copier.read(jobs)? {
                match fetched {
                    Fetched::Whole(bytes) => together.push((job.object, bytes)),
                    Fetched::Damaged(problem) => self.damaged(job.object, problem),
                    Fetched::Gone => gone.extend(self.gone(job.object)),
                }
            }
            if !gone.is_empty() {
                return Ok(gone);
            }
            let stored: Vec<_> = together.iter().map(|(o, b)| (*o, b.len() as u64)).collect();
            if !stored.is_empty() {
                self.target.put_batch(project, together)?;
                self.target.unpack_batches(project)?;
            }
            for (object, bytes) in stored {
                self.stored(object, object.name(), bytes);
            }
            jobs = more;
        }
        Ok(Vec::new())
    }

    /// Reads files that the target already has, unless this run has already read or copied them.
    /// Reports those that differ from the source. Returns those that the target no longer has.
    pub(super) fn verify_present(&mut self, mut jobs: Vec<Job>) -> Result<Vec<Job>, OpsError> {
        jobs.retain(|job| {
            !self.verified.contains(&job.object) && !self.copied.contains(&job.object)
        });
        let mut lost = Vec::new();
        for (job, is_whole) in self.copier.verify(jobs)? {
            if is_whole {
                self.verified.insert(job.object);
            } else if let Err(error) = self.target.backend().size(&job.object.name())
                && error.kind == StorageErrorKind::NotFound
            {
                self.present.remove(&job.object.name());
                lost.push(job);
            } else {
                self.differs(job.object);
            }
        }
        Ok(lost)
    }

    /// Reports an object that has another size in the target than in the source. If the object in
    /// the source is damaged, reports this instead.
    pub(super) fn compare(&mut self, object: ObjectRef, info: &ObjectInfo) -> Result<(), OpsError> {
        match read_stored(self.source, object, &info.name, info.size) {
            Ok(_) => self.differs(object),
            Err(problem @ RepoError::Damaged { .. }) => self.damaged(object, problem),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn copy_damaged(&mut self, object: ObjectRef, fault: Option<same::Fault>) {
        let Some((is_second, problem)) = fault else {
            return;
        };
        let name = if is_second {
            object.copy_name()
        } else {
            object.name()
        };
        let finding = Finding::CopyDamaged {
            object,
            name: name.to_string(),
            is_second,
            problem: Arc::new(problem),
        };
        self.found(Side::Source, object, &finding);
    }

    /// Copies objects that are kept once and that the target lacks. Reports those that are damaged.
    /// Returns those that the source no longer has.
    pub(super) fn copy(&mut self, jobs: Vec<Job>) -> Result<Vec<ObjectRef>, OpsError> {
        let mut gone = Vec::new();
        for (object, name, copied) in self.copier.copy(jobs)? {
            match copied {
                Copied::Stored(bytes) => self.stored(object, name, bytes),
                Copied::Differs => self.differs(object),
                Copied::Damaged(problem) => self.damaged(object, problem),
                Copied::Gone => gone.extend(self.gone(object)),
            }
        }
        Ok(gone)
    }

    fn stored(&mut self, object: ObjectRef, name: Name, bytes: u64) {
        self.report.files_copied += 1;
        self.report.bytes_copied += bytes;
        self.present.insert(name, bytes);
        self.copied.insert(object);
    }

    /// Handles an object that the source listed and then did not have. The first time, returns the
    /// object. The second time, the source has listed the object again: reports it as damaged, and
    /// returns `None`.
    fn gone(&mut self, object: ObjectRef) -> Option<ObjectRef> {
        if self.vanished.insert(object) {
            return Some(object);
        }
        let source = Damage::Impossible("the store lists it, but does not return it");
        self.damaged(object, RepoError::Damaged { object, source });
        None
    }

    /// Removes interrupted uploads of earlier runs from the target. Returns the report.
    pub(super) fn finish(self) -> Result<ReplicateReport, OpsError> {
        let removed = self.target.backend().remove_leftovers("", UPLOAD_LIFE);
        removed.map_err(RepoError::from)?;
        Ok(self.report)
    }
}

/// Returns all files of a store that are part of the format, and their sizes in bytes.
fn list_all(objects: &Objects) -> Result<HashMap<Name, u64>, OpsError> {
    let listed = objects.list("")?.into_iter();
    Ok(listed.map(|(.., info)| (info.name, info.size)).collect())
}

/// Returns how many of the first jobs fit into one batch.
fn fitting(jobs: &[Job]) -> usize {
    let mut len = Batch::START_LEN as u64;
    let too_long = jobs.iter().position(|job| {
        len += Batch::len_of(job.size);
        len > Batch::LEN_MAX as u64
    });
    too_long.unwrap_or(jobs.len()).min(Batch::OBJECTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_neither_too_many_bytes_nor_too_many_objects() {
        let job = |size| Job {
            object: ObjectRef::Repository,
            size,
        };
        assert_eq!(fitting(&[job(1), job(2)]), 2);
        let half = (Batch::LEN_MAX / 2) as u64;
        assert_eq!(fitting(&[job(half), job(1), job(half)]), 2);
        let many = vec![job(0); Batch::OBJECTS_MAX + 1];
        assert_eq!(fitting(&many), Batch::OBJECTS_MAX);
        assert_eq!(fitting(&many[1..]), Batch::OBJECTS_MAX);
    }
}
