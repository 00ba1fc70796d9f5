//! The commands `repair parity` and `repair copies`.

use std::time::Instant;

use crate::app::{
    Code, Failure, Message, RepairRequest, RepairStepEntry, RepairSummary, RepositorySettings,
    count, open_objects,
};
use crate::cli::console::Console;
use crate::ops::{self, ParityAction, ParityStep, RepairSources};

pub(super) fn repair(
    console: &Console,
    settings: &RepositorySettings,
    request: &RepairRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let yes = request.yes;
    let objects = open_objects(&console.session, settings)?;
    let replica = match &request.from {
        Some(from) => {
            let there = settings.at(from)?;
            if settings.location.overlaps(&there.location) {
                let text = "the two locations are the same, or one is in the other";
                return Err(Failure::usage(text).hint("give another copy of the repository"));
            }
            Some(open_objects(&console.session, &there)?)
        }
        None => None,
    };
    let sources = RepairSources {
        parity: request.parity,
        replica: replica.as_ref(),
    };
    let context = console.session.context(None);
    let repair = ops::plan_repair(&objects, sources, &context)?;
    console.meter.finish();
    let mut entries = Vec::new();
    let result = if yes {
        repair.run(&mut |step, done| entries.push(entry(step, Some(done))))
    } else {
        let steps = repair.steps().iter();
        entries.extend(steps.map(|step| entry(step, None)));
        Ok(())
    };
    let is_repaired =
        |entry: &&RepairStepEntry| entry.done || entry.dry_run && entry.action != "none";
    let repaired = entries.iter().filter(is_repaired).count() as u64;
    let damaged = entries.len() as u64;
    for entry in entries {
        console.output.show(&Message::RepairStep(entry))?;
    }
    // Return an error only now, after the steps before it were shown.
    result?;
    let what = if request.parity { "parity" } else { "copies" };
    console.output.show(&Message::Repair(RepairSummary {
        what,
        dry_run: !yes,
        repaired,
        unrepaired: damaged - repaired,
        backups_affected: None,
        bytes_read: repair.bytes_read(),
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if yes && repaired == damaged && repair.must_run_again() {
        let again = ops::plan_repair(&objects, sources, &context)?;
        console.meter.finish();
        if !again.steps().is_empty() || !again.unexplained().is_empty() {
            let text = format!("more damage found in {}", settings.location);
            return Err(Failure::new(Code::Damage, text).hint("run the same command again"));
        }
    }
    let unexplained = repair.unexplained().len() as u64;
    if (damaged == 0 || yes && repaired == damaged) && unexplained > 0 {
        let text = format!("missing: {} with parity", count(unexplained, "object"));
        let hint = "a backup was interrupted, or they are lost: “cuttlebone check” says which \
                    backups are affected";
        return Err(Failure::new(Code::Damage, text).hint(hint));
    }
    if damaged == 0 || yes && repaired == damaged {
        return Ok(());
    }
    let text = format!("damage found in {}", settings.location);
    let hint = match (repaired == damaged, &request.from, request.parity) {
        (true, ..) => "the same command with --yes repairs it",
        (_, Some(_), _) => {
            "not everything can be repaired: try another copy of the repository. “cuttlebone \
             check” says which backups are affected"
        }
        (_, None, true) => {
            "parity cannot repair everything: give another copy of the repository with --from. \
             “cuttlebone check” says which backups are affected"
        }
        (_, None, false) => {
            "second copies cannot repair everything: give another copy of the repository with \
             --from, or run “cuttlebone repair parity”"
        }
    };
    Err(Failure::new(Code::Damage, text).hint(hint))
}

/// Describes a step. `done` is `None` in a dry run.
fn entry(step: &ParityStep, done: Option<bool>) -> RepairStepEntry {
    let (action, message) = match &step.action {
        ParityAction::Restore { lost, parts, .. } => {
            let lost = format!("{lost} of {} lost; parity has them", count(*parts, "part"));
            ("restore", lost)
        }
        ParityAction::Copy => ("restore", "its other copy is whole".to_owned()),
        ParityAction::Fetch => ("restore", "the other repository has it".to_owned()),
        ParityAction::Rebuild => (
            "rebuild",
            "rebuilt from the object that it protects".to_owned(),
        ),
        ParityAction::Remove => {
            let text = "it cannot be rebuilt, and no object needs it; quarantine/ keeps it";
            ("remove", text.to_owned())
        }
        ParityAction::RemoveUseless => {
            let next = match done {
                Some(true) => "copy the object from there by hand",
                _ => "use --from first",
            };
            let text = format!(
                "its object is missing, and cannot be restored with it; quarantine/ keeps it. If \
                 another copy of the repository may have the object, {next}"
            );
            ("remove", text)
        }
        ParityAction::BeyondRepair => ("none", "too much of it is damaged".to_owned()),
        ParityAction::NoParity => ("none", "it has no parity".to_owned()),
        ParityAction::NoCopy => ("none", "no other copy of it is whole".to_owned()),
        ParityAction::Undecided => {
            let text = "its copies differ, and it is not known which one is genuine";
            ("none", text.to_owned())
        }
        ParityAction::Denied => ("none", "this user may not read it".to_owned()),
    };
    let message = if step.repairs() && done == Some(false) {
        format!("{message}, but something other than a file is in its place")
    } else {
        message
    };
    let message = match removal(step, done == Some(true)) {
        Some(text) => format!("{message}. {text}"),
        None => message,
    };
    RepairStepEntry::new(&step.object, (action, message), done)
}

/// If the object is a key slot that somebody may have removed, returns how to complete the removal
/// instead of repairing the slot. `None` otherwise. `done` is whether the slot is whole now.
fn removal(step: &ParityStep, done: bool) -> Option<String> {
    let next = match step.action {
        _ if !step.may_be_removed => return None,
        ParityAction::Restore { parity, .. } if !done => {
            format!("delete the file {}", parity.name())
        }
        ParityAction::Restore { .. } | ParityAction::Copy | ParityAction::Fetch => {
            "run “key remove” again".to_owned()
        }
        _ => return None,
    };
    Some(format!("Was this key removed? Then {next}"))
}
