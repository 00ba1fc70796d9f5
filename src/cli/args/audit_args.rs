//! The subcommands of `audit`.

use clap::Subcommand;

use super::action::RepositoryAction;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Show which parts of the data were verified, when and how, and the restore drills
    #[command(after_help = "Example:\n  cuttlebone audit list")]
    List,
}

impl AuditCommand {
    pub(super) fn into_action(self) -> RepositoryAction {
        match self {
            Self::List => RepositoryAction::ListAudits,
        }
    }
}
