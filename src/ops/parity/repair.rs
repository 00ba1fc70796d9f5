//! Repairs damaged objects with their second copies, with parity, or from another copy of the
//! repository. Repairs damaged parity with the objects that it protects. Needs no key.

use super::planner::{Plan, unnamed_of};
use super::step::{ParityAction, ParityStep, RepairSources};
use super::undamaged::{fetch, names, read_copy, rebuild, restore};
use super::unusable::{Files, find_unusable};
use crate::base::{ObjectHash, ProjectId};
use crate::format::PACK_SIZE_MAX;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{self, ObjectRef, Objects, RepoError, is_protected, quarantine, read_damaged};
use crate::storage::{Name, StorageError, StorageErrorKind};

/// A planned repair.
pub struct ParityRepair<'a> {
    objects: &'a Objects,
    sources: RepairSources<'a>,
    context: &'a Context<'a>,
    steps: Vec<ParityStep>,
    unexplained: Vec<ObjectRef>,
    /// Bytes that were read.
    bytes_read: u64,
}

/// Reads all objects of a repository that `sources` can repair, and plans how to repair the damaged
/// ones. Changes nothing.
pub fn plan_repair<'a>(
    objects: &'a Objects,
    sources: RepairSources<'a>,
    context: &'a Context<'a>,
) -> Result<ParityRepair<'a>, OpsError> {
    let projects = repo::projects(objects)?;
    if let Some(replica) = sources.replica {
        same_repository(objects, replica, &projects)?;
    }
    let mut files = Files::new();
    for (object, _, info) in objects.list("")? {
        let is_parity = matches!(object, ObjectRef::Parity(..)) && sources.parity;
        let is_wanted = sources.repairs_all() || object.kind().info().kept_twice;
        if is_parity || is_protected(object.kind()) && is_wanted {
            files.insert(info.name, (object, info.size));
        }
    }
    if files.is_empty() {
        let location = objects.location().to_owned();
        return Err(RepoError::NoRepository { location }.into());
    }
    let (unusable, bytes_read) = find_unusable(objects, &files, context)?;
    let plan = Plan::new(objects, sources, (&files, &unusable), projects, context)?;
    Ok(ParityRepair {
        objects,
        sources,
        context,
        unexplained: plan.unexplained,
        steps: plan.steps,
        bytes_read,
    })
}

/// Fails if `replica` is not a copy of this repository. This is so if they have no project in
/// common, or if the ids in their repository files differ.
fn same_repository(
    objects: &Objects,
    replica: &Objects,
    projects: &[ProjectId],
) -> Result<(), OpsError> {
    let there = repo::projects(replica)?;
    let id = repo::repository_id(replica)?;
    // One of two whole copies can be the file of another repository.
    let own = repo::repository_ids(objects)?;
    let is_other = !own.is_empty() && !own.contains(&id);
    if is_other || !projects.iter().any(|project| there.contains(project)) {
        let location = replica.location().to_owned();
        return Err(OpsError::OtherRepository { location });
    }
    Ok(())
}

impl ParityRepair<'_> {
    /// The damaged objects, and what is done with each.
    #[must_use]
    pub fn steps(&self) -> &[ParityStep] {
        &self.steps
    }

    /// Missing objects that have parity and that no log entry names. They are lost, or a backup was
    /// interrupted before it stored them.
    #[must_use]
    pub fn unexplained(&self) -> &[ObjectRef] {
        &self.unexplained
    }

    /// Returns whether an entry of the log or a project object is among the damaged objects. After
    /// its repair, it can show that other objects are missing.
    #[must_use]
    pub fn must_run_again(&self) -> bool {
        let is_history = |object| matches!(object, ObjectRef::Log(..) | ObjectRef::Project(_));
        let mut steps = self.steps.iter();
        steps.any(|step| is_history(step.object))
    }

    /// The bytes that were read to find the damage.
    #[must_use]
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Runs the plan. Each damaged file is stored in `quarantine/` before it is replaced or
    /// deleted. Calls `done` after each step, with whether the object is whole now. For damaged
    /// parity that is removed, `done` receives whether the file is gone.
    pub fn run(&self, done: &mut dyn FnMut(&ParityStep, bool)) -> Result<(), OpsError> {
        for step in &self.steps {
            self.context.cancel.check()?;
            let object = step.object;
            let mut step = step.clone();
            let mut protected = None;
            let bytes = match (&step.action, object) {
                (ParityAction::Restore { parity, .. }, _) => {
                    restore(self.objects, object, *parity)?.map(|restored| restored.bytes)
                }
                (ParityAction::Copy, _) => read_copy(self.objects, object, self.sources.replica)?,
                (ParityAction::Fetch, _) => fetch(self.sources.replica, object)?,
                (ParityAction::Rebuild, ObjectRef::Parity(project, of, _)) => {
                    protected = self.protected(project, of)?;
                    let bytes = match protected {
                        Some(protected) => rebuild(self.objects, object, protected)?,
                        None => None,
                    };
                    // The plan relied on restoring the object first. But the parity cannot be made
                    // from the restored object.
                    if bytes.is_none() && protected.is_some() {
                        step.action = ParityAction::Remove;
                    }
                    bytes
                }
                _ => None,
            };
            let is_whole = match bytes {
                Some(bytes) => self.replace(&step, &bytes)?,
                None if step.action.removes() => self.remove(object)?,
                None => false,
            };
            if let Some(protected) = protected {
                self.objects.delete_parity_if_removed(protected)?;
            }
            done(&step, is_whole);
        }
        Ok(())
    }

    /// Returns the undamaged object with this hash; `None` if there is none.
    fn protected(
        &self,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> Result<Option<ObjectRef>, OpsError> {
        let unnamed = unnamed_of(project);
        if self
            .objects
            .hash_of_unnamed(unnamed)
            .is_ok_and(|hash| hash == of)
        {
            return Ok(Some(unnamed));
        }
        for named in ObjectRef::all_named(project, of) {
            match repo::read_verified(self.objects, named, PACK_SIZE_MAX) {
                Ok(_) => return Ok(Some(named)),
                Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Moves the file of a damaged parity object to `quarantine/`. Returns whether it is gone.
    fn remove(&self, object: ObjectRef) -> Result<bool, OpsError> {
        let backend = self.objects.backend();
        let name = object.name();
        if let Some(damaged) = read_damaged(backend, &name, PACK_SIZE_MAX)? {
            quarantine(backend, &name, &damaged)?;
        }
        match backend.delete(&name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(true),
            Err(error) => self.not_a_file(&name, error),
        }
    }

    /// Returns `false` if something other than a file has this name, for example a directory.
    /// Otherwise fails with the error.
    fn not_a_file(&self, name: &Name, error: StorageError) -> Result<bool, OpsError> {
        match self.objects.backend().get(name, PACK_SIZE_MAX) {
            Err(found) if found.kind == StorageErrorKind::NotAFile => Ok(false),
            _ => Err(RepoError::from(error).into()),
        }
    }

    /// Replaces the files of an object that do not have these bytes. Returns whether they can be
    /// read and are whole now. If a whole file of a key slot has vanished since it was read, stores
    /// nothing: somebody removed the key.
    fn replace(&self, step: &ParityStep, bytes: &[u8]) -> Result<bool, OpsError> {
        let (backend, object) = (self.objects.backend(), step.object);
        let (mut damaged, mut is_whole) = (Vec::new(), false);
        for name in names(object) {
            match read_damaged(backend, &name, PACK_SIZE_MAX)? {
                Some(found) if found == bytes => is_whole = true,
                found => damaged.push((name, found)),
            }
        }
        if matches!(object, ObjectRef::Key(..)) && step.action == ParityAction::Copy && !is_whole {
            return Ok(false);
        }
        let mut are_whole = true;
        for (name, damaged) in damaged {
            if let Some(damaged) = damaged {
                quarantine(backend, &name, &damaged)?;
            }
            if let Err(error) = backend.put(&name, &[bytes]) {
                are_whole &= self.not_a_file(&name, error)?;
                continue;
            }
            let size = bytes.len() as u64;
            let verified =
                repo::verify_stored(self.objects, object, &name, size, self.context.cancel);
            match verified {
                Ok(()) => {}
                Err(RepoError::Damaged { .. }) => are_whole = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(are_whole)
    }
}
