//! A check without a key. Every object whose name is a hash must have this hash. Both copies of an
//! object that is kept twice must be equal. Every object that the signed log names must exist,
//! unless an entry removes it. If a statement (a line that names a log entry) is given, the log
//! must have this entry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::check::{Finding, StatementFault, VanishedHistory};
use super::context::{Context, thread_pool};
use super::error::OpsError;
use super::statement::Statement;
use crate::base::{Phase, Progress, ProjectId, lock, recover};
use crate::format::{LogItem, LogKind};
use crate::repo::{self, Damage, ObjectRef, Objects, PublicLog, RepoError};
use crate::storage::Name;

/// Maximum number of objects that are read at the same time.
const READERS_MAX: usize = 4;

/// The maximum number of bytes that are read of a file to compare it with its copy.
const COPY_MAX: u64 = 64 << 10;

/// The totals of a check without a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeylessReport {
    /// The number of findings.
    pub errors: u64,
    /// Of these, the number of findings which prove that history has vanished.
    pub of_history: u64,
    /// The number of files that were read: objects and second copies.
    pub files: u64,
    /// The total size of the undamaged ones among these files, in bytes.
    pub bytes_read: u64,
    /// The number of projects that were checked.
    pub projects: u64,
    /// The number of objects that the logs name, and that must exist.
    pub required: u64,
    /// Whether the log has the entry of the statement, and no object that must exist is missing or
    /// damaged (see [`PublicLog::required`]). `None` without a statement.
    pub statement_holds: Option<bool>,
}

/// The names and the sizes in bytes of the files of one object: the object itself, then its second
/// copy. `None` if there is no such file.
type Files = [Option<(Name, u64)>; 2];

struct Task<'a> {
    objects: &'a Objects,
    context: &'a Context<'a>,
    report: KeylessReport,
    history: VanishedHistory,
    each: &'a mut dyn FnMut(&Finding),
    /// Objects that were reported as damaged or foreign.
    reported: HashSet<ObjectRef>,
}

/// Checks all projects of a repository. Damage is reported through `each`. `Err` means that the
/// check itself failed.
pub fn check_keyless(
    objects: &Objects,
    statement: Option<&Statement>,
    context: &Context<'_>,
    each: &mut dyn FnMut(&Finding),
) -> Result<KeylessReport, OpsError> {
    let mut task = Task {
        objects,
        context,
        report: KeylessReport::default(),
        history: VanishedHistory::default(),
        each,
        reported: HashSet::new(),
    };
    let projects = repo::projects(objects)?;
    let mut files = task.files(&projects)?;
    let first = &files[&ObjectRef::Repository];
    if first.iter().all(Option::is_none) && projects.is_empty() {
        let location = objects.location().to_owned();
        return Err(RepoError::NoRepository { location }.into());
    }
    task.read(&mut files)?;
    if projects.is_empty() {
        let object = ObjectRef::Repository;
        let source = Damage::Impossible("the repository has no project");
        task.damaged(object, RepoError::Damaged { object, source });
    }
    if let Some(statement) = statement
        && !projects.contains(&statement.project)
    {
        task.broken(StatementFault::NoProject);
    }
    for project in projects {
        let of_project = statement.filter(|statement| statement.project == project);
        task.project(project, of_project, &files)?;
    }
    Ok(task.report)
}

impl Task<'_> {
    fn found(&mut self, finding: &Finding) {
        self.report.errors += 1;
        self.history.note(finding);
        self.report.of_history = self.history.proven();
        (self.each)(finding);
    }

    fn broken(&mut self, fault: StatementFault) {
        self.report.statement_holds = Some(false);
        self.found(&Finding::StatementBroken { fault });
    }

    fn damaged(&mut self, object: ObjectRef, problem: RepoError) {
        if self.reported.insert(object) {
            self.found(&match problem {
                RepoError::Foreign { .. } => Finding::ObjectForeign {
                    object,
                    problem: Arc::new(problem),
                },
                _ => Finding::ObjectDamaged {
                    object,
                    problem: Arc::new(problem),
                },
            });
        }
    }

    /// Lists all objects. Includes the repository file and the project objects even if they are
    /// missing.
    fn files(&self, projects: &[ProjectId]) -> Result<HashMap<ObjectRef, Files>, OpsError> {
        let mut files: HashMap<ObjectRef, Files> = HashMap::new();
        for (object, is_second, info) in self.objects.list("")? {
            let both = files.entry(object).or_default();
            both[usize::from(is_second)] = Some((info.name, info.size));
        }
        let of_projects = projects.iter().map(|id| ObjectRef::Project(*id));
        for object in of_projects.chain([ObjectRef::Repository]) {
            files.entry(object).or_default();
        }
        Ok(files)
    }

    /// Reads all files except leases, in the order of their names. Removes from `files` those that
    /// were deleted meanwhile.
    fn read(&mut self, files: &mut HashMap<ObjectRef, Files>) -> Result<(), OpsError> {
        // The name of a lease is no hash, so a lease cannot be verified without a key.
        let readable = files.iter().flat_map(|(object, both)| {
            let is_lease = matches!(object, ObjectRef::Lease(..));
            both.iter()
                .flatten()
                .map(move |file| (*object, file))
                .filter(move |_| !is_lease)
        });
        let mut readable: Vec<_> = readable.collect();
        readable.sort_unstable_by(|a, b| a.1.cmp(b.1));
        let total: u64 = readable.iter().map(|(_, (_, size))| size).sum();
        let done = AtomicU64::new(0);
        let (bad, gone) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        let bytes_read = AtomicU64::new(0);
        let (objects, context) = (self.objects, self.context);
        thread_pool(context.threads.min(READERS_MAX))?.install(|| {
            // Each thread takes one file at a time. Otherwise, one thread would read several packs
            // alone at the end.
            let readable = readable.par_iter().with_max_len(1);
            readable.try_for_each(|(object, (name, size))| {
                context.cancel.check()?;
                match damage(repo::verify_stored(
                    objects,
                    *object,
                    name,
                    *size,
                    context.cancel,
                ))? {
                    Some(Damaged(error)) if error.is_missing() => {
                        lock(&gone).push((*object, name.clone()));
                    }
                    Some(Damaged(error)) => {
                        lock(&bad).insert(name.clone(), error);
                    }
                    None => {
                        bytes_read.fetch_add(*size, Ordering::Relaxed);
                    }
                }
                let done = done.fetch_add(*size, Ordering::Relaxed) + size;
                context.observer.progress(Progress {
                    phase: Phase::CheckData,
                    done,
                    total: Some(total),
                });
                Ok::<(), RepoError>(())
            })
        })?;
        let gone = recover(gone.into_inner());
        let mut bad = recover(bad.into_inner());
        self.report.files = (readable.len() - gone.len()) as u64;
        self.report.bytes_read = bytes_read.into_inner();
        if !gone.is_empty() {
            let now = self.files(&[])?;
            for (object, name) in gone {
                let is_name = |file: &&(Name, u64)| file.0 == name;
                let listed = now
                    .get(&object)
                    .map(|both| both.iter().flatten().find(is_name));
                if listed.flatten().is_some() {
                    let source = Damage::Impossible("the store lists it, but does not return it");
                    bad.insert(name, RepoError::Damaged { object, source });
                } else if let Some(both) = files.get_mut(&object) {
                    for file in both.iter_mut() {
                        file.take_if(|file| file.0 == name);
                    }
                }
            }
            files
                .retain(|object, both| both.iter().any(Option::is_some) || object.hash().is_none());
        }
        self.report_files(files, bad)
    }

    /// Reports the files that are not whole, and the missing files of objects that are kept twice.
    fn report_files(
        &mut self,
        files: &HashMap<ObjectRef, Files>,
        mut bad: BTreeMap<Name, RepoError>,
    ) -> Result<(), OpsError> {
        let mut objects: Vec<_> = files
            .iter()
            .map(|(object, f)| (object.name(), *object, f))
            .collect();
        objects.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (first, object, both) in objects {
            if !object.kind().info().kept_twice {
                if let Some(error) = bad.remove(&first) {
                    self.damaged(object, error);
                }
                continue;
            }
            let names = [first, object.copy_name()];
            let errors = names.each_ref().map(|name| bad.remove(name));
            let missing = || RepoError::Damaged {
                object,
                source: Damage::Missing,
            };
            let [one, two] = [0, 1].map(|n| both[n].is_none().then(missing));
            let [first_error, second_error] = errors;
            match [one.or(first_error), two.or(second_error)] {
                [None, None] => {
                    if object.hash().is_none()
                        && let Some(Damaged(error)) = damage(self.compare(object, &names))?
                    {
                        self.damaged(object, error);
                    }
                }
                [Some(error), Some(_)] => self.damaged(object, error),
                [first_error, second_error] => {
                    let is_second = second_error.is_some();
                    if let Some(problem) = first_error.or(second_error) {
                        self.found(&Finding::CopyDamaged {
                            object,
                            name: names[usize::from(is_second)].to_string(),
                            is_second,
                            problem: Arc::new(problem),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares the repository file or a project object with its second copy. Fails with
    /// [`RepoError::Damaged`] if they differ, or if one of them is damaged or not readable.
    fn compare(&self, object: ObjectRef, names: &[Name; 2]) -> Result<(), RepoError> {
        let read = |name| repo::read_stored(self.objects, object, name, COPY_MAX);
        let [one, two] = names;
        if read(one)? == read(two)? {
            return Ok(());
        }
        let source = Damage::Impossible("its two copies differ");
        Err(RepoError::Damaged { object, source })
    }

    /// Verifies that the log of a project is complete, and that every object that the log requires
    /// exists.
    fn project(
        &mut self,
        project: ProjectId,
        statement: Option<&Statement>,
        files: &HashMap<ObjectRef, Files>,
    ) -> Result<(), OpsError> {
        self.report.projects += 1;
        let authority = match repo::authority(self.objects, project, &*self.context.observer) {
            Ok(authority) => authority,
            Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
                self.damaged(ObjectRef::Project(project), error);
                if statement.is_some() {
                    self.broken(StatementFault::Unreadable);
                }
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if statement.is_some_and(|statement| !statement.is_signed_by(&authority)) {
            self.broken(StatementFault::OtherKey);
            return Ok(());
        }
        let mut log = PublicLog::load(self.objects, project, &authority)?;
        let entry = statement.and_then(|statement| {
            let mut entries = log.entries();
            entries.find(|(hash, number)| statement.is_of(hash, *number))
        });
        let entry = entry.map(|(hash, _)| hash);
        if statement.is_some() && entry.is_none() {
            self.broken(StatementFault::NoEntry);
        }
        let mut batched = self.batched(project)?;
        let exists = |files: &HashMap<_, Files>, batched: &HashSet<_>, item: &LogItem| {
            let object = ObjectRef::of_log(project, *item);
            object.is_none_or(|object| files.contains_key(&object) || batched.contains(&object))
        };
        let required = log.required(entry);
        self.report.required += required.len() as u64;
        let mut missing: Vec<LogItem> = required.clone();
        missing.retain(|item| !exists(files, &batched, item));
        if !missing.is_empty() {
            // The missing objects may have been stored since the store was listed, or log entries
            // may have removed them.
            batched.extend(self.batched(project)?);
            let now = self.files(&[])?;
            missing.retain(|item| !exists(&now, &batched, item));
            log = PublicLog::load(self.objects, project, &authority)?;
            let required: HashSet<LogItem> = log.required(entry).into_iter().collect();
            missing.retain(|item| required.contains(item));
        }
        for problem in log.take_problems() {
            if let Some(hash) = problem.object_hash() {
                self.damaged(ObjectRef::Log(project, hash), problem);
            }
        }
        for entry in log.missing() {
            // A damaged entry has not vanished.
            if !self.reported.contains(&ObjectRef::Log(project, entry)) {
                self.found(&Finding::EntryVanished { entry });
            }
        }
        for entry in log.miscounted().collect::<Vec<_>>() {
            let object = ObjectRef::Log(project, entry);
            let source = Damage::Impossible(
                "its number is not one more than the largest of the entries before it",
            );
            self.damaged(object, RepoError::Damaged { object, source });
        }
        if entry.is_some() {
            let is_damaged = |item: &LogItem| {
                let object = ObjectRef::of_log(project, *item);
                object.is_some_and(|object| self.reported.contains(&object))
            };
            let holds = missing.is_empty() && !required.iter().any(is_damaged);
            self.report.statement_holds = Some(holds);
        }
        for item in missing {
            self.missing(project, item);
        }
        Ok(())
    }

    /// Returns the objects in the batches of a project. Reports the damaged batches.
    fn batched(&mut self, project: ProjectId) -> Result<HashSet<ObjectRef>, OpsError> {
        let (objects, problems) = self.objects.verify_batches(project)?;
        for problem in problems {
            if let Some(hash) = problem.object_hash() {
                self.damaged(ObjectRef::Batch(project, hash), problem);
            }
        }
        Ok(objects.into_iter().collect())
    }

    fn missing(&mut self, project: ProjectId, item: LogItem) {
        let Some(object) = ObjectRef::of_log(project, item) else {
            return;
        };
        let finding = match item.kind {
            LogKind::Record => Finding::RecordVanished {
                record: item.hash,
                volume: None,
            },
            LogKind::Certificate => Finding::CertificateVanished {
                certificate: item.hash,
            },
            LogKind::ChunkPack | LogKind::TreePack => Finding::PackMissing { pack: object },
            _ => Finding::from_error(RepoError::Damaged {
                object,
                source: Damage::Missing,
            }),
        };
        self.found(&finding);
    }
}

/// An error that means damage of one object.
struct Damaged(RepoError);

/// Separates damage from errors that stop the check. Returns `None` if there is neither.
fn damage(read: Result<(), RepoError>) -> Result<Option<Damaged>, RepoError> {
    match read {
        Ok(()) => Ok(None),
        Err(error @ (RepoError::Damaged { .. } | RepoError::Unsupported { .. })) => {
            Ok(Some(Damaged(error)))
        }
        Err(error) => Err(error),
    }
}
