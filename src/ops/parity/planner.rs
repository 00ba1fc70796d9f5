//! Decides what a repair does with each damaged object.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::damaged::{TRIES_MAX, has_parity};
use super::expected;
use super::step::{ParityAction, ParityStep, RepairSources};
use super::undamaged::{fetch, names, read_copy, rebuild, restore};
use super::unnamed;
use super::unusable::{Files, Unusable};
use crate::base::{ObjectHash, ProjectId};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::{self, ObjectRef, Objects, PublicLog, RepoError, is_protected};
use crate::storage::Name;

/// The plan of a repair.
pub(super) struct Plan {
    /// The damaged objects, and what is done with each.
    pub(super) steps: Vec<ParityStep>,
    /// Missing objects that have parity, and may never have been stored.
    pub(super) unexplained: Vec<ObjectRef>,
}

impl Plan {
    /// Plans the repair of a repository with these projects and files, some of which are unusable.
    pub(super) fn new(
        objects: &Objects,
        sources: RepairSources<'_>,
        (files, unusable): (&Files, &HashMap<Name, Unusable>),
        projects: Vec<ProjectId>,
        context: &Context<'_>,
    ) -> Result<Self, OpsError> {
        let mut planner = Planner {
            objects,
            sources,
            parity: HashMap::new(),
            whole: HashSet::new(),
            damaged: BTreeMap::new(),
            denied: HashSet::new(),
            files,
            restored: HashSet::new(),
            complete: HashSet::new(),
            unexplained: Vec::new(),
            named_by_parity: HashSet::new(),
            steps: Vec::new(),
        };
        planner.sort(unusable);
        for project in projects {
            planner.expect_unnamed(ObjectRef::Project(project))?;
            // An object in a batch, which is one file with several objects, needs no file of its
            // own.
            let (batched, _) = objects.verify_batches(project)?;
            let batched = batched.into_iter();
            let batched = batched.filter(|object| !planner.damaged.contains_key(&object.name()));
            planner.whole.extend(batched.collect::<Vec<_>>());
            planner.expect_required(project, context)?;
        }
        planner.expect_unnamed(ObjectRef::Repository)?;
        planner.expect_protected(None, &PublicLog::default())?;
        if !planner.damaged.contains_key(&ObjectRef::Repository.name()) {
            planner.complete.insert(None);
        }
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
        Ok(Self {
            steps: planner.steps,
            unexplained: planner.unexplained,
        })
    }
}

/// Returns the protected object whose name is no hash: the project object, or the repository file
/// for `None`.
pub(super) fn unnamed_of(project: Option<ProjectId>) -> ObjectRef {
    project.map_or(ObjectRef::Repository, ObjectRef::Project)
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
    /// The files that were read.
    files: &'a Files,
    /// Objects that the repair restores.
    restored: HashSet<ObjectRef>,
    /// The projects whose needed objects are all known. `None` stands for the repository.
    complete: HashSet<Option<ProjectId>>,
    /// Missing objects that have parity, and may never have been stored.
    unexplained: Vec<ObjectRef>,
    /// Missing objects that only their parity names.
    named_by_parity: HashSet<ObjectRef>,
    steps: Vec<ParityStep>,
}

impl Planner<'_> {
    fn sort(&mut self, unusable: &HashMap<Name, Unusable>) {
        let files = self.files;
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

    /// Adds these missing objects to the damaged ones:
    ///
    /// - objects that the log requires,
    /// - log entries that other entries name,
    /// - objects that the other copy of the repository has and that the log does not remove,
    /// - objects that [`expect_protected`](Self::expect_protected) finds.
    ///
    /// Other missing objects may have been deleted on purpose. If only objects that are kept twice
    /// can be repaired, adds only those of them that the log requires.
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
        let mut log = PublicLog::load(self.objects, project, &authority)?;
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
        // If a log entry cannot be read, it may remove objects. So only the next repair, after this
        // entry is repaired, looks for other missing objects.
        let is_history = |o: &ObjectRef| {
            o.project() == Some(project) && matches!(o, ObjectRef::Log(..) | ObjectRef::Project(_))
        };
        if self.damaged.values().any(is_history) {
            return Ok(());
        }
        for object in there {
            self.expect(object);
        }
        self.expect_protected(Some(project), &log)?;
        if log.take_problems().is_empty() {
            self.complete.insert(Some(project));
        }
        Ok(())
    }

    /// Adds the missing objects of a project that have parity and that the log does not remove.
    /// `None` stands for the objects that belong to no project. An interrupted backup leaves parity
    /// of objects that it did not store. So if the project has a log, only objects that are kept
    /// twice, such as key slots, are added. All others count as unexplained.
    fn expect_protected(
        &mut self,
        project: Option<ProjectId>,
        log: &PublicLog,
    ) -> Result<(), OpsError> {
        let of_project = self.parity.iter();
        let of_project = of_project.filter(|((of, _), _)| *of == project);
        let parity: Vec<_> = of_project.flat_map(|(_, all)| all).copied().collect();
        let mut present = self.whole.clone();
        present.extend(self.damaged.values());
        let has_log = log.entries().next().is_some();
        for object in expected::with_parity(self.objects, &parity, &present, log)? {
            let is_kept_twice = object.kind().info().kept_twice;
            if has_log && !is_kept_twice {
                self.unexplained.push(object);
                continue;
            }
            if is_kept_twice {
                self.named_by_parity.insert(object);
            }
            self.expect(object);
        }
        Ok(())
    }

    fn step(&mut self, object: ObjectRef, action: ParityAction) -> Result<(), OpsError> {
        self.steps.push(ParityStep {
            object,
            action,
            may_be_removed: self.may_be_removed(object)?,
        });
        Ok(())
    }

    /// Returns whether an object can be what is left of a removed key: a key slot that has no file,
    /// or only one file and no parity. The removal of a key deletes the parity first.
    fn may_be_removed(&self, object: ObjectRef) -> Result<bool, OpsError> {
        if !matches!(object, ObjectRef::Key(..)) {
            return Ok(false);
        }
        let names = names(object);
        let found = names.iter().filter(|name| self.files.contains_key(name));
        Ok(match found.count() {
            0 => true,
            1 => !has_parity(self.objects, &[object])?,
            _ => false,
        })
    }

    fn plan_object(&mut self, object: ObjectRef) -> Result<(), OpsError> {
        if self.denied.contains(&object) {
            return self.step(object, ParityAction::Denied);
        }
        // If one file of the object is undamaged, it may still be of another repository.
        let is_undecided = self.whole.contains(&object);
        if is_undecided && read_copy(self.objects, object, self.sources.replica)?.is_some() {
            return self.step(object, ParityAction::Copy);
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
        self.step(object, action)
    }

    fn fetch(&self, object: ObjectRef) -> Result<Option<Vec<u8>>, OpsError> {
        fetch(self.sources.replica, object)
    }

    /// Returns the parity objects of an object, at most [`TRIES_MAX`]. The undamaged ones are
    /// first.
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
            // The parity can be made again after its object is restored.
            _ if self.restored.iter().any(|o| o.hash() == Some(of)) => ParityAction::Rebuild,
            _ if self.fetch(object)?.is_some() => ParityAction::Fetch,
            _ if self.is_unneeded(project, of) => ParityAction::Remove,
            _ if self.is_useless(project, of) => ParityAction::RemoveUseless,
            _ => ParityAction::BeyondRepair,
        };
        self.step(object, action)
    }

    /// Returns whether no repair needs damaged parity of the object with this hash. Either the
    /// object is undamaged, or it does not exist and nothing shows that it should.
    fn is_unneeded(&self, project: Option<ProjectId>, of: ObjectHash) -> bool {
        let is_needed = self.wanted(project, of).next().is_some();
        self.protected(project, of).is_some() || self.complete.contains(&project) && !is_needed
    }

    /// Returns whether damaged parity of the object with this hash has no use: only parity names
    /// the object, which has no file, and no parity can restore it.
    fn is_useless(&self, project: Option<ProjectId>, of: ObjectHash) -> bool {
        let mut wanted = self.wanted(project, of);
        self.complete.contains(&project) && wanted.all(|o| self.named_by_parity.contains(o))
    }

    /// Returns the damaged or missing objects with this hash that are not parity.
    fn wanted(
        &self,
        project: Option<ProjectId>,
        of: ObjectHash,
    ) -> impl Iterator<Item = &ObjectRef> {
        let known = self.damaged.values().chain(&self.unexplained);
        known.filter(move |object| {
            let is_parity = matches!(object, ObjectRef::Parity(..));
            object.project() == project && object.hash() == Some(of) && !is_parity
        })
    }

    /// Returns the undamaged object with this hash; `None` if there is none.
    fn protected(&self, project: Option<ProjectId>, of: ObjectHash) -> Option<ObjectRef> {
        let is_of = |object: &&ObjectRef| {
            object.hash() == Some(of) && object.project() == project && is_protected(object.kind())
        };
        let named = self.whole.iter().find(is_of).copied();
        named.or_else(|| {
            let unnamed = unnamed_of(project);
            let hash = self.objects.hash_of_unnamed(unnamed);
            hash.is_ok_and(|hash| hash == of).then_some(unnamed)
        })
    }
}
