//! Exports an RBD diff for `rbd import-diff`: the changes from one backup to another, or all data
//! of one backup.

use crate::base::Phase;
use crate::format::{ContentKind, DiffHeader};
use crate::ops::context::Context;
use crate::ops::error::OpsError;
use crate::ops::restore::{OnDamage, RestoreTask, write_all, write_changes};
use crate::repo::{Backup, Project};
use crate::volume::{DiffTarget, DiffTotals, OutputStream};

/// Names of snapshots for the diff. `None` means the name in the record of the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotNames {
    /// The snapshot on which the diff builds. Ignored for a full diff.
    pub from: Option<Vec<u8>>,
    /// The snapshot that the diff leads to.
    pub to: Option<Vec<u8>>,
}

/// The result of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// The header of the diff.
    pub header: DiffHeader,
    /// The number and size of the diff's extents.
    pub totals: DiffTotals,
    /// The number of bytes that were read from the repository.
    pub fetched: u64,
}

/// Writes the diff that turns the image `from` into the image `to`, and finishes the output. Both
/// backups must be of the same volume. Without `from`, writes a full diff. Does not read the nodes
/// that both trees share.
///
/// After an error or a cancellation, the output is not finished: a stream lacks its end record, and
/// no file appears.
pub fn export_diff(
    project: &Project,
    from: Option<&Backup>,
    to: &Backup,
    names: SnapshotNames,
    output: &mut dyn OutputStream,
    context: &Context<'_>,
) -> Result<ExportReport, OpsError> {
    check(from, to)?;
    let header = DiffHeader {
        from: match from {
            None => None,
            Some(from) => Some(begin(from, names.from)?),
        },
        to: names.to.or_else(|| snapshot(to)),
        size: to.record.content.size,
        protected: None,
    };
    if header.from.is_some() && header.from == header.to {
        let why = "both would have the same snapshot name, and no image can have it twice";
        return Err(no_diff(from, to, why));
    }
    let name = output.name();
    let target = DiffTarget::new(&mut *output, name, &header)?;
    let (phase, on_damage) = (Phase::ExportDiff, OnDamage::Stop);
    let report = RestoreTask::with(project, to, context, phase, on_damage, |task| match from {
        None => write_all(task, &target),
        Some(from) => write_changes(task, from, to.record.content.chunk_size, &target),
    })?;
    let totals = target.totals();
    drop(target);
    output.finish()?;
    Ok(ExportReport {
        totals,
        fetched: report.fetched,
        header,
    })
}

/// Fails if there can be no diff between these backups.
fn check(from: Option<&Backup>, to: &Backup) -> Result<(), OpsError> {
    let is_stream = |backup: &Backup| backup.record.content.kind == ContentKind::Stream;
    let why = match from {
        Some(from) if from.volume != to.volume => "they are of different volumes",
        Some(from) if is_stream(from) || is_stream(to) => "a stream is not an image",
        None if is_stream(to) => "it is a stream, not an image",
        Some(from) if from.record.content.chunk_size != to.record.content.chunk_size => {
            "their chunks have different sizes"
        }
        _ => return Ok(()),
    };
    Err(no_diff(from, to, why))
}

fn no_diff(from: Option<&Backup>, to: &Backup, why: &'static str) -> OpsError {
    OpsError::NoDiff {
        from: from.map_or_else(|| "nothing".to_owned(), call),
        to: call(to),
        why,
    }
}

/// Returns the name that messages use for a backup.
fn call(backup: &Backup) -> String {
    format!("backup {} of “{}”", backup.id, backup.record.volume.name)
}

/// Returns the snapshot from which the diff starts. Fails if neither the user nor the record names
/// one.
fn begin(from: &Backup, chosen: Option<Vec<u8>>) -> Result<Vec<u8>, OpsError> {
    let name = chosen.or_else(|| snapshot(from));
    name.ok_or_else(|| OpsError::NoSnapshot { backup: call(from) })
}

/// Returns the snapshot that a backup is of, if its record names one.
fn snapshot(backup: &Backup) -> Option<Vec<u8>> {
    backup.record.source.as_ref()?.snapshot.as_ref()?.bytes()
}
