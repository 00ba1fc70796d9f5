//! The command `prune`, which `forget --prune` runs, too: plans a prune, executes the plan, and
//! shows the plan and the result.

use std::time::{Duration, Instant};

use crate::app::{
    Attempt, ClientMemory, Code, Failure, Lost, Message, PackAmount, PrunePlan, PruneRequest,
    PruneSummary, RepositorySettings, count, finding, history_lost, host_name, open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, AcceptedLoss, Amount, PruneOptions, PruneReport};
use crate::repo::{HistoryEnds, Project, Records};

pub(super) fn prune(
    console: &Console,
    settings: &RepositorySettings,
    request: PruneRequest,
    dry_run: bool,
) -> Result<(), Failure> {
    let attempt = if request.accept_loss.is_none() {
        Attempt::Prune
    } else {
        Attempt::AcceptLoss
    };
    let (_, project) = open_project(&console.session, settings, attempt)?;
    refuse_other_losses(console, settings, &project, &request.accept_loss)?;
    let accepts_all = request.accept_loss.all && !dry_run;
    let damaged = prune_project(console, settings, &project, request, dry_run)?;
    if accepts_all {
        let ends = HistoryEnds::of(&Records::load(&project)?);
        ClientMemory::new(&console.session, settings).accept(&project, &ends);
    }
    require_none_damaged(&damaged)
}

/// Damage that a prune found and that did not stop the prune.
pub(super) struct PruneDamage {
    /// The number of packs with damaged data that backups need and that no other pack has. These
    /// packs stay as they are.
    packs: u64,
    /// The number of those that “repair packs” leaves as they are, too.
    packs_left: u64,
    /// The number of backups that need data which no pack has.
    backups: u64,
}

/// Fails if a prune found damage.
pub(super) fn require_none_damaged(damage: &PruneDamage) -> Result<(), Failure> {
    let (mut why, mut hints) = (Vec::new(), Vec::new());
    if damage.packs > 0 {
        let verb = if damage.packs == 1 { "has" } else { "have" };
        let packs = count(damage.packs, "pack");
        why.push(format!(
            "{packs} {verb} damaged data that backups need and that no other pack has"
        ));
        hints.push(match damage.packs_left {
            0 => {
                "such packs stay as they are, which does not affect the prune of other packs; run \
                 “cuttlebone check” to see which backups are affected, and “cuttlebone repair \
                 packs” to save the rest of these packs"
            }
            left if left == damage.packs => {
                "such packs stay as they are, which does not affect the prune of other packs; back \
                 up the volumes that “cuttlebone check” names with --reread, which stores the \
                 damaged data again, and then run “cuttlebone prune”"
            }
            _ => {
                "such packs stay as they are, which does not affect the prune of other packs; run \
                 “cuttlebone repair packs” to save the rest of those that the index names, back up \
                 the volumes that “cuttlebone check” names with --reread, which stores the damaged \
                 data again, and then run “cuttlebone prune”"
            }
        });
    }
    if damage.backups > 0 {
        let verb = if damage.backups == 1 { "lacks" } else { "lack" };
        let backups = count(damage.backups, "backup");
        why.push(format!("{backups} {verb} data that no pack has"));
        hints.push(
            "everything else was pruned, and all that is left of these backups stays; back up \
             their sources again to store the lost data again, or remove them with “cuttlebone \
             forget”",
        );
    }
    if why.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Damage, why.join("; ")).hint(hints.join("; ")))
}

/// Fails if the user accepts losses by name, and this host noticed another loss.
pub(super) fn refuse_other_losses(
    console: &Console,
    settings: &RepositorySettings,
    project: &Project,
    accepted: &AcceptedLoss,
) -> Result<(), Failure> {
    if accepted.is_none() || accepted.all {
        return Ok(());
    }
    let mut lost = ClientMemory::new(&console.session, settings).compare(project)?;
    let is_accepted = |lost: &Lost| {
        lost.id()
            .is_some_and(|id| accepted.objects.iter().any(|name| name.fits(&id)))
    };
    lost.retain(|lost| !is_accepted(lost));
    if lost.is_empty() {
        return Ok(());
    }
    Err(history_lost(&settings.location, &lost))
}

/// Prunes an open project, and shows the plan and the result. Returns the damage that did not stop
/// the prune, for [`require_none_damaged`].
pub(super) fn prune_project(
    console: &Console,
    settings: &RepositorySettings,
    project: &Project,
    request: PruneRequest,
    dry_run: bool,
) -> Result<PruneDamage, Failure> {
    let started = Instant::now();
    let options = PruneOptions {
        max_unused: request.max_unused,
        max_repack: request.max_repack,
        merge_small: request.merge_small,
        grace: request.grace,
        accept_loss: request.accept_loss,
        host: Some(host_name()),
    };
    let context = console.session.context(Some(&settings.cache_dir));
    let prune = ops::plan_prune(project, &options, dry_run, &context)?;
    let plan = plan_message(prune.plan(), &options);
    let (planned_damaged, packs_left) = (prune.plan().damaged, prune.plan().damaged_left);
    let findings: Vec<_> = prune.findings().iter().map(finding).collect();
    let affected: Vec<_> = prune.affected().iter().map(ToString::to_string).collect();
    let backups = affected.len() as u64;
    let report = if dry_run {
        prune.close();
        None
    } else {
        Some(prune.run()?)
    };
    console.meter.finish();
    for finding in findings {
        console.output.show(&Message::Error(finding))?;
    }
    let packs = report
        .as_ref()
        .map_or(planned_damaged, |report| report.damaged);
    let message = PruneSummary {
        packs_damaged: packs,
        backups_affected: affected,
        ..summary(plan, report.as_ref(), started.elapsed())
    };
    console.output.show(&Message::Prune(Box::new(message)))?;
    Ok(PruneDamage {
        packs,
        packs_left,
        backups,
    })
}

fn amount(amount: Amount) -> PackAmount {
    PackAmount {
        packs: amount.packs,
        bytes: amount.bytes,
    }
}

fn plan_message(plan: &ops::PrunePlan, options: &PruneOptions) -> PrunePlan {
    PrunePlan {
        keep: amount(plan.keep),
        bytes_unused: plan.unused,
        mark: amount(plan.mark),
        repack: amount(plan.repack),
        repack_bytes_used: plan.repack_used,
        merge: amount(plan.merge),
        merge_bytes_used: plan.merge_used,
        delete: amount(plan.delete),
        waiting: amount(plan.waiting),
        young: amount(plan.young),
        revoked: plan.refused,
        grace_seconds: options.grace.as_secs(),
    }
}

fn summary(plan: PrunePlan, report: Option<&PruneReport>, took: Duration) -> PruneSummary {
    let done = report.copied().unwrap_or_default();
    PruneSummary {
        dry_run: report.is_none(),
        plan,
        deleted: amount(done.deleted),
        marked: amount(done.marked),
        repacked: amount(done.repacked),
        merged: amount(done.merged),
        bytes_read: done.bytes_read,
        bytes_written: done.bytes_written,
        packs_rescued: done.rescued,
        packs_damaged: done.damaged,
        backups_affected: Vec::new(),
        uploads_removed: done.uploads,
        revoked_removed: done.refused,
        duration: took.as_secs_f64(),
    }
}
