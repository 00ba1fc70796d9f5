//! The command `replicate`.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::app::{
    ClientMemory, Code, Failure, Message, ReplicateRequest, ReplicateSummary, RepositorySettings,
    finding_at, open_objects, open_target,
};
use crate::cli::console::Console;
use crate::ops::{self, ReplicateOptions, ReplicateReport, Side};
use crate::repo;

use super::check_keyless::history_vanished;

pub(super) fn replicate(
    console: &Console,
    settings: &RepositorySettings,
    request: ReplicateRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let there = settings.at(&request.target)?;
    if settings.location.overlaps(&there.location) {
        let text = format!(
            "{} and {} are the same place, or one is in the other",
            settings.location, there.location
        );
        return Err(Failure::usage(text).hint("give a directory outside the repository"));
    }
    let session = &console.session;
    let source = open_objects(session, settings)?;
    // Fail if the source is no repository, before the directory of the target is created.
    repo::repository_id(&source)?;
    let target = open_target(session, &there, request.init)?;
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let newer_than = request.newer_than.map(|since| since.earliest(&now));
    let options = ReplicateOptions {
        project: request.project,
        mirror: request.mirror,
        newer_than: newer_than.map(SystemTime::from),
        verify: request.verify,
    };
    let mut findings = Vec::new();
    let copied = ops::replicate(
        &source,
        &target,
        &options,
        &session.context(None),
        &mut |side, found| {
            let location = match side {
                Side::Source => &settings.location,
                Side::Target => &there.location,
            };
            findings.push(finding_at(found, location));
        },
    );
    console.meter.finish();
    // Show the findings even if the copy could not be finished: one of them may say why.
    for finding in findings {
        console.output.show(&Message::Error(finding))?;
    }
    let report = copied?;
    let repository = repo::repository_id(&target)?;
    ClientMemory::new(session, &there).note(repository);
    if report.old_keys > 0 {
        console.output.notice(&format!(
            "{} has {} that the original no longer has, and their passwords still open it. If they \
             were removed on purpose, delete their files there (keys/NAME, keys/NAME.copy and \
             parity/*/NAME.*, also in projects/*)",
            there.location,
            crate::app::count(report.old_keys, "key slot"),
        ));
    }
    console.output.show(&Message::Replicate(ReplicateSummary {
        source: settings.location.to_string(),
        target: there.location.to_string(),
        repository_id: repository.to_string(),
        projects: report.projects,
        errors: report.errors,
        files_copied: report.files_copied,
        bytes_copied: report.bytes_copied,
        files_present: report.files_present,
        files_removed: report.files_removed,
        bytes_removed: report.bytes_removed,
        files_verified: report.files_verified,
        bytes_verified: report.bytes_verified,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    failure(&report, settings, &there).map_or(Ok(()), Err)
}

fn failure(
    report: &ReplicateReport,
    settings: &RepositorySettings,
    there: &RepositorySettings,
) -> Option<Failure> {
    let (from, to) = (&settings.location, &there.location);
    if report.errors == 0 {
        return None;
    }
    let is_damaged = report.errors > report.of_history + report.of_history_in_copy;
    if report.of_history > 0 {
        let text = history_vanished(from, is_damaged);
        return Some(Failure::new(Code::HistoryLost, text).hint(format!(
            "everything else was copied, and {to} keeps all that it had. Find out who can delete \
             files in the original. There, “cuttlebone repair copies --from REPO” takes the \
             missing files from the copy"
        )));
    }
    if report.of_history_in_copy > 0 {
        let text = history_vanished(to, is_damaged);
        return Some(Failure::new(Code::HistoryLost, text).hint(
            "the copy lacks objects that its log names. Run this again without --newer-than, which \
             leaves out older backups",
        ));
    }
    let text = format!("damage was found while {from} was copied to {to}");
    Some(Failure::new(Code::Damage, text).hint(
        "everything else was copied, and nothing was overwritten. Where files are damaged, \
         “cuttlebone repair copies --from REPO” takes them from another copy of the repository",
    ))
}
