//! The losses that this host notices, and the failure of a command because of them.

use std::fmt;

use super::file::SeenBackup;
use crate::app::failure::{Code, Failure};
use crate::app::human::short_id;
use crate::app::location::Location;
use crate::base::{ObjectHash, ProjectId, RepositoryId};

/// Maximum number of losses that a failure names.
const NAMED_MAX: usize = 10;

/// Something that this host saw earlier and that no longer exists. The log neither removes it nor
/// accepts its loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The repository: another one is at its location.
    Repository {
        seen: RepositoryId,
        found: RepositoryId,
        time: String,
    },
    /// The project: another one has its name, or another key signs for it.
    Project {
        name: String,
        seen: ProjectId,
        found: ProjectId,
    },
    /// The newest settings of the project: their revision was `seen`, and is `found` now.
    Settings {
        seen: u64,
        found: u64,
    },
    Backup(SeenBackup),
    LogEntry(ObjectHash),
}

impl Lost {
    /// Returns the id of the missing backup or log entry; `None` for all other losses.
    pub(crate) const fn id(&self) -> Option<ObjectHash> {
        match self {
            Self::Backup(backup) => Some(backup.id),
            Self::LogEntry(entry) => Some(*entry),
            Self::Repository { .. } | Self::Project { .. } | Self::Settings { .. } => None,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository { seen, found, time } => write!(
                f,
                "another repository is there ({found}; this host saw {seen} on {time})"
            ),
            Self::Project { name, seen, found } => write!(
                f,
                "another project is named “{name}” there, or another key signs for it ({found}; \
                 this host saw {seen})"
            ),
            Self::Settings { seen, found } => write!(
                f,
                "the settings of the project are older (revision {found}; this host saw {seen})"
            ),
            Self::Backup(SeenBackup {
                id, volume, time, ..
            }) => {
                let id = id.to_string();
                let id = short_id(&id);
                write!(f, "backup {id} of volume “{volume}” from {time} is missing")
            }
            Self::LogEntry(hash) => {
                let hash = hash.to_string();
                write!(f, "entry {} of the log is missing", short_id(&hash))
            }
        }
    }
}

/// Returns the failure of a command that must not continue after a loss.
pub(crate) fn history_lost(location: &Location, lost: &[Lost]) -> Failure {
    let message =
        format!("{location} has lost objects that this host saw there, or is another repository");
    let is_other = lost.iter().any(|lost| lost.id().is_none());
    let mut failure = Failure::new(Code::HistoryLost, message).hint(if is_other {
        "find out whether the right disk is mounted, and who changed the repository. If this is \
         the right one, run “cuttlebone check --accept-history”"
    } else {
        "find out who changed it, and copy the missing files from another copy. If someone \
         replaced it by an older state on purpose, run “cuttlebone check --accept-history”"
    });
    let named = lost.iter().take(NAMED_MAX).map(ToString::to_string);
    failure.causes.extend(named);
    if let Some(more) = lost.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        failure.causes.push(format!("{more} more are missing"));
    }
    failure
}
