//! The command `snapshots`.

use super::backup_image::no_match;
use crate::app::{
    Attempt, Code, Failure, Message, RepositorySettings, SnapshotEntry, SnapshotsRequest,
    SnapshotsSummary, count, open_project, printable,
};
use crate::cli::console::Console;
use crate::ops::{
    SnapshotNeed, SnapshotRemoval, SnapshotUse, SurveyScope, SurveyedImage, remove_snapshots,
    survey,
};
use crate::volume::RbdClient;

pub(super) fn snapshots(
    console: &Console,
    settings: &RepositorySettings,
    request: &SnapshotsRequest,
) -> Result<(), Failure> {
    let attempt = match request.remove {
        Some(_) => Attempt::RemoveSnapshots,
        None => Attempt::Status,
    };
    let (_, project) = open_project(&console.session, settings, attempt)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let client = RbdClient::new(request.cluster.clone());
    let scope = match &request.images {
        Some(pattern) => SurveyScope::Matching(&pattern.0),
        None => SurveyScope::OfPools,
    };
    let mut outcomes = Vec::new();
    let found = if let Some(which) = request.remove {
        let mut each = |image: &SurveyedImage, of: &SnapshotUse, removal: &SnapshotRemoval| {
            let problem = match removal {
                SnapshotRemoval::Removed => None,
                SnapshotRemoval::Protected => {
                    let rbd = client.options().shown();
                    Some(format!(
                        "it is protected: “{rbd} snap unprotect” removes the protection"
                    ))
                }
                SnapshotRemoval::Failed(error) => Some(error.to_string()),
            };
            let is_failure = matches!(removal, SnapshotRemoval::Failed(_));
            let key = (image.identity.image_id.clone(), of.snapshot.id);
            outcomes.push((key, problem, is_failure));
        };
        remove_snapshots(&project, &client, scope, which, &context, &mut each)?
    } else {
        survey(&project, &client, scope, &context)?
    };
    if let Some(pattern) = &request.images
        && found.images.is_empty()
        && found.problems.is_empty()
    {
        return Err(no_match(pattern, client.options()));
    }
    let mut entries = Vec::new();
    for image in &found.images {
        for of in &image.snapshots {
            let key = (image.identity.image_id.clone(), of.snapshot.id);
            let outcome = outcomes.iter().find(|(done, ..)| *done == key);
            let problem = outcome.and_then(|(_, problem, _)| problem.clone());
            entries.push(SnapshotEntry {
                removed: outcome.is_some() && problem.is_none(),
                problem,
                ..entry(image, of)
            });
        }
    }
    console.meter.finish();
    console.output.snapshots(&entries)?;
    let removed = entries.iter().filter(|entry| entry.removed).count();
    let unneeded = entries
        .iter()
        .filter(|entry| entry.unneeded && !entry.removed)
        .count();
    console.output.show(&Message::Snapshots(SnapshotsSummary {
        images: found.images.len(),
        snapshots: entries.len(),
        unneeded,
        removed,
    }))?;
    for (of, error) in &found.problems {
        let failure = Failure::new(
            Code::Failed,
            format!("could not read the snapshots of {of}"),
        );
        console
            .output
            .partial_failure(&failure.caused_by(Some(error)));
    }
    let failed = outcomes.iter().filter(|(.., failed)| *failed).count();
    if failed + found.problems.len() == 0 {
        return Ok(());
    }
    let mut parts = Vec::new();
    if failed > 0 {
        parts.push(format!(
            "{} could not be removed",
            count(failed as u64, "snapshot")
        ));
    }
    if !found.problems.is_empty() {
        let names: Vec<_> = found.problems.iter().map(|(of, _)| printable(of)).collect();
        parts.push(format!(
            "could not read the snapshots of {}",
            names.join(", ")
        ));
    }
    let hint = "the problems are shown above; solve them, then run the command again";
    Err(Failure::new(Code::Partly, parts.join("; ")).hint(hint))
}

fn entry(image: &SurveyedImage, of: &SnapshotUse) -> SnapshotEntry {
    SnapshotEntry {
        image: image.spec.image_path(),
        image_id: image.identity.image_id.clone(),
        in_trash: image.in_trash,
        snapshot: of.snapshot.name.clone(),
        snapshot_id: of.snapshot.id,
        protected: of.snapshot.protected,
        own: of.is_own,
        backup_id: of.backup.as_ref().map(|(id, _)| id.to_string()),
        volume: of.backup.as_ref().map(|(_, volume)| volume.clone()),
        need: match of.need {
            SnapshotNeed::NextBackup => "next_backup",
            SnapshotNeed::OlderBackup => "older_backup",
            SnapshotNeed::MaybeAtWork => "maybe_running",
            SnapshotNeed::NoBackup => "no_backup",
            SnapshotNeed::InTrash => "image_in_trash",
            SnapshotNeed::OtherProject => "other_project",
        },
        unneeded: of.is_unneeded(),
        removed: false,
        problem: None,
    }
}
