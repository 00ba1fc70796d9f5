//! The command `forget`: plans, shows the plan, and executes it.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::{
    Attempt, ClientMemory, Failure, ForgetRequest, ForgetSelection, ForgetSummary, ForgetVolume,
    KeptBackup, Message, RemovedBackup, RepositorySettings, host_name, notice_damaged,
    open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, Reason, VolumePlan};
use crate::repo::{Backup, HistoryEnds};

use super::prune::{prune_project, refuse_other_losses, require_none_damaged};

pub(super) fn forget(
    console: &Console,
    settings: &RepositorySettings,
    request: ForgetRequest,
) -> Result<(), Failure> {
    let dry_run = request.dry_run;
    let attempt = if request.accept_loss.is_none() {
        Attempt::Forget
    } else {
        Attempt::AcceptLoss
    };
    let (_, project) = open_project(&console.session, settings, attempt)?;
    refuse_other_losses(console, settings, &project, &request.accept_loss)?;
    let host = host_name();
    let (records, log) =
        ops::require_history(&project, &request.accept_loss, Some(&host), dry_run)?;
    notice_damaged(&console.session, records.damaged());
    notice_damaged(&console.session, log.damaged());
    let memory = ClientMemory::new(&console.session, settings);
    let ends = HistoryEnds::of(&records);
    if request.accept_loss.all && !dry_run {
        memory.accept(&project, &ends);
    } else {
        memory.remember(&project, &ends);
    }
    let (what, shown_in) = match request.selection {
        ForgetSelection::NotKeptBy {
            policy,
            volumes,
            labels,
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
                labels,
                zone: zone.clone(),
            };
            (what, Some(zone))
        }
        ForgetSelection::Named { backups, force } => (ops::Forget::Named { backups, force }, None),
    };
    let plan = ops::plan_forget(&records, &log, &what, Timestamp::now())?;
    let volumes: Vec<_> = plan
        .volumes
        .iter()
        .map(|v| volume_message(v, dry_run))
        .collect();
    console.output.forget(&volumes, shown_in.as_ref())?;
    let bytes_freed = if dry_run && plan.removed() > 0 {
        let removed: HashSet<_> = plan.removals().map(|removal| removal.backup.id).collect();
        let is_removed = |backup: &Backup| removed.contains(&backup.id);
        let context = console.session.context(Some(&settings.cache_dir));
        Some(
            ops::space(&project, &records, is_removed, &context)?
                .space
                .exclusive,
        )
    } else {
        None
    };
    if !dry_run {
        ops::forget(
            &project,
            &plan,
            Some(&host),
            &console.session.context(Some(&settings.cache_dir)),
        )?;
    }
    let prunes = request.prune.is_some() && !dry_run;
    if !prunes {
        console.meter.finish();
    }
    console.output.show(&Message::Forget(ForgetSummary {
        backups_removed: plan.removed() as u64,
        dry_run,
        bytes_freed,
        prunes,
    }))?;
    match request.prune {
        // In a dry run, the backups still exist, so a plan of a prune would be wrong.
        Some(prune) if prunes => {
            let damaged = prune_project(console, settings, &project, prune, false)?;
            require_none_damaged(&damaged)
        }
        _ => Ok(()),
    }
}

fn volume_message(plan: &VolumePlan<'_>, dry_run: bool) -> ForgetVolume {
    let is_uncounted = |reasons: &[Reason]| reasons.iter().any(Reason::is_uncounted);
    let uncounted = plan
        .keep
        .iter()
        .filter(|(_, reasons)| is_uncounted(reasons));
    let uncounted = uncounted.map(|(backup, _)| backup.id.to_string());
    let newest = plan.newest.iter().map(|backup| backup.id.to_string());
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
        uncounted: uncounted.collect(),
        newest: newest.collect(),
        dry_run,
    }
}
