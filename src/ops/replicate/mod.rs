//! Copies a repository to another store, without a key. Each object is verified by the hash that
//! names it.
//!
//! At each moment, the copy is a whole repository. Packs are copied first, then the segments that
//! name them. Records, voids and log entries need each other. So they are first stored together in
//! one file, a batch, if they fit. Then each object is stored under its own name, and the batch is
//! deleted.

mod copier;
mod mirror;
mod project;
mod report;
mod same;
mod task;

pub use report::{ReplicateOptions, ReplicateReport, Side};

use super::check::Finding;
use super::context::Context;
use super::error::OpsError;
use super::keyless::check_keyless;
use crate::base::ProjectId;
use crate::repo::{self, ObjectRef, Objects};

use self::task::Task;

/// Copies all projects, or those that `options.project` selects, to `target`. Replaces no file of
/// the target. Deletes objects there only if `options.mirror` is set. Reports damage of either
/// store through `each`. `Err` means that the copy could not be finished. The next attempt uses all
/// that was copied before.
pub fn replicate(
    source: &Objects,
    target: &Objects,
    options: &ReplicateOptions,
    context: &Context<'_>,
    each: &mut dyn FnMut(Side, &Finding),
) -> Result<ReplicateReport, OpsError> {
    let mut projects = repo::projects(source)?;
    let mut vanished = vanished(target, &projects)?;
    if let Some(wanted) = &options.project {
        projects.retain(|id| id.to_string().starts_with(wanted));
        vanished.retain(|id| id.to_string().starts_with(wanted));
        if projects.is_empty() && vanished.is_empty() {
            return Err(OpsError::NoProjectId {
                location: source.location().to_owned(),
                project: wanted.clone(),
            });
        }
    }
    let mut task = Task::new(source, target, options, context, each)?;
    task.repository(&projects)?;
    task.vanished_projects(&vanished, &projects);
    for project in &projects {
        task.project(*project)?;
    }
    let mut report = task.finish()?;
    if options.verify {
        let verified = check_keyless(target, None, context, &mut |found| {
            each(Side::Target, found);
        })?;
        report.files_verified = Some(verified.files);
        report.bytes_verified = Some(verified.bytes_read);
        report.errors += verified.errors;
        report.of_history_in_copy = verified.of_history;
    }
    Ok(report)
}

/// Returns the projects of which the target has the project object, and which are not among those
/// of the source.
fn vanished(target: &Objects, of_source: &[ProjectId]) -> Result<Vec<ProjectId>, OpsError> {
    let mut vanished = repo::projects(target)?;
    let exists = |project: &ProjectId| {
        let object = ObjectRef::Project(*project);
        let names = [object.name(), object.copy_name()];
        names.iter().any(|name| target.backend().size(name).is_ok())
    };
    vanished.retain(|project| !of_source.contains(project) && exists(project));
    Ok(vanished)
}
