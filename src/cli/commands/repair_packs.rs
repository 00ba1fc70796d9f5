//! The command `repair packs`.

use std::time::Instant;

use crate::app::{
    Attempt, Code, Failure, Message, RepairStepEntry, RepairSummary, RepositorySettings, count,
    finding, host_name, open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, Finding, PackAction, PackStep, RepairedPacks};

pub(super) fn repair_packs(
    console: &Console,
    settings: &RepositorySettings,
    yes: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(&console.session, settings, Attempt::RepairPacks)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let host = host_name();
    let repair = ops::plan_pack_repair(&project, Some(&host), !yes, &context)?;
    let bytes_read = repair.bytes_read();
    let RepairedPacks { steps, lacking } = if yes {
        repair.run()?
    } else {
        let (steps, lacking) = (repair.steps().to_vec(), repair.lacking()?);
        repair.close();
        RepairedPacks { steps, lacking }
    };
    console.meter.finish();
    for step in &steps {
        let entry = entry(step, yes);
        console.output.show(&Message::RepairStep(entry))?;
    }
    let affected = lacking.len();
    for backup in lacking {
        let found = finding(&Finding::BackupAffected(backup));
        console.output.show(&Message::Error(found))?;
    }
    let number = |is: &dyn Fn(&&PackStep) -> bool| steps.iter().filter(is).count() as u64;
    let repaired = number(&|step| step.is_repacked());
    let unrepaired =
        number(&|step| !step.is_repacked() && !matches!(step.action, PackAction::Whole));
    console.output.show(&Message::Repair(RepairSummary {
        what: "packs",
        dry_run: !yes,
        repaired,
        unrepaired,
        bytes_read,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    let has_more = steps.iter().any(|s| s.action == PackAction::MoreDamage);
    let (text, hint) = match (repaired, unrepaired, affected) {
        (1.., ..) if !yes => (
            format!("damage found in {}", settings.location),
            "the same command with --yes repairs it",
        ),
        _ if has_more => (
            format!("more damage was found in {}", settings.location),
            "run the same command again",
        ),
        (_, 1.., _) => (
            format!("not repaired: {}", count(unrepaired, "damaged pack")),
            "the output above says why",
        ),
        (_, _, 1..) => (
            format!("{} affected by lost data", count(affected as u64, "backup")),
            "back up their sources again to store the lost data again; “cuttlebone restore \
             --keep-going” restores the rest of them, and “cuttlebone forget” removes them",
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(Code::Damage, text).hint(hint))
}

fn entry(step: &PackStep, yes: bool) -> RepairStepEntry {
    let damage = match step.damaged {
        0 => "its size is wrong".to_owned(),
        damaged if damaged == step.runs => "all of its parts are damaged".to_owned(),
        damaged => format!("{damaged} of {} damaged", count(step.runs, "part")),
    };
    let (action, message) = match step.action {
        PackAction::Repack => ("repack", format!("{damage}; the rest is stored again")),
        PackAction::LeftToPrune => {
            let why = "“cuttlebone prune” replaces or deletes it";
            ("none", why.to_owned())
        }
        PackAction::Restorable => {
            let why = "parity can restore all of it: run “cuttlebone repair parity --yes”";
            ("none", why.to_owned())
        }
        PackAction::Denied => ("none", "this user may not read it".to_owned()),
        PackAction::Unreadable => ("none", "nothing of it can be read".to_owned()),
        PackAction::Whole => ("none", "it was undamaged when it was read again".to_owned()),
        PackAction::MoreDamage => {
            let why = "more damage was found in it: run the same command again";
            ("none", why.to_owned())
        }
    };
    RepairStepEntry {
        item: step.object.to_string(),
        action,
        message,
        done: yes && step.is_repacked(),
        dry_run: !yes,
    }
}
