//! Deletes the records that a plan removes.

use jiff::Timestamp;

use super::plan::{ForgetPlan, VolumePlan};
use crate::base::ObjectHash;
use crate::format::Tombstone;
use crate::ops::context::{Context, TOOL};
use crate::ops::error::OpsError;
use crate::repo::{Project, Records, TombstoneStored, Tombstones};

/// Executes a plan: stores a tombstone, reads the tombstones of others, and then deletes the
/// records. If it is interrupted, the next `forget` finishes it. `host` is the name of this host.
pub fn forget(
    project: &Project,
    plan: &ForgetPlan<'_>,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<(), OpsError> {
    context.cancel.check()?;
    // Records that earlier runs left over are named again: those runs may still withdraw their
    // tombstones.
    let records: Vec<ObjectHash> = plan.removals().map(|removal| removal.backup.id).collect();
    if records.is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let stored = records
        .chunks(Tombstone::RECORDS_MAX)
        .map(|records| Tombstones::put(project, records, now, host, TOOL))
        .collect::<Result<Vec<TombstoneStored>, _>>()?;
    if let Some(volume) = lost_volume(plan, &Tombstones::load(project)?) {
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

/// Returns a volume of which this run keeps a backup that another run removed after the plan was
/// made. Of two runs that contradict each other at least one notices, since both look after they
/// have stored their tombstones.
fn lost_volume(plan: &ForgetPlan<'_>, now: &Tombstones) -> Option<String> {
    let is_lost = |id| now.names(id) && !plan.tombstones.names(id);
    let keeps_lost = |volume: &&VolumePlan<'_>| volume.keep.iter().any(|(b, _)| is_lost(b.id));
    let volume = plan.volumes.iter().find(keeps_lost);
    volume.map(|volume| volume.volume.to_owned())
}
