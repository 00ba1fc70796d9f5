//! The command `repair index`.

use std::error::Error as _;
use std::time::Instant;

use crate::app::{
    Attempt, Code, Failure, Message, RepairStepEntry, RepairSummary, RepositorySettings, host_name,
    one_line, open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, IndexAction, IndexStep};

use super::check_keyless::TRY_PARITY;

pub(super) fn repair_index(
    console: &Console,
    settings: &RepositorySettings,
    yes: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (_, project) = open_project(&console.session, settings, Attempt::RepairIndex)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let host = host_name();
    let repair = ops::plan_index_repair(&project, Some(&host), !yes, &context)?;
    let mut entries = Vec::new();
    let (mut bytes_read, mut stays) = (repair.segment_bytes(), Vec::new());
    let result = if yes {
        repair.run(&mut |step, done| {
            entries.push(entry(step, Some(done)));
            stays.extend((!done).then_some(step.object));
        })
    } else {
        for step in repair.steps() {
            entries.push(entry(step, None));
            stays.extend((!step.repairs()).then_some(step.object));
        }
        Ok(0)
    };
    let lacks_data = repair.lacks_data();
    repair.close();
    console.meter.finish();
    let damaged = entries.len() as u64;
    for entry in entries {
        console.output.show(&Message::RepairStep(entry))?;
    }
    // Return an error only now, after the steps before it were shown.
    bytes_read += result?;
    let unrepaired = stays.len() as u64;
    console.output.show(&Message::Repair(RepairSummary {
        what: "index",
        dry_run: !yes,
        repaired: damaged - unrepaired,
        unrepaired,
        backups_affected: None,
        bytes_read,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    let is_repaired = yes && unrepaired == 0;
    if damaged == 0 || is_repaired && !lacks_data {
        return Ok(());
    }
    let text = if is_repaired {
        format!(
            "the index of {} is complete, but backups need data that is in no pack",
            settings.location
        )
    } else {
        format!("the index of {} is damaged", settings.location)
    };
    let hint = if is_repaired {
        "get missing packs from another copy of the repository. If there is none, back up the \
         volumes that “cuttlebone check” names again, with --reread"
    } else if unrepaired == 0 {
        "the same command with --yes repairs it"
    } else if ops::has_parity(&project.objects, &stays)? {
        TRY_PARITY
    } else {
        "get the named objects, and missing packs, from another copy of the repository with \
         “cuttlebone repair copies --from REPO”. If there is none, back up the volumes that \
         “cuttlebone check” names again, with --reread. Then run “cuttlebone prune”, and this \
         command again"
    };
    Err(Failure::new(Code::Damage, text).hint(hint))
}

/// Describes a step. `done` is `None` in a dry run.
fn entry(step: &IndexStep, done: Option<bool>) -> RepairStepEntry {
    let problem = step.problem.as_ref().and_then(|problem| problem.source());
    let problem = problem.map_or_else(|| "it is missing".to_owned(), one_line);
    let (action, message) = match step.action {
        IndexAction::Replace | IndexAction::Remove => {
            ("rebuild", format!("{problem}; other segments replace it"))
        }
        IndexAction::Name if step.problem.is_some() => (
            "name",
            format!("no index segment names it, and it is damaged: {problem}"),
        ),
        IndexAction::Name => ("name", "no index segment names it".to_owned()),
        IndexAction::Denied => ("none", "this user may not read it".to_owned()),
        IndexAction::MayBeNeeded => {
            let why = "it may be the only one that names a pack with data that backups may lack";
            ("none", format!("{problem}, and {why}"))
        }
        IndexAction::NoListing => {
            let why = "no index segment names it, and its own list of its content is damaged";
            ("none", format!("{why}: {problem}"))
        }
    };
    RepairStepEntry::new(&step.object, (action, message), done)
}
