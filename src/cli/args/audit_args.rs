//! The subcommands of `audit`.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};

use super::action::RepositoryAction;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Show which parts of the data were verified, when and how, and the restore drills
    #[command(after_help = "Example:\n  cuttlebone audit list")]
    List,
    /// Print the public key that verifies the reports of the current key
    #[command(after_help = "Example:\n  cuttlebone audit public-key")]
    PublicKey,
    /// Verify the signature of a report of “check --report”. Needs no repository
    #[command(after_help = "\
Example:
  cuttlebone audit verify-report audit.html --public-key RWQ…")]
    VerifyReport {
        /// The report. Its signature is in REPORT.minisig
        #[arg(value_hint = ValueHint::FilePath)]
        report: PathBuf,
        /// The public key that “cuttlebone audit public-key” printed
        #[arg(long, value_name = "KEY")]
        public_key: String,
    },
}

/// A parsed command.
pub(super) enum AuditAction {
    InRepository(RepositoryAction),
    /// Verify this report with this public key.
    VerifyReport(PathBuf, String),
}

impl AuditCommand {
    pub(super) fn into_action(self) -> AuditAction {
        match self {
            Self::List => AuditAction::InRepository(RepositoryAction::ListAudits),
            Self::PublicKey => AuditAction::InRepository(RepositoryAction::ReportKey),
            Self::VerifyReport { report, public_key } => {
                AuditAction::VerifyReport(report, public_key)
            }
        }
    }
}
