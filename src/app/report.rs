//! The report of a check for an auditor. It is written as JSON or as a page of HTML.

use jiff::Timestamp;
use serde::Serialize;

use super::audit_message::AuditEntries;
use super::check_message::{CheckSummary, FindingText};
use super::json_time::rfc3339;

/// The report of a check.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Always `cuttlebone audit report`.
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    /// Program and version.
    pub(crate) tool: &'static str,
    pub(crate) host: String,
    /// When the check ended.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) repository: String,
    pub(crate) repository_id: String,
    pub(crate) project: String,
    pub(crate) project_id: String,
    /// The role of the key that was used.
    pub(crate) role: &'static str,
    /// The part of the data that the check had to read, in words.
    pub(crate) scope: String,
    pub(crate) exit_code: u8,
    /// What was found, in one sentence.
    pub(crate) result: String,
    /// What to do next, if there is anything to do.
    pub(crate) next: Option<String>,
    pub(crate) check: CheckSummary,
    pub(crate) findings: Vec<FindingText>,
    /// Whether this check read and decrypted all data. Otherwise, backups in `whole` may be damaged
    /// in a part that was not decrypted.
    pub(crate) all_data_read: bool,
    /// Backups in which this check found no damage.
    pub(crate) whole: Vec<WholeBackup>,
    /// The state of the log, as `head` prints it. `None` if the log has no entry.
    pub(crate) statement: Option<String>,
    /// The content of the ledger: earlier checks and drills, and what they verified.
    pub(crate) audits: AuditEntries,
}

/// A backup without damage.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WholeBackup {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
}
