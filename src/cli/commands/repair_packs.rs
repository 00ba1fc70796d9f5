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
        let entry = RepairStepEntry::new(
            &step.object,
            described(step),
            yes.then(|| step.is_repacked()),
        );
        console.output.show(&Message::RepairStep(entry))?;
    }
    let ids: Vec<_> = lacking.iter().map(|b| b.id.to_string()).collect();
    let affected = ids.len() as u64;
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
        backups_affected: Some(ids),
        bytes_read,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    let has = |action| steps.iter().any(|step| step.action == action);
    let location = &settings.location;
    let (text, hint) = if repaired > 0 && !yes {
        (
            format!("damage found in {location}"),
            "the same command with --yes repairs it",
        )
    } else if has(PackAction::MoreDamage) {
        (
            format!("more damage was found in {location}"),
            "run the same command again",
        )
    } else if has(PackAction::Unreadable) {
        (
            format!("parts of packs in {location} cannot be read"),
            if yes { UNREADABLE } else { SAVE_REST },
        )
    } else if unrepaired > 0 {
        (
            format!("not repaired: {}", count(unrepaired, "damaged pack")),
            "the output above says why. To store the lost data again, back up the volumes that \
             “cuttlebone check” names with --reread, and then run “cuttlebone prune”",
        )
    } else if affected > 0 {
        (
            format!("{} affected by lost data", count(affected, "backup")),
            "back up their sources again to store the lost data again; “cuttlebone restore \
             --keep-going” restores the rest of them, and “cuttlebone forget” removes them",
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(Code::Damage, text).hint(hint))
}

/// The next step for packs that the disk cannot read completely, after all of their readable parts
/// were stored again.
const UNREADABLE: &str = "the disk may still return these parts: copy the files of these packs to \
                          another disk with a program that reads damaged disks, such as ddrescue, \
                          and put the copies in their places. All of their other data is in other \
                          packs now. So if you give up these parts, delete the files: then the \
                          next backup of the same sources, on any host, stores the lost data again";

/// The next step for packs that the disk cannot read completely, before their readable parts are
/// stored again.
const SAVE_REST: &str = "the same command with --yes stores their other parts again; the packs \
                         stay where they are";

/// Returns the action of a step, and what is known about the damage.
fn described(step: &PackStep) -> (&'static str, String) {
    let damage = match step.damaged {
        0 => "its size or the list of its contents is wrong".to_owned(),
        damaged if damaged == step.runs => "all of its parts are damaged".to_owned(),
        damaged => format!("{damaged} of {} damaged", count(step.runs, "part")),
    };
    let why = match step.action {
        PackAction::Repack => return ("repack", format!("{damage}; the rest is stored again")),
        PackAction::LeftToPrune => {
            "“cuttlebone prune” replaces or deletes it, as soon as other packs have the damaged \
             data that backups need"
        }
        PackAction::Restorable => {
            "parity can restore all of it: run “cuttlebone repair parity --yes”"
        }
        PackAction::Denied => "this user may not read it",
        PackAction::Unreadable => {
            "a part of it cannot be read; the rest is stored again, and it stays where it is"
        }
        PackAction::NoPack => {
            "it is larger than any pack may be, or not a file; the rest is stored again, and it \
             stays where it is until “cuttlebone prune” replaces it"
        }
        PackAction::Missing => "it no longer exists: run the same command again",
        PackAction::Whole => "it was undamaged when it was read again",
        PackAction::MoreDamage => "more damage was found in it: run the same command again",
    };
    ("none", why.to_owned())
}
