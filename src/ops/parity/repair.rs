//! Repairs damaged objects with their second copies, with parity, or from another copy of the
//! repository; and damaged parity with undamaged objects. Needs no key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::expected;
use super::undamaged::{fetch, names, read_copy, rebuild, restore};
use super::unnamed;
use crate::base::{ObjectHash, Phase, Progress, ProjectId, lock, recover};
use crate::format::PACK_SIZE_MAX;
use crate::ops::context::{Context, thread_pool};
use crate::ops::error::OpsError;
use crate::repo::{
    self, Damage, ObjectRef, Objects, PublicLog, RepoError, is_protected, quarantine, read_damaged,
};
use crate::storage::{Name, StorageErrorClass, StorageErrorKind};

/// Maximum number of objects that are read at the same time.
const READERS_MAX: usize = 4;
/// The maximum number of parity objects that a repair tries for an object of the repository or a
/// project. A thief can store any number of them.
const TRIES_MAX: usize = 16;

/// What a repair does with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParityAction {
    /// Restores the object from this parity object.
    Restore {
        /// The parity object.
        parity: ObjectRef,
        /// The number of lost parts of the object.
        lost: u64,
        /// The number of all parts of the object.
        parts: u64,
    },
    /// Replaces a damaged or missing file by the other copy of the object, which is whole.
    Copy,
    /// Stores the object again. The other repository has an undamaged copy of it.
    Fetch,
    /// Makes a damaged parity object again from the object that it protects.
    Rebuild,
    /// Nothing: too much of the object or of its parity is damaged.
    BeyondRepair,
    /// Nothing: the object has no parity.
    NoParity,
    /// Nothing: neither the repository nor the other one has an undamaged copy.
    NoCopy,
    /// Nothing: the copies of the object differ from each other, or from what parity states, and it
    /// is not known which content is genuine.
    Undecided,
    /// Nothing: this process may not read a file of the object, so it is not known to be damaged.
    Denied,
}

/// A damaged object, and what a repair does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityStep {
    /// The object.
    pub object: ObjectRef,
    /// The action.
    pub action: ParityAction,
}

impl ParityStep {
    /// Returns whether the repair makes the object whole.
    #[must_use]
    pub const fn repairs(&self) -> bool {
        matches!(
            self.action,
            ParityAction::Restore { .. }
                | ParityAction::Copy
                | ParityAction::Fetch
                | ParityAction::Rebuild
        )
    }
}

/// Where a repair takes undamaged objects from, in addition to their second copies.
#[derive(Clone, Copy)]
pub struct RepairSources<'a> {
    /// Whether parity is used.
    pub parity: bool,
    /// Another copy of the repository.
    pub replica: Option<&'a Objects>,
}

impl RepairSources<'_> {
    /// Whether objects that are kept once can be repaired.
    fn repairs_all(self) -> bool {
        self.parity || self.replica.is_some()
    }
}

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

/// The files of the store: objects, with the names and sizes of their files.
type Files = BTreeMap<Name, (ObjectRef, u64)>;

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
    let mut planner = Planner {
        objects,
        sources,
        parity: HashMap::new(),
        whole: HashSet::new(),
        damaged: BTreeMap::new(),
        denied: HashSet::new(),
        restored: HashSet::new(),
        unexplained: Vec::new(),
        steps: Vec::new(),
    };
    planner.sort(&files, &unusable);
    for project in projects {
        planner.expect_unnamed(ObjectRef::Project(project))?;
        // An object in a batch needs no file of its own.
        let (batched, _) = objects.verify_batches(project)?;
        let batched = batched.into_iter();
        let batched = batched.filter(|object| !planner.damaged.contains_key(&object.name()));
        planner.whole.extend(batched.collect::<Vec<_>>());
        planner.expect_required(project, context)?;
    }
    planner.expect_unnamed(ObjectRef::Repository)?;
    let damaged: Vec<_> = planner.damaged.values().copied().collect();
    for object in damaged {
        context.cancel.check()?;
        let is_parity = matches!(object, ObjectRef::Parity(..));
        if !is_parity {
            planner.plan_object(object)?;
        }
    }
    let damaged: Vec<_> = planner.damaged.values().copied().collect();
    for object in damaged {
        context.cancel.check()?;
        if let ObjectRef::Parity(project, of, _) = object {
            planner.plan_parity(object, project, of)?;
        }
    }
    Ok(ParityRepair {
        objects,
        sources,
        context,
        unexplained: planner.unexplained,
        steps: planner.steps,
        bytes_read,
    })
}

/// Fails if another repository is not a copy of this one: they have no project in common, or the
/// ids in their repository files differ.
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

/// The reason why a file cannot be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unusable {
    Damaged,
    /// This process may not read it.
    Denied,
}

/// Returns the files that are not whole, and the number of bytes that were read.
fn find_unusable(
    objects: &Objects,
    files: &Files,
    context: &Context<'_>,
) -> Result<(HashMap<Name, Unusable>, u64), OpsError> {
    // Nothing is read of a file that is longer than any object can be.
    let len = |size: u64| if size > PACK_SIZE_MAX { 0 } else { size };
    let total = files.values().map(|(_, size)| len(*size)).sum();
    let done = AtomicU64::new(0);
    let unusable = Mutex::new(HashMap::new());
    let files: Vec<_> = files.iter().collect();
    thread_pool(context.threads.min(READERS_MAX))?.install(|| {
        files.par_iter().try_for_each(|(name, (object, size))| {
            context.cancel.check()?;
            match repo::verify_stored(objects, *object, name, *size, context.cancel) {
                // A later version of the program made this object. Only that version can tell
                // whether the object is whole.
                Ok(()) | Err(RepoError::Unsupported { .. }) => {}
                // It was deleted since it was listed.
                Err(error) if error.is_missing() => {}
                Err(RepoError::Damaged { source, .. }) => {
                    let why = if is_denied(&source) {
                        Unusable::Denied
                    } else {
                        Unusable::Damaged
                    };
                    lock(&unusable).insert((*name).clone(), why);
                }
                Err(error) => return Err(error),
            }
            let done = done.fetch_add(len(*size), Ordering::Relaxed) + len(*size);
            context.observer.progress(Progress {
                phase: Phase::CheckData,
                done,
                total: Some(total),
            });
            Ok(())
        })
    })?;
    Ok((recover(unusable.into_inner()), total))
}

fn is_denied(damage: &Damage) -> bool {
    match damage {
        Damage::Unreadable(error) => error.kind.class() == StorageErrorClass::Denied,
        _ => false,
    }
}

struct Planner<'a> {
    objects: &'a Objects,
    sources: RepairSources<'a>,
    /// The parity objects of each object, by the project and the hash of the object.
    parity: HashMap<(Option<ProjectId>, ObjectHash), Vec<ObjectRef>>,
    /// Objects with an undamaged file.
    whole: HashSet<ObjectRef>,
    /// Objects with a damaged or missing file.
    damaged: BTreeMap<Name, ObjectRef>,
    /// Damaged objects with a file that this process may not read.
    denied: HashSet<ObjectRef>,
    /// Objects that the repair restores.
    restored: HashSet<ObjectRef>,
    /// Missing objects that have parity, and may never have been stored.
    unexplained: Vec<ObjectRef>,
    steps: Vec<ParityStep>,
}

impl Planner<'_> {
    fn sort(&mut self, files: &Files, unusable: &HashMap<Name, Unusable>) {
        for (name, (object, _)) in files {
            if let ObjectRef::Parity(project, of, _) = *object {
                self.parity.entry((project, of)).or_default().push(*object);
            }
            if !unusable.contains_key(name) {
                self.whole.insert(*object);
            }
        }
        for (name, (object, _)) in files {
            let why = unusable.get(name);
            if why.is_some() || !names(*object).iter().all(|name| files.contains_key(name)) {
                self.damaged.insert(object.name(), *object);
            }
            if why == Some(&Unusable::Denied) {
                self.denied.insert(*object);
            }
        }
    }

    /// Adds an object to the damaged ones unless it has an undamaged file.
    fn expect(&mut self, object: ObjectRef) {
        if !self.whole.contains(&object) {
            self.damaged.insert(object.name(), object);
        }
    }

    /// Adds the repository file or a project object to the damaged ones if it has no undamaged
    /// file, or if its copies differ.
    fn expect_unnamed(&mut self, object: ObjectRef) -> Result<(), OpsError> {
        self.expect(object);
        if unnamed::whole_copies(self.objects, object)?.len() > 1 {
            self.damaged.insert(object.name(), object);
        }
        Ok(())
    }

    /// Adds missing objects: those that the log requires, log entries that others name, and those
    /// that the other repository has and that the log does not remove. If there is no log, also
    /// adds those that have parity. Otherwise, these are unexplained, since they may never have
    /// been stored. Other missing objects may have been deleted on purpose.
    fn expect_required(
        &mut self,
        project: ProjectId,
        context: &Context<'_>,
    ) -> Result<(), OpsError> {
        let authority = match repo::authority(self.objects, project, &*context.observer) {
            Ok(authority) => authority,
            Err(RepoError::Damaged { .. } | RepoError::Unsupported { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let log = PublicLog::load(self.objects, project, &authority)?;
        let repairs_all = self.sources.repairs_all();
        for item in log.required(None) {
            if let Some(object) = ObjectRef::of_log(project, item)
                && (repairs_all || object.kind().info().kept_twice)
            {
                self.expect(object);
            }
        }
        if !repairs_all {
            return Ok(());
        }
        for entry in log.missing() {
            self.expect(ObjectRef::Log(project, entry));
        }
        let mut there = match self.sources.replica {
            Some(replica) => expected::in_replica(replica, project, &log)?,
            None => Vec::new(),
        };
        let entries = there.extract_if(.., |object| matches!(object, ObjectRef::Log(..)));
        entries.for_each(|entry| self.expect(entry));
        // An entry that cannot be read may remove objects. So leave it to the next repair to find
        // missing objects.
        let is_history = |o: &ObjectRef| {
            o.project() == Some(project) && matches!(o, ObjectRef::Log(..) | ObjectRef::Project(_))
        };
        if self.damaged.values().any(is_history) {
            return Ok(());
        }
        for object in there {
            self.expect(object);
        }
        let of_project = self.parity.iter();
        let of_project = of_project.filter(|((of, _), _)| *of == Some(project));
        let parity: Vec<_> = of_project.flat_map(|(_, all)| all).copied().collect();
        let mut present = self.whole.clone();
        present.extend(self.damaged.values());
        let missing = expected::with_parity(self.objects, &parity, &present, &log)?;
        // An interrupted backup leaves parity of objects that it did not store.
        if log.entries().next().is_some() {
            self.unexplained.extend(missing);
        } else {
            for object in missing {
                self.expect(object);
            }
        }
        Ok(())
    }

    fn step(&mut self, object: ObjectRef, action: ParityAction) {
        self.steps.push(ParityStep { object, action });
    }

    fn plan_object(&mut self, object: ObjectRef) -> Result<(), OpsError> {
        if self.denied.contains(&object) {
            self.step(object, ParityAction::Denied);
            return Ok(());
        }
        // A copy is whole, but it may be of another repository.
        let is_undecided = self.whole.contains(&object);
        if is_undecided && read_copy(self.objects, object, self.sources.replica)?.is_some() {
            self.step(object, ParityAction::Copy);
            return Ok(());
        }
        let parity = if self.sources.parity {
            self.parity_of(object)?
        } else {
            Vec::new()
        };
        let mut action = match (self.sources.parity, parity.is_empty()) {
            _ if is_undecided => ParityAction::Undecided,
            (false, _) => ParityAction::NoCopy,
            (true, true) => ParityAction::NoParity,
            (true, false) => ParityAction::BeyondRepair,
        };
        for parity in parity {
            if let Some(restored) = restore(self.objects, object, parity)? {
                self.restored.insert(object);
                action = ParityAction::Restore {
                    parity,
                    lost: restored.lost as u64,
                    parts: restored.shards as u64,
                };
                break;
            }
        }
        if !is_undecided && !self.restored.contains(&object) && self.fetch(object)?.is_some() {
            self.restored.insert(object);
            action = ParityAction::Fetch;
        }
        self.step(object, action);
        Ok(())
    }

    fn fetch(&self, object: ObjectRef) -> Result<Option<Vec<u8>>, OpsError> {
        fetch(self.sources.replica, object)
    }

    /// Returns the parity objects of an object. The undamaged ones are first.
    fn parity_of(&self, object: ObjectRef) -> Result<Vec<ObjectRef>, OpsError> {
        let mut found = if let Some(hash) = object.hash() {
            let all = self.parity.get(&(object.project(), hash));
            all.cloned().unwrap_or_default()
        } else {
            // The name does not determine the bytes of the object. If several parity objects state
            // different hashes for them, none of these is used.
            let found = unnamed::parity_objects(self.objects, object)?;
            let of = |parity: &ObjectRef| match *parity {
                ObjectRef::Parity(_, of, _) => Some(of),
                _ => None,
            };
            let is_same = found.iter().all(|parity| of(parity) == of(&found[0]));
            if is_same { found } else { Vec::new() }
        };
        found.sort_by_key(|parity| (!self.whole.contains(parity), parity.name()));
        found.truncate(TRIES_MAX);
        Ok(found)
    }

    fn plan_parity(
        &mut self,
        object: ObjectRef,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> Result<(), OpsError> {
        let action = match self.protected(project, of) {
            _ if self.denied.contains(&object) => ParityAction::Denied,
            Some(protected) if rebuild(self.objects, object, protected)?.is_some() => {
                ParityAction::Rebuild
            }
            // It can be made again once the object is restored.
            _ if self.restored.iter().any(|o| o.hash() == Some(of)) => ParityAction::Rebuild,
            _ if self.fetch(object)?.is_some() => ParityAction::Fetch,
            _ => ParityAction::BeyondRepair,
        };
        self.step(object, action);
        Ok(())
    }

    /// Returns the undamaged object with this hash.
    fn protected(&self, project: Option<ProjectId>, of: ObjectHash) -> Option<ObjectRef> {
        let is_of = |object: &&ObjectRef| {
            object.hash() == Some(of) && object.project() == project && is_protected(object.kind())
        };
        let named = self.whole.iter().find(is_of).copied();
        named.or_else(|| {
            let unnamed = match project {
                Some(project) => ObjectRef::Project(project),
                None => ObjectRef::Repository,
            };
            let hash = self.objects.hash_of_unnamed(unnamed);
            hash.is_ok_and(|hash| hash == of).then_some(unnamed)
        })
    }
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

    /// Returns whether an entry of the log or a project object is among the damaged objects. Once
    /// it is whole, it can show that others are missing.
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

    /// Runs the plan. Each damaged file is stored in `quarantine/` before it is replaced. Calls
    /// `done` after each step, with whether the object is whole now.
    pub fn run(&self, done: &mut dyn FnMut(&ParityStep, bool)) -> Result<(), OpsError> {
        for step in &self.steps {
            self.context.cancel.check()?;
            let bytes = match (&step.action, step.object) {
                (ParityAction::Restore { parity, .. }, object) => {
                    restore(self.objects, object, *parity)?.map(|restored| restored.bytes)
                }
                (ParityAction::Copy, object) => {
                    read_copy(self.objects, object, self.sources.replica)?
                }
                (ParityAction::Fetch, object) => fetch(self.sources.replica, object)?,
                (ParityAction::Rebuild, ObjectRef::Parity(project, of, _)) => {
                    self.rebuild(step.object, project, of)?
                }
                _ => None,
            };
            let is_whole = match bytes {
                Some(bytes) => self.replace(step.object, &bytes)?,
                None => false,
            };
            done(step, is_whole);
        }
        Ok(())
    }

    fn rebuild(
        &self,
        parity: ObjectRef,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> Result<Option<Vec<u8>>, OpsError> {
        let unnamed = match project {
            Some(project) => ObjectRef::Project(project),
            None => ObjectRef::Repository,
        };
        let hash = self.objects.hash_of_unnamed(unnamed);
        let mut candidates = Vec::new();
        if hash.is_ok_and(|hash| hash == of) {
            candidates.push(unnamed);
        }
        candidates.extend(ObjectRef::all_named(project, of));
        for protected in candidates {
            if let Some(bytes) = rebuild(self.objects, parity, protected)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Replaces the files of an object. Returns whether they can be read and are whole now.
    fn replace(&self, object: ObjectRef, bytes: &[u8]) -> Result<bool, OpsError> {
        let backend = self.objects.backend();
        for name in names(object) {
            if let Some(damaged) = read_damaged(backend, &name, PACK_SIZE_MAX)? {
                if damaged == bytes {
                    continue;
                }
                quarantine(backend, &name, &damaged)?;
            }
            if let Err(error) = backend.put(&name, &[bytes]) {
                let found = backend.get(&name, PACK_SIZE_MAX);
                return match found {
                    // For example, a directory has the name of the file.
                    Err(found) if found.kind == StorageErrorKind::NotAFile => Ok(false),
                    _ => Err(RepoError::from(error).into()),
                };
            }
            let size = bytes.len() as u64;
            let verified =
                repo::verify_stored(self.objects, object, &name, size, self.context.cancel);
            match verified {
                Ok(()) => {}
                Err(RepoError::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
