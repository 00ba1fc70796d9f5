//! The commands `parity set` and `repair parity`.

use std::time::Instant;

use crate::app::{
    Attempt, Code, Failure, Message, ParitySummary, RepairStepEntry, RepairSummary,
    RepositorySettings, count, open_objects, open_project,
};
use crate::base::ParityRate;
use crate::cli::console::Console;
use crate::ops::{self, ParityAction, ParityStep};

pub(super) fn set_parity(
    console: &Console,
    settings: &RepositorySettings,
    rate: Option<ParityRate>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(&console.session, settings, Attempt::SetParity)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let added = ops::add_parity(&project, rate, &context)?;
    console.meter.finish();
    console.output.show(&Message::Parity(ParitySummary {
        rate: rate.map_or(0, ParityRate::percent),
        objects_added: added.added,
        bytes_stored: added.bytes,
        objects_kept: added.kept,
        objects_damaged: added.damaged,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if added.damaged == 0 {
        return Ok(());
    }
    let objects = count(added.damaged, "object");
    Err(Failure::new(
        Code::Damage,
        format!("{objects} are damaged and have no new parity"),
    )
    .hint("run “cuttlebone check”, and then this command again"))
}

pub(super) fn repair_parity(
    console: &Console,
    settings: &RepositorySettings,
    yes: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let objects = open_objects(&console.session, settings)?;
    let context = console.session.context(None);
    let repair = ops::plan_parity_repair(&objects, &context)?;
    console.meter.finish();
    let mut entries = Vec::new();
    let result = if yes {
        repair.run(&mut |step, done| entries.push(entry(step, done, false)))
    } else {
        let steps = repair.steps().iter();
        entries.extend(steps.map(|step| entry(step, false, true)));
        Ok(())
    };
    let is_repaired =
        |entry: &&RepairStepEntry| entry.done || entry.dry_run && entry.action != "none";
    let repaired = entries.iter().filter(is_repaired).count() as u64;
    let damaged = entries.len() as u64;
    for entry in entries {
        console.output.show(&Message::RepairStep(entry))?;
    }
    // What was repaired before a failure is shown, too.
    result?;
    console.output.show(&Message::Repair(RepairSummary {
        what: "parity",
        dry_run: !yes,
        repaired,
        unrepaired: damaged - repaired,
        bytes_read: repair.bytes_read(),
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if damaged == 0 || yes && repaired == damaged {
        return Ok(());
    }
    let text = format!("damage found in {}", settings.location);
    let hint = if repaired < damaged {
        "parity cannot repair everything: copy the other damaged files from another copy of the \
         repository. “cuttlebone check” says which backups are affected"
    } else {
        "“cuttlebone repair parity --yes” repairs it"
    };
    Err(Failure::new(Code::Damage, text).hint(hint))
}

fn entry(step: &ParityStep, done: bool, dry_run: bool) -> RepairStepEntry {
    let (action, message) = match &step.action {
        ParityAction::Restore { lost, parts, .. } => {
            let lost = format!("{lost} of {} lost; parity has them", count(*parts, "part"));
            ("restore", lost)
        }
        ParityAction::Copy => ("restore", "its other copy is whole".to_owned()),
        ParityAction::Rebuild => ("rebuild", "made again from the object".to_owned()),
        ParityAction::BeyondRepair => ("none", "too much of it is damaged".to_owned()),
        ParityAction::NoParity => ("none", "it has no parity".to_owned()),
        ParityAction::Denied => ("none", "this user may not read it".to_owned()),
    };
    let message = if step.repairs() && !done && !dry_run {
        format!("{message}, but it could not be replaced")
    } else {
        message
    };
    RepairStepEntry {
        item: step.object.to_string(),
        action,
        message,
        done,
        dry_run,
    }
}
