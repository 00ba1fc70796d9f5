//! `forget`: plans, shows the plan, and does it unless it was only asked.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Session;
use super::access::Access;
use super::commands::{context, host, open_project, records};
use super::failure::Failure;
use super::message::{ForgetSummary, ForgetVolume, KeptBackup, Message, RemovedBackup};
use super::prune::prune;
use super::request::{Forget, Which};
use crate::base::{Notice, Observer};
use crate::ops::{self, VolumePlan};
use crate::repo::Tombstones;

pub(super) fn perform(session: &Session, access: &Access, request: Forget) -> Result<(), Failure> {
    let dry_run = request.dry_run;
    let (_, project) = open_project(session, access)?;
    let records = records(session, &project)?;
    let tombstones = Tombstones::load(&project)?;
    for error in tombstones.damaged() {
        let problem = error.to_string();
        session.meter.notice(Notice::RecordDamaged { problem });
    }
    let (what, shown_in) = match request.which {
        Which::Others {
            policy,
            volumes,
            utc,
        } => {
            let zone = if utc {
                TimeZone::UTC
            } else {
                TimeZone::system()
            };
            let what = ops::Forget::ByPolicy {
                policy,
                volumes,
                zone: zone.clone(),
            };
            (what, Some(zone))
        }
        Which::These { backups, force } => (ops::Forget::Named { backups, force }, None),
    };
    let plan = ops::plan_forget(&records, &tombstones, &what, Timestamp::now())?;
    let volumes: Vec<_> = plan.volumes.iter().map(|v| shown(v, dry_run)).collect();
    session.output.forget(&volumes, shown_in.as_ref())?;
    if !dry_run {
        ops::forget(&project, &plan, Some(&host()), &context(session, access))?;
    }
    let prunes = request.prune.is_some() && !dry_run;
    if !prunes {
        session.meter.finish();
    }
    session.output.show(&Message::Forget(ForgetSummary {
        backups_removed: plan.removed() as u64,
        dry_run,
    }))?;
    match &request.prune {
        // A plan would count what is not forgotten yet.
        Some(limits) if prunes => prune(session, access, &project, limits, false),
        _ => Ok(()),
    }
}

fn shown(plan: &VolumePlan<'_>, dry_run: bool) -> ForgetVolume {
    let keep = plan.keep.iter().map(|(backup, reasons)| KeptBackup {
        backup_id: backup.id.to_string(),
        time: backup.time,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    });
    let remove = plan.remove.iter().map(|removal| RemovedBackup {
        backup_id: removal.backup.id.to_string(),
        time: removal.backup.time,
        unfinished: removal.unfinished,
    });
    ForgetVolume {
        volume: plan.volume.to_owned(),
        keep: keep.collect(),
        remove: remove.collect(),
        dry_run,
    }
}
