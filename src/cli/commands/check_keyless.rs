//! The command `check --keyless`.

use std::fmt;
use std::fs;
use std::time::Instant;

use crate::app::{
    Code, Failure, KeylessSummary, Message, RepositorySettings, finding, open_objects,
};
use crate::cli::console::Console;
use crate::ops::{self, KeylessReport, Statement, StatementError};
use crate::repo::ObjectRef;

/// The maximum length in bytes of a file with a statement, the line with which “cuttlebone head”
/// describes the newest state of the log. A statement has about 200 bytes.
const STATEMENT_MAX: u64 = 64 << 10;

pub(super) fn check_keyless(
    console: &Console,
    settings: &RepositorySettings,
    statement: Option<&str>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let statement = statement.map(read_statement).transpose()?;
    let objects = open_objects(&console.session, settings)?;
    let (mut findings, mut damaged) = (Vec::new(), Vec::new());
    let report = ops::check_keyless(
        &objects,
        statement.as_ref(),
        &console.session.context(None),
        &mut |found| {
            damaged.extend(found.damaged_object());
            findings.push(finding(found));
        },
    )?;
    console.meter.finish();
    for finding in findings {
        console.output.show(&Message::Error(finding))?;
    }
    console.output.show(&Message::Keyless(KeylessSummary {
        errors: report.errors,
        files: report.files,
        bytes_read: report.bytes_read,
        projects: report.projects,
        objects_required: report.required,
        statement_holds: report.statement_holds,
        duration: started.elapsed().as_secs_f64(),
    }))?;
    let Some(failure) = failure(&report, settings) else {
        return Ok(());
    };
    let is_segment = |object: &ObjectRef| matches!(object, ObjectRef::Index(..));
    let is_only_index = damaged.len() as u64 == report.errors && damaged.iter().all(is_segment);
    Err(if ops::has_parity(&objects, &damaged)? {
        failure.hint(TRY_PARITY)
    } else if is_only_index {
        failure.hint(REPLACE_SEGMENTS)
    } else {
        failure
    })
}

/// The next step if damaged objects have parity.
pub(super) const TRY_PARITY: &str = "damaged objects have parity: “cuttlebone repair parity” shows \
                                     which ones it can restore, and restores them with --yes";

/// The next step if a check without a key found only damage of the index.
const REPLACE_SEGMENTS: &str = "“cuttlebone repair index --yes” stores index segments that replace \
                                these. A later prune deletes the damaged files";

/// The next step if only the index is damaged.
pub(super) const REPAIR_INDEX: &str = "every backup can still be restored: “cuttlebone repair \
                                       index” shows how it completes the index from the packs, and \
                                       does it with --yes";

/// Reads a statement, which is given as text or in a file.
fn read_statement(given: &str) -> Result<Statement, Failure> {
    let is_text = given
        .trim_start()
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("cuttlebone"));
    let (text, origin) = if is_text {
        (given.to_owned(), "the statement".to_owned())
    } else {
        let failed = |why: &str| {
            let text = format!("could not read the statement in {given}: {why}");
            Failure::new(Code::Failed, text).hint(
                "give the line that begins with CUTTLEBONE:HEAD, or the name of a file with it",
            )
        };
        match fs::metadata(given) {
            Err(error) => return Err(failed(&error.to_string())),
            Ok(file) if !file.is_file() => return Err(failed("it is not a regular file")),
            Ok(file) if file.len() > STATEMENT_MAX => return Err(failed("it is too long")),
            Ok(_) => {}
        }
        let text = fs::read_to_string(given).map_err(|error| failed(&error.to_string()))?;
        (text, format!("the statement in {given}"))
    };
    text.parse().map_err(|error: StatementError| {
        let failure = Failure::usage(format!("{origin} is not valid: {error}"));
        failure.hint(match error {
            StatementError::Form => {
                "write the text of the QR code, or write the fields of the page in this form, \
                 without spaces"
            }
            StatementError::Checksum => {
                "copy the line again, from “CUTTLEBONE” to the two words at its end"
            }
        })
    })
}

/// Returns the message of a check that found lost history. Callers return the exit code of lost
/// history even if there is other damage. Otherwise, someone could delete backups and damage a file
/// to hide the loss.
pub(super) fn history_vanished(location: &dyn fmt::Display, is_damaged: bool) -> String {
    if is_damaged {
        format!("history has vanished from {location}, and other files are missing or damaged")
    } else {
        format!("history has vanished from {location}")
    }
}

fn failure(report: &KeylessReport, settings: &RepositorySettings) -> Option<Failure> {
    let location = &settings.location;
    if report.errors == 0 {
        return None;
    }
    if report.of_history > 0 {
        let text = history_vanished(location, report.errors > report.of_history);
        return Some(Failure::new(Code::HistoryLost, text).hint(
            "find out who can delete files there. “cuttlebone repair copies --from REPO” takes the \
             missing files from another copy of the repository. If “prune --accept-loss” accepted \
             the loss of an object, only “check” with a key knows that",
        ));
    }
    Some(
        Failure::new(Code::Damage, format!("damage found in {location}")).hint(
            "“cuttlebone repair copies --from REPO” takes the damaged files from another copy of \
             the repository. “cuttlebone check” with a key says which backups are affected",
        ),
    )
}
