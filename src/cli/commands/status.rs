//! The command `status`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::{
    Attempt, ClientMemory, Code, Failure, ImageStateName, ImageStatusEntry, Message,
    RepositorySettings, StatusRequest, StatusSummary, VolumeStatusEntry, full_read, history_lost,
    open_records, printable,
};
use crate::cli::console::Console;
use crate::format::{RbdIdentity, matches_pattern};
use crate::ops::{NextBackup, OpsError, Survey, SurveyScope, VolumeAge, survey, volume_ages};
use crate::repo::Project;
use crate::volume::{RbdClient, RbdErrorKind};

pub(super) fn status(
    console: &Console,
    settings: &RepositorySettings,
    request: &StatusRequest,
) -> Result<(), Failure> {
    let (project, records) = open_records(&console.session, settings, Attempt::Status)?;
    let now = Timestamp::now();
    let wanted = |age: &VolumeAge<'_>| {
        let patterns = &request.volumes;
        patterns.is_empty() || patterns.iter().any(|p| matches_pattern(p, age.volume))
    };
    let ages: Vec<_> = volume_ages(&records, now)
        .into_iter()
        .filter(wanted)
        .collect();
    if ages.is_empty() && !request.volumes.is_empty() {
        let volume = request.volumes.join(", ");
        return Err(OpsError::NoVolume { volume }.into());
    }
    let has_images = ages.iter().any(|age| age.image.is_some());
    let surveyed = if has_images && !request.offline {
        ask_cluster(console, settings, &project, request)?
    } else {
        Surveyed::NotAsked
    };
    let local = now.to_zoned(TimeZone::system());
    let earliest = request
        .max_age
        .map(|span| span.before(&local).unwrap_or(Timestamp::MIN));
    let entries: Vec<_> = ages
        .iter()
        .map(|age| entry(age, earliest, &surveyed))
        .collect();
    console.meter.finish();
    console.output.volume_statuses(&entries)?;
    let overdue: Vec<_> = entries
        .iter()
        .filter(|entry| entry.overdue == Some(true))
        .map(|entry| entry.volume.clone())
        .collect();
    console.output.show(&Message::VolumeStatus(StatusSummary {
        volumes: entries.len(),
        overdue: earliest.map(|_| overdue.clone()),
        unneeded_snapshots: surveyed.unneeded(),
        removal: request.cluster.shown_for("snapshots") + " --remove-unneeded",
        cluster_problem: surveyed.problem(),
    }))?;
    // The newest backup of a volume may be among the lost ones.
    let lost = ClientMemory::new(&console.session, settings).recorded(&project);
    if !lost.is_empty() {
        return Err(history_lost(&settings.location, &lost));
    }
    if let Some(missing) = records.lost().iter().find(|lost| lost.missing) {
        let message = format!("backup {} is missing, and maybe others", missing.id);
        return Err(Failure::new(Code::HistoryLost, message)
            .hint("run “cuttlebone check”, which names all missing backups"));
    }
    if overdue.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = overdue.iter().map(|name| printable(name)).collect();
    let message = format!("overdue: {}", names.join(", "));
    let from_future = entries
        .iter()
        .any(|entry| entry.overdue == Some(true) && entry.backups_from_future > 0);
    Err(Failure::new(Code::Overdue, message).hint(if from_future {
        "back these volumes up. Some of their backups have times in the future and do not count: \
         compare the clocks of this host and of the hosts that made them"
    } else {
        "back these volumes up, and find out why this did not happen. If a volume is no longer \
         backed up, mark it with “cuttlebone label VOLUME status=retired”, or name only the other \
         volumes"
    }))
}

/// The answer of the cluster.
enum Surveyed {
    NotAsked,
    Done(Survey),
    /// The cluster could not be asked. Contains the reason.
    Failed(String),
}

impl Surveyed {
    /// Returns `IMAGE@SNAPSHOT` of all snapshots that nothing needs.
    fn unneeded(&self) -> Vec<String> {
        let Self::Done(survey) = self else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for image in &survey.images {
            let trash = if image.in_trash {
                " (in the trash)"
            } else {
                ""
            };
            for of in image.snapshots.iter().filter(|of| of.is_unneeded()) {
                let path = image.spec.image_path();
                found.push(format!("{path}@{}{trash}", of.snapshot.name));
            }
        }
        found
    }

    fn problem(&self) -> Option<String> {
        match self {
            Self::NotAsked => None,
            Self::Done(survey) => {
                let all = survey.problems.iter();
                let all: Vec<_> = all.map(|(of, error)| format!("{of}: {error}")).collect();
                (!all.is_empty()).then(|| all.join("; "))
            }
            Self::Failed(problem) => Some(problem.clone()),
        }
    }
}

/// Asks the cluster. If the cluster cannot be asked, returns [`Surveyed::Failed`] rather than an
/// error, since the ages of backups do not depend on the cluster.
fn ask_cluster(
    console: &Console,
    settings: &RepositorySettings,
    project: &Project,
    request: &StatusRequest,
) -> Result<Surveyed, Failure> {
    let context = console.session.context(Some(&settings.cache_dir));
    let client = RbdClient::new(request.cluster.clone());
    match survey(project, &client, SurveyScope::OfBackups, &context) {
        Ok(survey) => Ok(Surveyed::Done(survey)),
        Err(OpsError::Rbd(error)) if error.kind != RbdErrorKind::Cancelled => {
            Ok(Surveyed::Failed(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn entry(
    age: &VolumeAge<'_>,
    earliest: Option<Timestamp>,
    surveyed: &Surveyed,
) -> VolumeStatusEntry {
    let newest = age.newest;
    VolumeStatusEntry {
        volume: age.volume.to_owned(),
        backup_id: newest.map(|backup| backup.id.to_string()),
        time: newest.map(|backup| backup.time),
        age: age.age.map(|age| age.as_secs()),
        size: newest.map(|backup| backup.record.content.size),
        bytes_stored: newest.map(|backup| backup.record.counts.stored),
        host: newest.and_then(|backup| backup.record.host.clone()),
        snapshot: newest.and_then(|backup| backup.snapshot().cloned()),
        overdue: earliest.map(|earliest| age.is_overdue(earliest)),
        retired: age.is_retired,
        backups_from_future: age.from_future,
        image: age.image.map(|identity| image(identity, surveyed)),
    }
}

fn image(identity: &RbdIdentity, surveyed: &Surveyed) -> ImageStatusEntry {
    let names = [&identity.pool, &identity.namespace, &identity.image];
    let names: Vec<_> = names
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let without = |state| ImageStatusEntry {
        name: names.join("/"),
        state,
        next: None,
        reason: None,
        base: None,
        base_snapshot: None,
        snapshots: 0,
    };
    let Surveyed::Done(survey) = surveyed else {
        return without(ImageStateName::Unknown);
    };
    if survey.cluster != identity.cluster {
        return without(ImageStateName::OtherCluster);
    }
    let found = survey
        .images
        .iter()
        .find(|i| i.identity.same_image(identity));
    let Some(found) = found else {
        // If there were problems, this image may exist, although the survey did not find it.
        let is_known = survey.problems.is_empty();
        return without(if is_known {
            ImageStateName::Missing
        } else {
            ImageStateName::Unknown
        });
    };
    let entry = ImageStatusEntry {
        name: found.spec.image_path(),
        snapshots: found.snapshots.iter().filter(|of| of.is_own).count(),
        ..without(ImageStateName::InTrash)
    };
    match &found.next {
        _ if found.in_trash => entry,
        NextBackup::Changes { base, snapshot } => ImageStatusEntry {
            state: ImageStateName::Present,
            next: Some("changes"),
            base: Some(base.to_string()),
            base_snapshot: Some(snapshot.name.clone()),
            ..entry
        },
        NextBackup::Everything { why, .. } => ImageStatusEntry {
            state: ImageStateName::Present,
            next: Some("everything"),
            reason: Some(full_read(why)),
            ..entry
        },
    }
}
