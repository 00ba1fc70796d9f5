//! The snapshots that this program makes, so that a later backup can find the changes.

use std::collections::HashSet;

use jiff::Timestamp;

use super::kept::KeptSnapshots;
use crate::base::{Cancel, ImageEvent, Notice};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::snapshot_names::{free_names, is_own};
use crate::repo::Project;
use crate::volume::{LiveImage, RbdErrorKind, Snapshot};

/// The maximum number of names to try. Other runs may choose the same names.
const ATTEMPTS: usize = 6;

/// A new snapshot. Unless it is [kept](Self::keep), it is removed when this value is dropped.
pub(super) struct TrackingSnapshot<'a> {
    image: &'a LiveImage<'a>,
    context: &'a Context<'a>,
    name: String,
    time: Timestamp,
    /// Whether the snapshot stays, or was removed already.
    kept: bool,
}

impl<'a> TrackingSnapshot<'a> {
    /// Makes a snapshot with a name that is not in `taken`, unless `cancel` stops this.
    pub(super) fn create(
        image: &'a LiveImage<'a>,
        project: &Project,
        mut taken: HashSet<String>,
        context: &'a Context<'a>,
        cancel: &Cancel,
    ) -> Result<Self, OpsError> {
        let time = Timestamp::now();
        let mut exists = OpsError::Internal("no name for a snapshot");
        for _ in 0..ATTEMPTS {
            let Some(name) = free_names(time, project.id, &taken).next() else {
                break;
            };
            match image.create_snapshot(&name, cancel) {
                Err(error) if error.kind == RbdErrorKind::Exists => {
                    exists = error.into();
                    // Killed runs may have left many snapshots.
                    let listed = image.snapshots(cancel)?;
                    taken.extend(listed.into_iter().map(|snapshot| snapshot.name));
                    taken.insert(name);
                }
                // The cluster has certainly not made the snapshot.
                Err(error)
                    if matches!(
                        error.kind,
                        RbdErrorKind::NotStarted
                            | RbdErrorKind::NotFound
                            | RbdErrorKind::Denied
                            | RbdErrorKind::BadArgument
                    ) =>
                {
                    return Err(error.into());
                }
                made => {
                    let kept = false;
                    let mut snapshot = Self {
                        image,
                        context,
                        name,
                        time,
                        kept,
                    };
                    // Even if the command failed, the cluster may have made the snapshot, or may
                    // still make it.
                    if let Err(error) = made {
                        snapshot.remove(cancel);
                        return Err(error.into());
                    }
                    return Ok(snapshot);
                }
            }
        }
        Err(exists)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns when the program began to make the snapshot.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// Keeps the snapshot for the next backup.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }

    /// Removes the snapshot unless it is kept, even if the work was cancelled.
    fn remove(&mut self, cancelled: &Cancel) {
        if std::mem::replace(&mut self.kept, true) {
            return;
        }
        match self.image.remove_snapshot_anyway(&self.name, cancelled) {
            Err(error) if error.kind != RbdErrorKind::NotFound => {
                stays(self.image, &self.name, &error, self.context);
            }
            _ => {}
        }
    }
}

impl Drop for TrackingSnapshot<'_> {
    fn drop(&mut self) {
        self.remove(self.context.cancel);
    }
}

/// Removes the snapshots of earlier backups, except the newest ones: `keep` snapshots stay, and
/// `newest` is one of them. Does not remove snapshots that other programs or projects made, or that
/// other runs need. Does not remove snapshots that are newer than `newest`: a run that is not
/// finished may have made them. Reports failures as notices.
///
/// `listed` are the snapshots of the image after the export, including `newest`.
pub(super) fn remove_older(
    image: &LiveImage<'_>,
    project: &Project,
    listed: &[Snapshot],
    newest: &Snapshot,
    keep: usize,
    kept: &KeptSnapshots<'_>,
    context: &Context<'_>,
) {
    let older = |snapshots: &[Snapshot]| -> Vec<Snapshot> {
        let older = snapshots.iter().rev();
        let older = older.filter(|found| found.id < newest.id && is_own(&found.name, project.id));
        older.skip(keep.saturating_sub(1)).cloned().collect()
    };
    if older(listed).is_empty() {
        return;
    }
    let unneeded = || -> Result<Vec<Snapshot>, OpsError> {
        let others_run = kept.others_run()?;
        let listed_again;
        let mut snapshots = listed;
        if others_run {
            // Since the export, another run may have made a snapshot.
            listed_again = image.snapshots(context.cancel)?;
            snapshots = &listed_again;
        }
        let needed = kept.find(snapshots, newest, others_run)?;
        let mut unneeded = older(snapshots);
        unneeded.retain(|old| !needed.contains(&old.id));
        Ok(unneeded)
    };
    let unneeded = match unneeded() {
        Ok(unneeded) => unneeded,
        Err(error) => {
            let (image, problem) = (image.name(), error.to_string());
            let event = ImageEvent::SnapshotsStay { problem };
            return context.observer.notice(Notice::Image { image, event });
        }
    };
    for old in unneeded {
        match image.remove_snapshot(&old.name, context.cancel) {
            // Another process has removed the snapshot meanwhile.
            Err(error) if error.kind == RbdErrorKind::NotFound => {}
            Err(error) => stays(image, &old.name, &error, context),
            Ok(()) => {}
        }
    }
}

fn stays(
    image: &LiveImage<'_>,
    snapshot: &str,
    error: &dyn std::error::Error,
    context: &Context<'_>,
) {
    let event = ImageEvent::SnapshotStays {
        snapshot: snapshot.to_owned(),
        problem: error.to_string(),
    };
    let image = image.name();
    context.observer.notice(Notice::Image { image, event });
}
