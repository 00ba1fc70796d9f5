//! Deletes the records that a plan removes.

use jiff::Timestamp;

use super::plan::{ForgetPlan, VolumePlan};
use crate::base::ObjectHash;
use crate::format::Tombstone;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::repo::{Project, Records, TombstoneStored, Tombstones};

/// Does what a plan says: a tombstone first, then another look at those of others, then the records go. After a
/// crash in between the next run finishes it. `host` is the name of this one.
pub fn forget(
    project: &Project,
    plan: &ForgetPlan<'_>,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    context.cancel.check()?;
    // What earlier runs left over is named again: they may yet take back what they said.
    let records: Vec<ObjectHash> = plan.removals().map(|removal| removal.backup.id).collect();
    if records.is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let stored = records
        .chunks(Tombstone::RECORDS_MAX)
        .map(|records| Tombstones::put(project, records, now, host, TOOL))
        .collect::<Result<Vec<TombstoneStored>, _>>()?;
    if let Some(volume) = outrun(plan, &Tombstones::load(project)?) {
        for tombstone in stored {
            tombstone.withdraw(project)?;
        }
        return Err(OpsError::LostRace { volume });
    }
    for forgotten in stored.iter().flat_map(TombstoneStored::forgotten) {
        context.cancel.check()?;
        Records::delete(project, forgotten)?;
    }
    Ok(())
}

/// A volume of which this run keeps a backup that another has given up since the plan was made. Of two who
/// contradict each other at least one sees it, since both look after they have put their tombstone.
fn outrun(plan: &ForgetPlan<'_>, now: &Tombstones) -> Option<String> {
    let is_lost = |id| now.names(id) && !plan.tombstones.names(id);
    let keeps_lost = |volume: &&VolumePlan<'_>| volume.keep.iter().any(|(b, _)| is_lost(b.id));
    let volume = plan.volumes.iter().find(keeps_lost);
    volume.map(|volume| volume.volume.to_owned())
}
