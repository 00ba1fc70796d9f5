//! The command `check`.

use std::time::Instant;

use crate::app::{
    CheckSummary, Code, Damage, Failure, Message, RepositorySettings, count, open_project,
};
use crate::cli::console::Console;
use crate::ops;

pub(super) fn check(
    console: &Console,
    settings: &RepositorySettings,
    read_data: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (repository, project) = open_project(&console.session, settings)?;
    let mut findings = Vec::new();
    let report = ops::check(
        &repository,
        &project,
        read_data,
        &console.session.context(Some(&settings.cache_dir)),
        &mut |finding| {
            let ops::Finding { item, message } = finding.clone();
            findings.push(Damage { item, message });
        },
    )?;
    console.meter.finish();
    for finding in findings {
        console.output.show(&Message::Error(finding))?;
    }
    let affected = report.backups_affected.len();
    console.output.show(&Message::Check(CheckSummary {
        errors: report.errors,
        packs_damaged: report.packs_damaged,
        backups_affected: report
            .backups_affected
            .iter()
            .map(ToString::to_string)
            .collect(),
        backups: report.backups,
        packs: report.packs,
        bytes_read: report.bytes_read,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    if report.errors == 0 {
        return Ok(());
    }
    let only_history = report.errors == report.vanished.len() as u64;
    Err(if only_history {
        Failure::new(
            Code::HistoryLost,
            "backups have vanished from the repository",
        )
        .hint("see who can delete there; what is left is whole")
    } else {
        let text = format!(
            "damage found in {}; {} affected",
            settings.location,
            count(affected as u64, "backup")
        );
        Failure::new(Code::Damage, text).hint(match affected {
            0 => "all backups can be restored; mend what is named above before more is lost. Of packs that are missing and not needed any more a prune forgets the names",
            _ => "delete the damaged packs (projects/*/packs/*/NAME) and back up the affected volumes again with --reread: what is still in them is stored again, for older backups too. Then prune",
        })
    })
}
