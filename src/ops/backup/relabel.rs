//! Changes the labels of a backup: a new record replaces the old one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::options::BackupOptions;
use super::pack::pack;
use super::protect::Protection;
use super::record::load;
use super::task::Stored;
use crate::base::ObjectHash;
use crate::format::BackupRecord;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::ops::forget::{Forget, forget, plan_forget};
use crate::repo::{Log, Project, Records, RunLen};

/// Replaces the labels of a backup. Stores a new record with the same content, time and place in
/// the history, and then removes the old record. Returns the id of the new record, or of the old
/// one if it has these labels already.
///
/// If the operation is interrupted after the new record is stored, the new record counts, and the
/// next `forget` removes the old one. Fails for a withdrawn backup. Also fails for a backup by a
/// write key: the new record would be by a full key, as if a full key had verified the data.
pub fn relabel(
    project: &Project,
    id: ObjectHash,
    labels: BTreeMap<String, String>,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<ObjectHash, OpsError> {
    let records = load(project, context)?;
    let backup = records.select(&id.to_string())?;
    if records.is_voided(backup) {
        let base = id.to_string();
        return Err(OpsError::BaseWithdrawn { base });
    }
    if backup.record.labels == labels {
        return Ok(id);
    }
    if !backup.is_full {
        return Err(OpsError::LabelOfWriteKey { backup: id });
    }
    let options = BackupOptions::of_record(&backup.record.volume.name, host);
    let mut protection = Protection::begin(project, &options, context)?;
    // Load the records again: the backup may have been removed before it was protected.
    let records = load(project, context)?;
    let backup = records.select(&id.to_string())?;
    protection.build_on(Some(backup));
    let index = protection.index()?;
    let stored = Stored {
        kind: backup.record.content.kind,
        size: backup.record.content.size,
        top: backup.top,
    };
    let packed = pack(
        project,
        &index,
        &protection,
        &options,
        RunLen::Leaf,
        context,
        |_| Ok((stored, Vec::new())),
    )?;
    let tops: Vec<_> = backup.tops().collect();
    let cleared = protection.clear(&index, &tops)?;
    let cleared = cleared.ok_or(OpsError::Internal("a new record needs a permit"))?;
    let record = BackupRecord {
        replaces: Some(id),
        original: backup.record.original.or(Some(id)),
        heads: records.heads(),
        marks: cleared.marks().to_vec(),
        labels,
        tool: Some(TOOL.to_owned()),
        ..backup.record.clone()
    };
    let receipt = packed.receipt()?;
    let new = Records::commit(project, &record, receipt, &cleared);
    let stays = protection.committed(&cleared);
    // If the commit failed, report its error, even if the call after it failed, too.
    let new = new?;
    stays?;
    index.close();
    let (records, log) = (load(project, context)?, Log::load(project)?);
    let old = Forget::Named {
        backups: vec![id.to_string()],
        force: true,
    };
    let plan = plan_forget(&records, &log, &old, Timestamp::now())?;
    forget(project, &plan, host, context)?;
    Ok(new)
}
