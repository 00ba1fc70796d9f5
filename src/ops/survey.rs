//! Finds the images of a cluster of which a project has backups or has made snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backup::{Circumstances, NextBackup, SnapshotUse, snapshot_uses};
use super::context::{Context, READER};
use super::error::OpsError;
use super::history::{AcceptedLoss, require_history};
use crate::base::map_in_threads;
use crate::format::{ByteString, RbdIdentity, matches_pattern};
use crate::repo::{Backup, Lease, Leases, Project, Records, Work, lease_for_reading};
use crate::volume::{LiveImage, RbdClient, RbdError, RbdErrorKind, RbdSpec, Snapshot};

/// The time in which the cluster must answer the first request. If the cluster does not answer,
/// commands that can do without it must not take long.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// The number of requests at the same time. Each start of `rbd` takes a tenth of a second, most of
/// which is waiting.
const REQUESTS: usize = 6;
/// The time between two removals of snapshots, in which the cluster can free some of the data.
const PAUSE: Duration = Duration::from_secs(1);

/// Which images to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SurveyScope<'a> {
    /// Images of which the project has backups, including those in the trash.
    OfBackups,
    /// All images, including those in the trash, of each pool and namespace from which the project
    /// has backups.
    OfPools,
    /// Images whose pool and name match the patterns in this value, and whose namespace is the one
    /// in it. Also images in the trash.
    Matching(&'a RbdSpec),
}

/// An image, and the snapshots of it that matter for the project.
#[derive(Debug, Clone)]
pub struct SurveyedImage {
    /// Its name now; in the trash, the name that it had.
    pub spec: RbdSpec,
    /// The identity of the image.
    pub identity: RbdIdentity,
    /// Whether it is in the trash.
    pub in_trash: bool,
    /// The volume with the newest backup of the image, if there is a backup.
    pub volume: Option<String>,
    /// The data that the next backup of the image will read.
    pub next: NextBackup,
    /// The snapshots that this program made and those of which there is a backup, oldest first.
    pub snapshots: Vec<SnapshotUse>,
}

/// The state of a cluster, as far as it matters for a project.
#[derive(Debug)]
pub struct Survey {
    /// The id of the cluster.
    pub cluster: String,
    /// The images, in the order of their names.
    pub images: Vec<SurveyedImage>,
    /// Images and pools that could not be looked at, and why.
    pub problems: Vec<(String, RbdError)>,
    /// Whether a backup of the project may be running now.
    at_work: bool,
}

/// An image of which only the place, and perhaps the id, is known.
struct Candidate {
    spec: RbdSpec,
    /// The id of the image. If it is not known, the name finds the image.
    id: Option<String>,
    in_trash: bool,
}

/// An image and all of its snapshots.
struct Found {
    spec: RbdSpec,
    identity: RbdIdentity,
    in_trash: bool,
    snapshots: Vec<Snapshot>,
}

/// Returns the newest backup of each image that the records name, in no particular order.
pub(super) fn images_of(records: &Records) -> Vec<(&Backup, &RbdIdentity)> {
    let mut newest: BTreeMap<_, (&Backup, &RbdIdentity)> = BTreeMap::new();
    for backup in records.volumes().flat_map(|name| records.of_volume(name)) {
        let source = backup.record.source.as_ref();
        let Some(of) = source.and_then(|source| source.rbd.as_ref()) else {
            continue;
        };
        let namespace = of.namespace.as_ref().map(ToString::to_string);
        let key = (
            of.cluster.clone(),
            of.pool_id,
            namespace,
            of.image_id.clone(),
        );
        let kept = newest.entry(key).or_insert((backup, of));
        if backup.time >= kept.0.time {
            *kept = (backup, of);
        }
    }
    newest.into_values().collect()
}

/// Looks at the images of a cluster and their snapshots. Changes nothing.
///
/// Images that cannot be opened are named in [`Survey::problems`]. Fails if the cluster cannot be
/// reached.
pub fn survey(
    project: &Project,
    client: &RbdClient,
    scope: SurveyScope<'_>,
    context: &Context<'_>,
) -> Result<Survey, OpsError> {
    look(project, client, scope, None, context)
}

/// Looks at the images of a cluster. `lease` is the lease of this process, if it holds one.
fn look(
    project: &Project,
    client: &RbdClient,
    scope: SurveyScope<'_>,
    lease: Option<&Lease>,
    context: &Context<'_>,
) -> Result<Survey, OpsError> {
    let cancel = context.cancel;
    let cluster = client.fsid_within(FIRST_ANSWER, cancel)?;
    let mut problems = Vec::new();
    let known = Records::load(project).map_err(OpsError::from)?;
    let candidates = candidates(client, &cluster, &known, scope, &mut problems, context)?;
    let look = |candidate: &_| open(client, candidate, context);
    let is_unreachable = |found: &Result<_, RbdError>| {
        let error = found.as_ref().err();
        error.is_some_and(|error| error.kind == RbdErrorKind::Unreachable)
    };
    // After one request without an answer, make no others: each would only take time.
    let mut found = map_in_threads(&candidates, REQUESTS, look, is_unreachable);
    if let Some(unreachable) = found.iter().position(is_unreachable) {
        found.swap_remove(unreachable)?;
    }
    let mut images = Vec::new();
    for (candidate, found) in candidates.iter().zip(found) {
        match found {
            Ok(found) => images.push(found),
            // The image no longer exists, not even in the trash.
            Err(error) if error.is_absent() => {}
            Err(error) => problem(&mut problems, candidate.spec.to_string(), error)?,
        }
    }
    // A running backup holds its lease until its record is stored. So load the leases before the
    // records. Otherwise, a snapshot that it has just made may seem unneeded.
    let leases = Leases::load(project, lease).map_err(OpsError::from)?;
    let at_work = leases.others.iter().any(|l| l.is_held_for(Work::Backup));
    let records = Records::load(project).map_err(OpsError::from)?;
    let volumes = images_of(&records);
    let mut images: Vec<_> = images
        .into_iter()
        .map(|found| {
            let newest = volumes
                .iter()
                .find(|(_, of)| of.same_image(&found.identity));
            let volume = newest.map(|(backup, _)| backup.record.volume.name.clone());
            let name = volume.clone().unwrap_or_else(|| found.spec.image_path());
            let of = Circumstances {
                in_trash: found.in_trash,
                at_work,
            };
            let Found {
                spec,
                identity,
                in_trash,
                snapshots,
            } = found;
            let (next, snapshots) =
                snapshot_uses(project, &records, &identity, &name, &snapshots, of);
            SurveyedImage {
                spec,
                identity,
                in_trash,
                volume,
                next,
                snapshots,
            }
        })
        .collect();
    images.sort_by(|a, b| (&a.spec, a.in_trash).cmp(&(&b.spec, b.in_trash)));
    Ok(Survey {
        cluster,
        images,
        problems,
        at_work,
    })
}

/// Adds the error of one image or pool to `problems`. Fails if no other request can succeed.
fn problem(
    problems: &mut Vec<(String, RbdError)>,
    of: String,
    error: RbdError,
) -> Result<(), OpsError> {
    match error.kind {
        RbdErrorKind::Cancelled | RbdErrorKind::Unreachable | RbdErrorKind::NotStarted => {
            Err(error.into())
        }
        _ => {
            problems.push((of, error));
            Ok(())
        }
    }
}

/// Returns the images to look at, each once.
fn candidates(
    client: &RbdClient,
    cluster: &str,
    records: &Records,
    scope: SurveyScope<'_>,
    problems: &mut Vec<(String, RbdError)>,
    context: &Context<'_>,
) -> Result<Vec<Candidate>, OpsError> {
    let cancel = context.cancel;
    let text = |name: &Option<ByteString>| name.as_ref().map(ToString::to_string);
    let known: Vec<_> = images_of(records)
        .into_iter()
        .map(|(_, of)| of)
        .filter(|of| of.cluster == cluster)
        .collect();
    let mut places: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    if let SurveyScope::Matching(pattern) = scope {
        for pool in client.pool_names(cancel)? {
            if matches_pattern(&pattern.pool, &pool) {
                places.insert((pool, pattern.namespace.clone()));
            }
        }
    } else {
        for of in &known {
            // The images of a pool that was removed no longer exist.
            if let Some(pool) = client.pool_name(of.pool_id, cancel)? {
                places.insert((pool, text(&of.namespace)));
            }
        }
    }
    let mut found = Vec::new();
    for (pool, namespace) in places {
        let place = |image: &str| RbdSpec {
            pool: pool.clone(),
            namespace: namespace.clone(),
            image: image.to_owned(),
            snapshot: None,
        };
        let mut trashed = match client.trash(&pool, namespace.as_deref(), cancel) {
            Ok(trashed) => trashed,
            // A pool that a pattern matches need not have this namespace.
            Err(error) if error.is_absent() => continue,
            Err(error) => {
                problem(problems, format!("the trash of {pool}"), error)?;
                Vec::new()
            }
        };
        let wanted = |name: &str| match scope {
            SurveyScope::Matching(pattern) => matches_pattern(&pattern.image, name),
            SurveyScope::OfBackups | SurveyScope::OfPools => true,
        };
        let named = if scope == SurveyScope::OfBackups {
            let pool_id = client.pool_id(&pool, cancel)?;
            let mut here: Vec<_> = known
                .iter()
                .filter(|of| (of.pool_id, &text(&of.namespace)) == (pool_id, &namespace))
                .collect();
            // The trash may hold thousands of other images. It would take long to open them.
            trashed.retain(|image| here.iter().any(|of| of.image_id == image.id));
            here.retain(|of| trashed.iter().all(|image| image.id != of.image_id));
            let named = |of: &&&RbdIdentity| Candidate {
                spec: place(&text(&of.image).unwrap_or_default()),
                id: Some(of.image_id.clone()),
                in_trash: false,
            };
            here.iter().map(named).collect()
        } else {
            match client.images(&pool, namespace.as_deref(), cancel) {
                Ok(names) => names
                    .iter()
                    .filter(|name| wanted(name))
                    .map(|name| Candidate {
                        spec: place(name),
                        id: None,
                        in_trash: false,
                    })
                    .collect(),
                Err(error) => {
                    problem(problems, format!("the images of {pool}"), error)?;
                    Vec::new()
                }
            }
        };
        found.extend(named);
        let trashed = trashed.into_iter().filter(|image| wanted(&image.name));
        found.extend(trashed.map(|image| Candidate {
            spec: place(&image.name),
            id: Some(image.id),
            in_trash: true,
        }));
    }
    Ok(found)
}

/// Reads the identity and the snapshots of an image.
fn open(
    client: &RbdClient,
    candidate: &Candidate,
    context: &Context<'_>,
) -> Result<Found, RbdError> {
    let image = live(client, &candidate.spec, candidate.id.as_deref());
    let identity = image.state(context.cancel)?.identity;
    let snapshots = image.snapshots(context.cancel)?;
    let name = identity.image.as_ref().map(ToString::to_string);
    Ok(Found {
        spec: RbdSpec {
            image: name.unwrap_or_default(),
            ..candidate.spec.clone()
        },
        identity,
        in_trash: candidate.in_trash,
        snapshots,
    })
}

fn live<'a>(client: &'a RbdClient, spec: &RbdSpec, id: Option<&str>) -> LiveImage<'a> {
    match id {
        Some(id) => LiveImage::with_id(client, spec, id),
        None => LiveImage::new(client, spec),
    }
}

/// Which snapshots to remove, of those that this program made for a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovedSnapshots {
    /// Those that nothing needs.
    Unneeded,
    /// All, so that the images can be removed. The next backup of an image reads all of its data.
    All,
}

/// The outcome of the removal of one snapshot.
#[derive(Debug)]
pub enum SnapshotRemoval {
    /// It was removed, or no longer existed.
    Removed,
    /// It is protected, so that it stays.
    Protected,
    /// It could not be removed.
    Failed(RbdError),
}

/// Looks at the images of a cluster like [`survey`], and removes snapshots that this program made
/// for this project. Protected snapshots stay, since somebody has protected them after they were
/// made. Calls `each` for each snapshot that was to be removed, with the outcome. Pauses between
/// removals, since each of them makes the cluster free data.
///
/// Fails without removing anything if no lease can be stored. The time of a stored lease is needed
/// to recognize running backups. Also fails if records are missing or damaged. If all snapshots are
/// to be removed, fails if a running backup may use one of them.
pub fn remove_snapshots(
    project: &Project,
    client: &RbdClient,
    scope: SurveyScope<'_>,
    which: RemovedSnapshots,
    context: &Context<'_>,
    mut each: impl FnMut(&SurveyedImage, &SnapshotUse, &SnapshotRemoval),
) -> Result<Survey, OpsError> {
    let lease = lease_for_reading(project, &[], READER, &*context.observer)?;
    let lease = lease.ok_or(OpsError::NoLease)?;
    let survey = look(project, client, scope, Some(&lease), context)?;
    // If a record is lost, a snapshot may seem unneeded, although its data exists nowhere else.
    let (mut records, _) = require_history(project, &AcceptedLoss::default(), None, true)?;
    if let Some(error) = records.take_damaged().into_iter().next() {
        return Err(error.into());
    }
    if which == RemovedSnapshots::All && survey.at_work {
        return Err(OpsError::BackupRuns);
    }
    let is_chosen = |of: &&SnapshotUse| match which {
        RemovedSnapshots::Unneeded => of.is_unneeded(),
        RemovedSnapshots::All => of.is_own,
    };
    let mut removed = 0;
    for image in &survey.images {
        let chosen: Vec<_> = image.snapshots.iter().filter(is_chosen).collect();
        if chosen.is_empty() {
            continue;
        }
        let live = live(client, &image.spec, Some(&image.identity.image_id));
        for found in chosen {
            if found.snapshot.protected {
                each(image, found, &SnapshotRemoval::Protected);
                continue;
            }
            if removed > 0 {
                context.cancel.sleep(PAUSE)?;
            }
            removed += 1;
            let outcome = match remove(&live, &found.snapshot, context) {
                Err(error) if error.kind == RbdErrorKind::Cancelled => return Err(error.into()),
                Err(error) if !error.is_absent() => SnapshotRemoval::Failed(error),
                Ok(()) | Err(_) => SnapshotRemoval::Removed,
            };
            each(image, found, &outcome);
        }
    }
    Ok(survey)
}

/// Removes a snapshot. Fails if this snapshot no longer exists, even if another one has its name by
/// now.
fn remove(
    image: &LiveImage<'_>,
    snapshot: &Snapshot,
    context: &Context<'_>,
) -> Result<(), RbdError> {
    let now = image.snapshots(context.cancel)?;
    let is_it = |found: &&Snapshot| (found.id, &found.name) == (snapshot.id, &snapshot.name);
    match now.iter().find(is_it) {
        Some(_) => image.remove_snapshot(&snapshot.name, context.cancel),
        None => Err(image.no_snapshot(&snapshot.name)),
    }
}
