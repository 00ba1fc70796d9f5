//! When all data of an image is read, asks the cluster for its list of changes, and reports whether
//! this list was complete.

use crate::base::{FullRead, ImageEvent, NotCompared, Notice};
use crate::format::{ExtentList, RbdIdentity};
use crate::ops::backup::diff::ListedChanges;
use crate::ops::backup::options::{BackupReport, ListTest};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::repo::Backup;
use crate::volume::{ExportedSnapshot, LiveImage, RbdErrorKind, Snapshot};

/// Returns the changes from the snapshot of `base` to `target`, as the cluster lists them. If both
/// are the same snapshot, nothing has changed. If the changes cannot be listed, sends a notice and
/// returns `None`: the backup is complete without the list.
pub(super) fn list_changes(
    image: &LiveImage<'_>,
    identity: &RbdIdentity,
    (base, from): (&Backup, &ExportedSnapshot),
    target: &Snapshot,
    context: &Context<'_>,
) -> Result<Option<ListedChanges>, OpsError> {
    if from.id == target.id {
        let listed = ListedChanges::new(base, &ExtentList::default(), target.size);
        return Ok(Some(listed));
    }
    let to = ExportedSnapshot {
        id: target.id,
        name: target.name.clone(),
    };
    match image.changes(identity, from, &to, context.cancel) {
        Ok(listed) => Ok(Some(ListedChanges::new(base, &listed, target.size))),
        Err(error) if error.kind == RbdErrorKind::Cancelled => Err(error.into()),
        Err(error) => {
            not_compared(image, NotCompared::Problem(error.to_string()), context);
            Ok(None)
        }
    }
}

/// Reports that the list of changes is not compared with the data, since no backup can be the base.
pub(super) fn no_base(image: &LiveImage<'_>, why: &FullRead, context: &Context<'_>) {
    not_compared(image, NotCompared::NoBase(why.clone()), context);
}

/// Reports whether the list names all changes that the backup found. Reports nothing if the list
/// was not compared, or if a dry run made no backup. `is_distrusted` is true if an earlier backup
/// found that a list was incomplete.
pub(super) fn notice_result(
    image: &LiveImage<'_>,
    report: &BackupReport,
    is_distrusted: bool,
    context: &Context<'_>,
) {
    let event = match report.list_test.as_ref().filter(|_| report.id.is_some()) {
        None => return,
        Some(ListTest::Failed(problem)) => {
            return not_compared(image, NotCompared::Problem(problem.clone()), context);
        }
        Some(ListTest::Compared { base, missed: None }) => ImageEvent::ChangesComplete {
            base: *base,
            distrusted: is_distrusted,
        },
        Some(ListTest::Compared {
            base,
            missed: Some(missed),
        }) => ImageEvent::ChangesMissed {
            base: *base,
            bytes: missed.bytes,
            first: missed.first,
            command: format!("{} object-map check {}", image.shown_rbd(), image.name()),
        },
    };
    notice(image, event, context);
}

fn not_compared(image: &LiveImage<'_>, why: NotCompared, context: &Context<'_>) {
    notice(image, ImageEvent::ChangesNotCompared(why), context);
}

fn notice(image: &LiveImage<'_>, event: ImageEvent, context: &Context<'_>) {
    let image = image.name();
    context.observer.notice(Notice::Image { image, event });
}
