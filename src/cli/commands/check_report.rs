//! The report of a check, and its signature.

use std::io::Write;
use std::path::PathBuf;

use jiff::Timestamp;

use super::audit::signature_of;
use crate::app::{
    AuditEntries, CheckSummary, Code, Failure, FindingText, Report, RepositorySettings,
    WholeBackup, host_name, report_html,
};
use crate::cli::console::Console;
use crate::ops::{self, DataPart, OpsError, ReadData, Statement};
use crate::repo::{Log, Project, Records, Worker};
use crate::volume::{OutputFile, OutputStream, VolumeError};

/// The files of a report and of its signature. They get their names when the check has ended.
pub(super) struct ReportFiles {
    report: OutputFile,
    signature: OutputFile,
    is_html: bool,
}

/// The result of a check.
pub(super) struct CheckResult<'a> {
    pub(super) summary: CheckSummary,
    pub(super) findings: Vec<FindingText>,
    pub(super) failure: Option<&'a Failure>,
    pub(super) read: Option<&'a ReadData>,
}

impl ReportFiles {
    /// Creates the files of a report and of its signature. Fails if one of them exists.
    pub(super) fn new(path: PathBuf) -> Result<Self, Failure> {
        let create = |path| OutputFile::create_new(path).map_err(OpsError::from);
        Ok(Self {
            is_html: path
                .extension()
                .is_some_and(|suffix| suffix.eq_ignore_ascii_case("html")),
            signature: create(signature_of(&path))?,
            report: create(path)?,
        })
    }

    /// Writes the report and signs it.
    pub(super) fn write(
        mut self,
        console: &Console,
        settings: &RepositorySettings,
        project: &Project,
        result: CheckResult<'_>,
    ) -> Result<(), Failure> {
        let report = report(console, settings, project, result)?;
        let bytes = if self.is_html {
            report_html(&report).into_bytes()
        } else {
            let mut json = serde_json::to_vec_pretty(&report).map_err(|error| {
                Failure::new(Code::Failed, "could not write the report").caused_by(Some(&error))
            })?;
            json.push(b'\n');
            json
        };
        let time = report.time;
        let comment = format!(
            "{} project {} role {}",
            time, report.project_id, report.role
        );
        let key = project.keys.signing().reports();
        let signature = key.sign(&bytes, &comment);
        for (file, bytes) in [
            (&mut self.report, &bytes[..]),
            (&mut self.signature, signature.as_bytes()),
        ] {
            let written = file.write_all(bytes);
            let written = written.map_err(|error| VolumeError::writing(file.name(), error));
            written
                .and_then(|()| file.finish())
                .map_err(OpsError::from)?;
        }
        Ok(())
    }
}

fn report(
    console: &Console,
    settings: &RepositorySettings,
    project: &Project,
    result: CheckResult<'_>,
) -> Result<Report, Failure> {
    let context = console.session.context(Some(&settings.cache_dir));
    let audits = ops::audit_list(project, &context)?;
    let newest = Log::load(project)?.newest();
    let authority = project.keys.authority();
    let statement =
        newest.map(|head| Statement::new(project.id, head.number, head.hash, authority));
    let records = Records::load(project)?;
    let damaged = &result.summary.backups_affected;
    let whole = records.listed().map(|backup| WholeBackup {
        backup_id: backup.id.to_string(),
        volume: backup.record.volume.name.clone(),
        time: backup.time,
    });
    let whole = whole
        .filter(|backup| !damaged.contains(&backup.backup_id))
        .collect();
    console.meter.finish();
    let data = result.summary.data.as_ref();
    let all_data_read = data.is_some_and(|data| {
        data.complete && data.packs_chosen == data.packs_total && data.level == "opened"
    });
    let found = "no damage was found in what was checked".to_owned();
    Ok(Report {
        kind: "cuttlebone audit report",
        version: 1,
        tool: Worker::TOOL,
        host: host_name(),
        time: Timestamp::now(),
        repository: settings.location.to_string(),
        repository_id: project.repository.to_string(),
        project: project.settings.name.clone(),
        project_id: project.id.to_string(),
        role: project.role().name(),
        scope: scope(result.read),
        exit_code: result.failure.map_or(0, |failure| failure.code as u8),
        result: result
            .failure
            .map_or(found, |failure| failure.message.clone()),
        next: result.failure.and_then(|failure| failure.hint.clone()),
        check: result.summary,
        findings: result.findings,
        all_data_read,
        whole,
        statement: statement.map(|statement| statement.to_string()),
        audits: AuditEntries::of(&audits),
    })
}

/// Describes the part of the data that the check had to read.
fn scope(read: Option<&ReadData>) -> String {
    let Some(read) = read else {
        return "none: only index, records and trees".to_owned();
    };
    let mut text = match read.part {
        DataPart::All => "all".to_owned(),
        DataPart::Percent(percent) => format!("{percent}%, chosen at random"),
        DataPart::Bytes(bytes) => format!("{bytes} bytes, chosen at random"),
        DataPart::Nth { number, of } => format!("part {number} of {of}"),
    };
    if let Some(age) = read.unverified_for {
        let hours = (age.as_secs() / 3600).to_string();
        text.extend([", unverified for ", &hours, " hours"]);
    }
    if let Some(limit) = read.time_limit {
        let minutes = (limit.as_secs() / 60).to_string();
        text.extend([", in ", &minutes, " minutes"]);
    }
    text
}
