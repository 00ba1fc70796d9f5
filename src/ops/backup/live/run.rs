//! The steps of the backup of an image in a cluster.

use std::num::NonZeroU64;

use jiff::Timestamp;

use super::change_list::{list_changes, no_base, notice_result};
use super::kept::KeptSnapshots;
use super::labels::labels_of;
use super::luks::{Beginning, says_encrypted};
use super::plan::{Plan, Wishes, require_same_image};
use super::tracking::{TrackingSnapshot, remove_older};
use crate::base::{Cancel, FullRead, ImageEvent, Notice, join};
use crate::format::{Counts, ImageMetadata, RbdIdentity};
use crate::ops::backup::diff::{ExportInfo, ListedChanges, backup_export};
use crate::ops::backup::options::{BackupOptions, BackupReport};
use crate::ops::backup::protect::Protection;
use crate::ops::backup::record::load;
use crate::ops::backup::snapshots::notice_labels;
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::image_backups::{all_of_image, changes_in_row, distrusted_by};
use crate::ops::image_mark::ImageMark;
use crate::repo::{Backup, Project, Records};
use crate::volume::{
    ExportEnd, ExportedSnapshot, ImageState, LiveImage, RbdError, RbdErrorKind, Snapshot,
};

/// How to back up an image in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// The snapshot to back up. If it is given, no snapshot is made or removed. `None` means that a
    /// new snapshot is made and backed up.
    pub snapshot: Option<String>,
    /// How many snapshots of this program stay on the image, the new one included. With 0, the next
    /// backup reads everything.
    pub keep_snapshots: usize,
    /// Read everything, even if the cluster knows what changed.
    pub full: bool,
    /// Read everything if otherwise this number of backups in a row, the new one included, would
    /// read only changes.
    pub full_every: Option<NonZeroU64>,
    /// Back up the image even if a restore to it was interrupted, so that it has a mixture of
    /// contents.
    pub allow_mixture: bool,
    /// The point in time that the snapshot has in common with those of other images; `None` if the
    /// image is backed up alone.
    pub point: Option<Point>,
}

/// A point in time that the snapshots of several images have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The id of the group. It is the same for all of these images.
    pub group: String,
    /// Whether the users of the images had written all their data and were frozen at that time.
    pub is_quiesced: bool,
}

/// Backs up an image in a cluster. `state` is the state of the image, which the caller has just
/// read.
///
/// If the backup fails, removes the snapshot that it made. If older snapshots cannot be removed
/// after the backup, sends a notice, and the backup still succeeds.
pub fn backup_image(
    project: &Project,
    image: &LiveImage<'_>,
    state: &ImageState,
    live: &LiveOptions,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let prepared = PreparedBackup::begin(project, image, state, live, options, context)?;
    let tracking = match &live.snapshot {
        Some(_) => None,
        None => Some(prepared.make_snapshot(context.cancel)?),
    };
    prepared.back_up(tracking)
}

/// A backup of an image that is ready for its snapshot: all earlier steps are done.
pub(super) struct PreparedBackup<'a> {
    project: &'a Project,
    image: &'a LiveImage<'a>,
    state: &'a ImageState,
    live: &'a LiveOptions,
    options: &'a BackupOptions,
    context: &'a Context<'a>,
    protection: Protection<'a>,
    records: Records,
}

impl<'a> PreparedBackup<'a> {
    /// Takes a lease, and then loads the records. Must be called before the snapshot is made, since
    /// the new backup follows these records. Fails if the image cannot be backed up.
    pub(super) fn begin(
        project: &'a Project,
        image: &'a LiveImage<'a>,
        state: &'a ImageState,
        live: &'a LiveOptions,
        options: &'a BackupOptions,
        context: &'a Context<'a>,
    ) -> Result<Self, OpsError> {
        project
            .may_back_up(&options.volume, &*context.observer)
            .map_err(OpsError::from)?;
        notice_flags(image, None, &state.flags, context);
        let protection = Protection::begin(project, options, context)?;
        let records = load(project, context)?;
        require_same_image(&records, options, &state.identity)?;
        if live.snapshot.is_none() && state.is_mirror {
            let name = image.name();
            return Err(OpsError::MirroredImage { name });
        }
        Ok(Self {
            project,
            image,
            state,
            live,
            options,
            context,
            protection,
            records,
        })
    }

    /// Makes the snapshot to back up. Fails if `cancel` is set before the snapshot is made.
    pub(super) fn make_snapshot(&self, cancel: &Cancel) -> Result<TrackingSnapshot<'a>, OpsError> {
        // The name of a snapshot contains the time in seconds. So the snapshot of an earlier backup
        // that began in this second may have the same name.
        let earlier = all_of_image(&self.records, &self.state.identity);
        let taken = earlier.filter_map(|(_, backup)| backup.snapshot().map(ToString::to_string));
        TrackingSnapshot::create(
            self.image,
            self.project,
            taken.collect(),
            self.context,
            cancel,
        )
    }

    /// Backs up the new snapshot `tracking`. If it is `None`, backs up the snapshot that the
    /// options name.
    pub(super) fn back_up(
        self,
        tracking: Option<TrackingSnapshot<'_>>,
    ) -> Result<BackupReport, OpsError> {
        let Self {
            project,
            image,
            state,
            live,
            options,
            context,
            mut protection,
            records,
        } = self;
        back_up_snapshot(
            project,
            &mut protection,
            &records,
            image,
            state,
            live,
            tracking,
            options,
            context,
        )
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one operation, used once each"
)]
fn back_up_snapshot(
    project: &Project,
    protection: &mut Protection<'_>,
    records: &Records,
    image: &LiveImage<'_>,
    state: &ImageState,
    live: &LiveOptions,
    tracking: Option<TrackingSnapshot<'_>>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<BackupReport, OpsError> {
    let (metadata, snapshots) = join(
        || image.metadata(context.cancel),
        || image.snapshots(context.cancel),
    );
    let snapshots = snapshots?;
    let wanted = tracking.as_ref().map(TrackingSnapshot::name);
    let wanted = wanted.or(live.snapshot.as_deref()).unwrap_or_default();
    let target = find(image, &snapshots, wanted)?;
    let wishes = Wishes {
        volume: &options.volume,
        full: live.full || options.reread,
        full_every: live.full_every,
    };
    let is_distrusted = distrusted_by(project, records, &state.identity).is_some();
    let plan = Plan::choose(
        project,
        records,
        wishes,
        &state.identity,
        &snapshots,
        target,
    );
    let (mut listed, mut may_correct) = (None, false);
    let (base, from) = match plan {
        Plan::Existing(existing) => {
            notice_labels(existing, options, context);
            return Ok(existing_report(existing));
        }
        Plan::Changes(base, from) => (Some(base), Some(from)),
        Plan::Everything(why, Some((base, from))) => {
            notice_full(image, why, context);
            may_correct = from.id == target.id;
            if !options.dry_run {
                listed = list_changes(image, &state.identity, (base, &from), target, context)?;
            }
            (None, None)
        }
        Plan::Everything(why, None) => {
            if (wishes.full || wishes.full_every.is_some() || is_distrusted)
                && !matches!(why, FullRead::First)
            {
                no_base(image, &why, context);
            }
            notice_full(image, why, context);
            (None, None)
        }
    };
    let (report, end) = export(
        project,
        protection,
        records,
        image,
        (state, live),
        (base, from),
        (target, tracking.as_ref().map(TrackingSnapshot::time)),
        (listed, is_distrusted, may_correct),
        metadata_of(metadata, image, live, context)?,
        options,
        context,
    )?;
    notice_result(image, &report, is_distrusted, context);
    if let Some(tracking) = tracking
        && report.id.is_some()
    {
        if live.keep_snapshots > 0 {
            tracking.keep();
        }
        let kept = KeptSnapshots {
            project,
            records,
            identity: &state.identity,
            lease: protection.lease(),
        };
        let (found, keep) = (&end.snapshots, live.keep_snapshots);
        remove_older(image, project, found, target, keep, &kept, context);
    }
    Ok(report)
}

/// Exports the changes or all data, stores them, and commits the backup. Returns the report, and
/// the state of the image after the export.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one operation, used once each"
)]
fn export(
    project: &Project,
    protection: &mut Protection<'_>,
    records: &Records,
    image: &LiveImage<'_>,
    (state, live): (&ImageState, &LiveOptions),
    (base, from): (Option<&Backup>, Option<ExportedSnapshot>),
    (target, time): (&Snapshot, Option<Timestamp>),
    (listed, is_distrusted, may_correct): (Option<ListedChanges>, bool, bool),
    metadata: Option<ImageMetadata>,
    options: &BackupOptions,
    context: &Context<'_>,
) -> Result<(BackupReport, ExportEnd), OpsError> {
    let info = ExportInfo {
        identity: RbdIdentity {
            snapshot_id: Some(target.id),
            ..state.identity.clone()
        },
        image: state.image.clone(),
        metadata,
        from: from.as_ref().map(|from| from.name.clone()),
        to: target.name.clone(),
        size: target.size,
        protected: target.protected,
        time,
        group: live.point.as_ref().map(|point| point.group.clone()),
        is_quiesced: live.point.as_ref().is_some_and(|point| point.is_quiesced),
        listed,
        is_distrusted,
        may_correct,
        changes_in_row: base.map_or(0, |base| changes_in_row(records, base).saturating_add(1)),
    };
    let mut labels = labels_of(image.image_name(), info.metadata.as_ref());
    labels.extend(options.labels.clone());
    let options = BackupOptions {
        labels,
        base: base.map(|base| base.id.to_string()),
        // The numbers of the snapshots prove that the changes build on this backup.
        force_base: base.is_some(),
        ..options.clone()
    };
    let to = ExportedSnapshot {
        id: target.id,
        name: target.name.clone(),
    };
    let says_encrypted = says_encrypted(info.metadata.as_ref());
    let mut export = image.export(&state.identity, from.as_ref(), &to, context.cancel)?;
    let mut stream = Beginning::of(&mut export);
    let stored = backup_export(
        project,
        protection,
        records,
        &mut stream,
        info,
        &options,
        context,
    );
    // Send this notice only with full reads, and not again with each backup of changes.
    if from.is_none() && (says_encrypted || stream.is_luks()) {
        notice(image, ImageEvent::Encrypted, context);
    }
    let end = export.take_end();
    if let (Some(end), Some(_)) = (&end, &from) {
        notice_flags(image, Some(&target.name), &end.flags, context);
    }
    match (stored, export.take_failure()) {
        // The error of the `rbd` program explains why the stream is not complete.
        (
            Err(
                OpsError::ReadDiff { .. }
                | OpsError::DamagedDiff { .. }
                | OpsError::NotADiff { .. },
            ),
            Some(failure),
        ) => Err(failure.into()),
        (stored, _) => {
            let ended = end.ok_or(OpsError::Internal("the export succeeded without an end"));
            Ok((stored?, ended?))
        }
    }
}

/// Returns the metadata of the image, given the answer of the cluster. `None` if there is none. If
/// the metadata cannot be parsed, sends a notice and returns `None`. Does the same if the Ceph user
/// may only read the image, since Ceph opens an image for writing to list its metadata.
///
/// Fails if the metadata contains the mark of an interrupted restore, unless the options allow that
/// or name a snapshot. Removes the mark from the result.
fn metadata_of(
    answer: Result<Option<ImageMetadata>, RbdError>,
    image: &LiveImage<'_>,
    live: &LiveOptions,
    context: &Context<'_>,
) -> Result<Option<ImageMetadata>, OpsError> {
    let mut metadata = match answer {
        Err(error) if matches!(error.kind, RbdErrorKind::BadAnswer | RbdErrorKind::Denied) => {
            let problem = error.to_string();
            notice(image, ImageEvent::NoMetadata { problem }, context);
            return Ok(None);
        }
        other => other?.unwrap_or_default(),
    };
    match ImageMark::take_from(&mut metadata) {
        // A given snapshot may be older than the restore.
        Some(mark) if live.snapshot.is_none() && !live.allow_mixture => Err(OpsError::MixedImage {
            name: image.name(),
            backup: mark.backup_id,
            volume: mark.volume,
            time: mark.time,
        }),
        _ => Ok((!metadata.0.is_empty()).then_some(metadata)),
    }
}

fn find<'a>(
    image: &LiveImage<'_>,
    snapshots: &'a [Snapshot],
    name: &str,
) -> Result<&'a Snapshot, RbdError> {
    let found = snapshots.iter().find(|snapshot| snapshot.name == name);
    found.ok_or_else(|| image.no_snapshot(name))
}

/// Returns the report of a backup that exists already.
fn existing_report(existing: &Backup) -> BackupReport {
    BackupReport {
        id: Some(existing.id),
        existing: true,
        time: existing.time,
        snapshot: existing.snapshot().cloned(),
        size: existing.record.content.size,
        counts: Counts::default(),
        base: existing.record.base,
        base_by_name: false,
        verified: None,
        damage: None,
        list_test: None,
    }
}

fn notice(image: &LiveImage<'_>, event: ImageEvent, context: &Context<'_>) {
    let image = image.name();
    context.observer.notice(Notice::Image { image, event });
}

fn notice_full(image: &LiveImage<'_>, why: FullRead, context: &Context<'_>) {
    notice(image, ImageEvent::ReadCompletely(why), context);
}

/// Reports problems of an object map, with the command that repairs them. `snapshot` is `None` for
/// the object map of the image itself.
fn notice_flags(
    image: &LiveImage<'_>,
    snapshot: Option<&str>,
    flags: &[String],
    context: &Context<'_>,
) {
    if flags.is_empty() {
        return;
    }
    let snapshot = snapshot.map(|name| format!("@{name}")).unwrap_or_default();
    let of = format!("{}{snapshot}", image.name());
    let event = ImageEvent::InvalidFlags {
        flags: flags.to_vec(),
        command: format!("{} object-map rebuild {of}", image.shown_rbd()),
        of,
    };
    notice(image, event, context);
}
