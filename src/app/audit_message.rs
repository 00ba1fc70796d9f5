//! The messages of the subcommands of `audit`.

use jiff::Timestamp;
use serde::Serialize;

use super::json_time::{optional_rfc3339, rfc3339};
use crate::base::Role;
use crate::format::{AuditRun, DrillRun};
use crate::ops::{AuditList, Coverage};

/// The content of the ledger, in which checks and drills note what they verified.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AuditEntries {
    pub(crate) coverage: Vec<CoverageEntry>,
    pub(crate) runs: Vec<RunEntry>,
    pub(crate) drills: Vec<DrillEntry>,
}

/// How much of the data was verified.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CoverageEntry {
    /// `opened`: decrypted. `hashed`: compared with hashes, or decrypted.
    pub(crate) level: &'static str,
    /// The number of all packs that exist.
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
    /// The number of packs that were never verified since they were stored, or that were found
    /// damaged after their last verification.
    pub(crate) packs_never: u64,
    pub(crate) bytes_never: u64,
    /// Each other pack has a time of its last verification. This is the earliest of these times.
    /// `None` if there are no other packs.
    #[serde(serialize_with = "optional_rfc3339")]
    pub(crate) oldest: Option<Timestamp>,
    /// All data except `bytes_never`, by the time of its last verification.
    pub(crate) verified: Vec<VerifiedBytes>,
}

/// The amount of data that was last verified at one time.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct VerifiedBytes {
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) bytes: u64,
}

/// A check that read data.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunEntry {
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) host: Option<String>,
    /// The role of the key that opened the repository for this check.
    pub(crate) role: &'static str,
    /// `opened` or `hashed`, as [`CoverageEntry::level`] explains.
    pub(crate) level: &'static str,
    /// The seed of the random order in which the check read packs.
    pub(crate) seed: String,
    /// The number of packs that the check read and found undamaged.
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
    pub(crate) packs_damaged: u64,
    /// In seconds.
    pub(crate) duration: u64,
    /// Whether the check read all packs that it had to read.
    pub(crate) complete: bool,
}

/// The restore of one backup in a drill.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DrillEntry {
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) host: Option<String>,
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    pub(crate) bytes: u64,
    /// In seconds.
    pub(crate) duration: f64,
    /// The command that examined the restored content, if there was one.
    pub(crate) command: Option<String>,
    pub(crate) success: bool,
    /// Why the restore or the command failed. `None` if both succeeded.
    pub(crate) problem: Option<String>,
}

/// The public key that verifies the reports that one key signs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReportKeyText {
    pub(crate) public_key: String,
    /// The role of the key that signs.
    pub(crate) role: &'static str,
}

/// A report with a valid signature.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ReportVerified {
    pub(crate) report: String,
    /// The comment that is signed with the report.
    pub(crate) comment: String,
}

impl AuditEntries {
    pub(crate) fn of(list: &AuditList) -> Self {
        Self {
            coverage: list.coverage.iter().map(CoverageEntry::of).collect(),
            runs: list
                .runs
                .iter()
                .map(|(role, run)| RunEntry::of(*role, run))
                .collect(),
            drills: list.drills.iter().map(DrillEntry::of).collect(),
        }
    }
}

impl CoverageEntry {
    fn of(coverage: &Coverage) -> Self {
        let verified = coverage.days.iter().map(|(time, bytes)| VerifiedBytes {
            time: *time,
            bytes: *bytes,
        });
        Self {
            level: coverage.level.name(),
            packs: coverage.packs,
            bytes: coverage.bytes,
            packs_never: coverage.packs_never,
            bytes_never: coverage.bytes_never,
            oldest: coverage.oldest,
            verified: verified.collect(),
        }
    }
}

impl RunEntry {
    fn of(role: Role, run: &AuditRun) -> Self {
        Self {
            time: run.time.at(),
            host: run.host.clone(),
            role: role.name(),
            level: run.level.name(),
            seed: run.seed.to_string(),
            packs: run.packs,
            bytes: run.bytes,
            packs_damaged: run.damaged,
            duration: run.seconds,
            complete: run.complete,
        }
    }
}

impl DrillEntry {
    #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds")]
    pub(crate) fn of(drill: &DrillRun) -> Self {
        Self {
            time: drill.time.at(),
            host: drill.host.clone(),
            backup_id: drill.backup.to_string(),
            volume: drill.volume.clone(),
            bytes: drill.bytes,
            duration: drill.milliseconds as f64 / 1000.0,
            command: drill.command.clone(),
            success: drill.success,
            problem: drill.problem.clone(),
        }
    }
}
