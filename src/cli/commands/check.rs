//! The command `check`.

use std::time::Instant;

use super::check_report::{CheckResult, ReportFiles};
use crate::app::{
    Attempt, CheckRequest, CheckSummary, ClientMemory, Code, DataRead, Failure, Lost, Message,
    Repairable, RepositorySettings, consequences, count, findings, history_lost, host_name,
    lost_history, open_project,
};
use crate::cli::console::Console;
use crate::format::BlobKind;
use crate::ops::{self, CheckReport, Finding};
use crate::repo::{ObjectRef, RepoError};

use super::check_keyless::{REPAIR_INDEX, TRY_PARITY, history_vanished};

pub(super) fn check(
    console: &Console,
    settings: &RepositorySettings,
    request: CheckRequest,
) -> Result<(), Failure> {
    let started = Instant::now();
    let CheckRequest {
        mut read,
        accept_history,
        report: report_file,
    } = request;
    // Fail before hours of work if the file cannot be made.
    let files = report_file.map(ReportFiles::new).transpose()?;
    if let Some(read) = &mut read {
        read.host = Some(host_name());
    }
    let attempt = if read.is_some() {
        Attempt::CheckData
    } else {
        Attempt::Check
    };
    let (repository, project) = open_project(&console.session, settings, attempt)?;
    let memory = ClientMemory::new(&console.session, settings);
    let compared = memory.compare(&project);
    // Continue if a directory cannot be listed: the check itself reports it.
    let is_compared = !compared.as_ref().is_err_and(RepoError::is_unlistable);
    let mut lost = if is_compared { compared? } else { Vec::new() };
    if accept_history {
        for lost in lost.drain(..) {
            console.output.notice(&format!("accepted: {lost}"));
        }
    }
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    let mut seen = Seen::default();
    let report = ops::check(
        &repository,
        &project,
        read.as_ref(),
        &console.session.context(Some(&settings.cache_dir)),
        &mut |finding| {
            seen.note(finding);
            damaged.extend(finding.damaged_object());
            found.push(finding.clone());
        },
    )?;
    console.meter.finish();
    if !is_compared {
        // Do not change the client memory, since it is unknown which objects are missing.
    } else if accept_history {
        memory.accept(&project, &report.ends);
    } else {
        memory.remember(&project, &report.ends);
    }
    let mut findings = findings(&found);
    findings.extend(lost.iter().map(lost_history));
    for finding in &findings {
        console.output.show(&Message::Error(finding.clone()))?;
    }
    let is_damaged = report.errors > report.foreign + report.of_history;
    let has_parity = ops::has_parity(&project.objects, &damaged)?;
    let is_copy = |finding: &Finding| matches!(finding, Finding::CopyDamaged { .. });
    let is_lost = |finding: &Finding| finding.damaged_object().is_some() && !is_copy(finding);
    let repairable = Repairable {
        here: has_parity || seen.copies,
        elsewhere: found.iter().any(is_lost),
        index: found.iter().any(is_of_index),
        packs: has_damaged_chunks(&found),
    };
    let affected = report.backups_affected.iter();
    let affected = affected
        .chain(&report.records_damaged)
        .chain(&report.vanished);
    let affected: Vec<_> = affected.map(ToString::to_string).collect();
    let number = affected.len() as u64;
    let summary = CheckSummary {
        errors: report.errors + lost.len() as u64,
        foreign: report.foreign,
        packs_damaged: report.packs_damaged,
        backups_affected: affected,
        backups: report.backups,
        packs: report.packs,
        bytes_read: report.bytes_read,
        data: report.data.as_ref().map(DataRead::of),
        damage: is_damaged.then(|| consequences(&report, repairable)),
        duration: started.elapsed().as_secs_f64(),
    };
    console.output.show(&Message::Check(summary.clone()))?;
    let hint = if has_parity {
        TRY_PARITY
    } else {
        seen.hint(repairable.index)
    };
    let failure = failure(&report, &lost, number, hint, settings);
    if let Some(files) = files {
        let found = CheckResult {
            summary,
            findings,
            failure: failure.as_ref(),
            read: read.as_ref(),
        };
        files.write(console, settings, &project, found)?;
    }
    failure.map_or(Ok(()), Err)
}

/// Returns the failure of a check, or `None` if it found nothing wrong.
fn failure(
    report: &CheckReport,
    lost: &[Lost],
    affected: u64,
    hint: &'static str,
    settings: &RepositorySettings,
) -> Option<Failure> {
    let vanished = report.of_history;
    if vanished == 0 && !lost.is_empty() {
        let mut failure = history_lost(&settings.location, lost);
        if report.errors > report.foreign {
            let affected = count(affected, "backup");
            let damage = format!(". There is also damage, which affects {affected}");
            failure.message.push_str(&damage);
            let next = failure.hint.take().unwrap_or_default();
            failure.hint = Some(format!("{next}. For the damage: {hint}"));
        }
        return Some(failure);
    }
    if report.errors == report.foreign {
        // Foreign objects do no harm.
        return (report.foreign > 0).then(|| only_foreign(report, settings));
    }
    Some(if report.errors == vanished {
        Failure::new(
            Code::HistoryLost,
            "backups have vanished from the repository",
        )
        .hint(
            "find out who can delete files there; the remaining backups are intact. Copy the \
             missing files from another copy of the repository. To accept their loss, name each: \
             “cuttlebone prune --accept-loss NAME”",
        )
    } else if vanished > 0 {
        let is_damaged = report.errors > vanished + report.foreign;
        let text = history_vanished(&settings.location, is_damaged);
        Failure::new(Code::HistoryLost, text).hint(
            "find out who can delete files there. “cuttlebone repair parity” restores files from \
             parity, and with --from REPO from another copy of the repository. To accept the loss \
             of backups, name each: “cuttlebone prune --accept-loss NAME”",
        )
    } else {
        let text = format!(
            "damage found in {}; {} affected",
            settings.location,
            count(affected, "backup")
        );
        Failure::new(Code::Damage, text).hint(hint)
    })
}

/// The kinds of damage that a check found.
#[derive(Default)]
struct Seen {
    /// Whether a backup cannot be restored completely.
    affected: bool,
    /// Whether a record cannot be read.
    records: bool,
    /// Whether one of the two copies of an object is damaged.
    copies: bool,
    /// Whether a directory cannot be listed.
    unlistable: bool,
    /// Whether anything else is damaged or missing, for example a pack. The index does not count.
    others: bool,
}

impl Seen {
    fn note(&mut self, found: &Finding) {
        match found {
            Finding::BackupAffected(_) => self.affected = true,
            Finding::ObjectDamaged {
                object: ObjectRef::Backup(..),
                ..
            } => self.records = true,
            Finding::CopyDamaged { .. } => self.copies = true,
            Finding::ObjectForeign { .. } => {}
            found if is_of_index(found) => {}
            Finding::RepositoryDamaged { problem } if problem.is_unlistable() => {
                self.unlistable = true;
            }
            _ => self.others = true,
        }
    }

    /// Returns the next steps for the user. The text says which steps give up data. `index` states
    /// whether the index is damaged.
    fn hint(&self, index: bool) -> &'static str {
        if self.unlistable {
            "not everything was checked: run this as a user who may read these directories"
        } else if self.affected {
            "copy the damaged files from another copy of the repository. If there is none, save \
             what is left of damaged packs with “cuttlebone repair packs”, and back up the \
             affected volumes with --reread, which stores the lost data again if the sources still \
             have it. Then run “cuttlebone prune”. Do not delete damaged packs: most of their data \
             can still be read. “cuttlebone restore --keep-going” \
             restores all other parts of a damaged backup, and “cuttlebone forget” removes it"
        } else if self.records {
            "the backup of a damaged record is not listed: copy the record from another copy of \
             the repository. To give up this backup, run “cuttlebone prune --accept-loss NAME” \
             with the name of its record. All backups that “cuttlebone list” shows can be restored"
        } else if index && !self.copies && !self.others {
            REPAIR_INDEX
        } else if self.copies && !index && !self.others {
            "every backup can still be restored: each of these objects has an undamaged copy. If \
             NAME is damaged, copy NAME.copy over it; if NAME.copy is damaged, copy NAME over it"
        } else {
            "every backup can still be restored. Copy the damaged files from another copy of the \
             repository. If there is none, run “cuttlebone repair packs”, which replaces damaged \
             packs of chunks, and “cuttlebone prune”, which replaces damaged packs of nodes and \
             damaged parts of the index"
        }
    }
}

/// Returns whether a finding is about the index: an index segment is damaged, or a backup needs a
/// pack that no segment names.
const fn is_of_index(found: &Finding) -> bool {
    matches!(
        found,
        Finding::PackUnindexed { .. }
            | Finding::ObjectDamaged {
                object: ObjectRef::Index(..),
                ..
            }
    )
}

/// Returns whether a damaged pack of chunks exists that a segment names. `repair packs` can repair
/// such a pack.
fn has_damaged_chunks(found: &[Finding]) -> bool {
    let is_unindexed = |pack: &ObjectRef| {
        let names =
            |f: &Finding| matches!(f, Finding::PackUnindexed { pack: other } if other == pack);
        found.iter().any(names)
    };
    found.iter().any(|finding| match finding {
        Finding::ObjectDamaged { object, problem } => {
            let is_chunks = object.blob_kind() == Some(BlobKind::Chunk);
            is_chunks && !problem.is_missing() && !problem.is_denied() && !is_unindexed(object)
        }
        Finding::PackWrongSize { pack, .. } => {
            pack.blob_kind() == Some(BlobKind::Chunk) && !is_unindexed(pack)
        }
        _ => false,
    })
}

/// Returns the failure of a check that found only foreign objects, which do not count.
fn only_foreign(report: &CheckReport, settings: &RepositorySettings) -> Failure {
    let objects = count(report.foreign, "object");
    let location = &settings.location;
    if report.foreign == report.revoked {
        let text = format!("{objects} in {location} are of revoked keys");
        return Failure::new(Code::Damage, text).hint(
            "they are ignored, and no backup that counts uses them. “cuttlebone prune” removes \
             them, and names them in the log",
        );
    }
    let text = format!("{objects} in {location} are foreign");
    Failure::new(Code::Damage, text).hint(
        "they were written without a key that allows it, or with a revoked key. They are \
         ignored, and no backup uses them. Find out who can write to the repository",
    )
}
