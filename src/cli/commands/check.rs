//! The command `check`.

use std::time::Instant;

use crate::app::{
    Attempt, CheckSummary, Code, Failure, Message, RepositorySettings, count, finding, open_project,
};
use crate::cli::console::Console;
use crate::ops::{self, Finding};
use crate::repo::ObjectRef;

pub(super) fn check(
    console: &Console,
    settings: &RepositorySettings,
    read_data: bool,
) -> Result<(), Failure> {
    let started = Instant::now();
    let attempt = if read_data {
        Attempt::CheckData
    } else {
        Attempt::Check
    };
    let (repository, project) = open_project(&console.session, settings, attempt)?;
    let mut findings = Vec::new();
    let mut records_damaged = false;
    let report = ops::check(
        &repository,
        &project,
        read_data,
        &console.session.context(Some(&settings.cache_dir)),
        &mut |found| {
            records_damaged |= hides_a_backup(found);
            findings.push(finding(found));
        },
    )?;
    console.meter.finish();
    for finding in findings {
        console.output.show(&Message::Error(finding))?;
    }
    let affected = report.backups_affected.len();
    console.output.show(&Message::Check(CheckSummary {
        errors: report.errors,
        foreign: report.foreign,
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
    if report.errors == report.foreign {
        let objects = count(report.foreign, "object");
        let text = format!("{objects} in {} are foreign", settings.location);
        return Err(Failure::new(Code::Damage, text).hint(
            "they were written without a key that allows it, or with a revoked key. They are \
             ignored, and no backup uses them. Delete them, and find out who can write to the \
             repository",
        ));
    }
    let only_history =
        report.errors == (report.vanished.len() + report.entries_vanished.len()) as u64;
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
        Failure::new(Code::Damage, text).hint(match (affected, records_damaged) {
            (_, true) => {
                "a damaged backup record hides its backup: get the file back from another copy of \
                 the repository, or delete it to give up that backup; “cuttlebone check” then \
                 reports it as vanished"
            }
            (0, false) => {
                "every backup can still be restored. Get the damaged files back from another copy \
                 of the repository, or run “cuttlebone prune”: it writes the index again, and \
                 drops packs that no backup needs"
            }
            (_, false) => {
                "get the damaged files back from another copy of the repository. If there is none, \
                 restore what you still need, delete the damaged packs \
                 (projects/*/packs/*/NAME, projects/*/trees/*/NAME), and back up the affected \
                 volumes again with --reread: data that they still have is stored again, for older \
                 backups too. Then prune"
            }
        })
    })
}

/// Whether a backup cannot even be listed because of this finding.
fn hides_a_backup(found: &Finding) -> bool {
    matches!(
        found,
        Finding::ObjectDamaged {
            object: ObjectRef::Backup(..),
            ..
        }
    )
}
