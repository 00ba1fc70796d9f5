//! The command `audit`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::app::{
    Attempt, AuditEntries, Code, Failure, Message, ReportKeyText, ReportVerified,
    RepositorySettings, open_project,
};
use crate::cli::console::Console;
use crate::cli::output::Output;
use crate::ops;
use crate::repo;

/// The suffix of the file with the signature of a report.
const SIGNATURE: &str = ".minisig";
/// The maximum length of a file with a signature, in bytes.
const SIGNATURE_MAX: u64 = 64 << 10;

pub(super) fn list_audits(console: &Console, settings: &RepositorySettings) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::ListAudits)?;
    let context = console.session.context(Some(&settings.cache_dir));
    let list = ops::audit_list(&project, &context)?;
    console.meter.finish();
    console.output.audits(&AuditEntries::of(&list))
}

/// Prints the public key that verifies the reports that the current key signs.
pub(super) fn report_key(console: &Console, settings: &RepositorySettings) -> Result<(), Failure> {
    let (_, project) = open_project(&console.session, settings, Attempt::ListAudits)?;
    let public_key = project.keys.signing().reports().public();
    console.meter.finish();
    let role = project.role().name();
    console
        .output
        .show(&Message::ReportKey(ReportKeyText { public_key, role }))
}

/// Returns the name of the file with the signature of a report.
pub(super) fn signature_of(report: &Path) -> PathBuf {
    let mut name = OsString::from(report);
    name.push(SIGNATURE);
    name.into()
}

/// Verifies the signature of a report with the public key `key`. The signature is in the file
/// `REPORT.minisig`.
pub(crate) fn verify_report(output: &Output, report: &Path, key: &str) -> Result<(), Failure> {
    let failed = |path: &Path, why: &io::Error| {
        let text = format!("could not read {}", path.display());
        Failure::new(Code::Failed, format!("{text}: {why}"))
    };
    let signature = signature_of(report);
    let size = fs::metadata(&signature).map_err(|error| failed(&signature, &error))?;
    if !size.is_file() || size.len() > SIGNATURE_MAX {
        let text = format!("{} is not a signature", signature.display());
        return Err(Failure::new(Code::Failed, text));
    }
    let text = fs::read_to_string(&signature).map_err(|error| failed(&signature, &error))?;
    let bytes = fs::read(report).map_err(|error| failed(report, &error))?;
    let verified = repo::verify_report(key, &bytes, &text);
    let comment = verified.map_err(|error| {
        let text = format!("the report {} is not genuine", report.display());
        Failure::new(Code::Damage, text)
            .caused_by(Some(&error))
            .hint("ask the holder of the repository for the report and for the public key again")
    })?;
    let report = report.display().to_string();
    output.show(&Message::ReportVerified(ReportVerified { report, comment }))
}
