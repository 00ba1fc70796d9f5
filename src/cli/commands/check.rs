//! The command `check`.

use std::time::Instant;

use crate::app::{
    CheckSummary, Code, Failure, Message, RepositorySettings, count, finding, open_project,
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
        &mut |found| findings.push(finding(found)),
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
        .hint("find out who can delete files there; the remaining backups are intact")
    } else {
        let text = format!(
            "damage found in {}; {} affected",
            settings.location,
            count(affected as u64, "backup")
        );
        Failure::new(Code::Damage, text).hint(match affected {
            0 => "every backup can still be restored; repair the damage above before more is \
                  lost. A prune drops missing packs that no backup needs",
            _ => "delete the damaged packs (projects/*/packs/*/NAME) and back up the affected \
                  volumes again with --reread: data that they still have is stored again, for older \
                  backups too. Then prune",
        })
    })
}
