//! Converts the errors of repositories into failures.

use std::borrow::Cow;

use super::storage;
use crate::app::failure::{Code, Failure};
use crate::app::human::short_id;
use crate::repo::{Damage, NoBackupReason, ObjectRef, RepoError, RepoErrorKind};

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Storage(error) => error.into(),
            error => Self::from_error(code(&error), &error).hint_if(hint(&error)),
        }
    }
}

fn code(error: &RepoError) -> Code {
    match error.kind() {
        _ if is_history_lost(error) => Code::HistoryLost,
        // `Code::NotFound` is only for backups, volumes and projects, not for keys.
        RepoErrorKind::NotFound if !matches!(error, RepoError::NoKey { .. }) => Code::NotFound,
        RepoErrorKind::NoRepository => Code::NoRepository,
        RepoErrorKind::WrongPassword => Code::WrongPassword,
        RepoErrorKind::Damaged | RepoErrorKind::Foreign => Code::Damage,
        RepoErrorKind::Cancelled => Code::Interrupted,
        RepoErrorKind::LostRace => Code::Busy,
        RepoErrorKind::Role => Code::NotAllowed,
        RepoErrorKind::Storage(_)
        | RepoErrorKind::Unsupported
        | RepoErrorKind::NotFound
        | RepoErrorKind::Other => Code::Failed,
    }
}

/// Returns whether a missing record may be the record of the backup that the user asked for.
fn is_history_lost(error: &RepoError) -> bool {
    matches!(error, RepoError::Uncertain { reason, .. } if reason.missing)
}

#[expect(clippy::too_many_lines, reason = "a table, with an arm for each error")]
fn hint(error: &RepoError) -> Option<Cow<'static, str>> {
    let hint = match error {
        RepoError::NoRepository { .. } => {
            "check the path, or create a repository there with “cuttlebone init”"
        }
        RepoError::RepositoryExists { .. } => {
            "use it, or choose another location; no command adds a project to a repository yet"
        }
        RepoError::Foreign { .. } => {
            "it is ignored; find out who can write to the repository. “cuttlebone key list” shows \
             the keys"
        }
        RepoError::Unsupported { .. } => "use a newer version of cuttlebone",
        RepoError::Damaged {
            object:
                ObjectRef::Repository
                | ObjectRef::Key(..)
                | ObjectRef::Project(_)
                | ObjectRef::Settings(..),
            ..
        } => "both of its copies are unusable; get one from another copy of the repository",
        RepoError::Damaged {
            source: Damage::Unreadable(error),
            ..
        } => return storage::hint(error).map(Into::into),
        RepoError::Damaged { .. }
        | RepoError::Missing { .. }
        | RepoError::Tree
        | RepoError::Unreadable { .. }
        | RepoError::WrongLength { .. } => {
            "run “cuttlebone check --read-data” to see which backups are affected; other backups \
             are intact"
        }
        RepoError::WrongPassword { .. } => "try again; “cuttlebone key test” checks a password",
        RepoError::NoKeys { .. } => {
            "copy a key saved by “cuttlebone key export” to keys/ID in the repository"
        }
        RepoError::NoSettings { .. } => {
            "copy the directory “settings” of the project from another copy of the repository"
        }
        RepoError::NoProject { known, .. } if known.is_empty() => "this key opens no project",
        RepoError::NoProject { known, .. } => {
            return Some(
                format!(
                    "choose one that this key opens with --project: {}; no command adds a project \
                     yet",
                    known.join(", ")
                )
                .into(),
            );
        }
        RepoError::BadMemory => {
            "nothing was committed, and the faulty pack was not stored. Test the memory of this \
             host, and run “cuttlebone check --read-data” on another one: earlier backups may be \
             damaged"
        }
        RepoError::Thread(_) => "raise the limit of processes and threads (“ulimit -u”)",
        RepoError::NoKey { .. } => "run “cuttlebone key list” to see the keys",
        RepoError::LastKey { .. } => {
            "add another key with “cuttlebone key add”, then remove this one"
        }
        RepoError::NoBackup {
            reason: NoBackupReason::Unknown { similar },
            ..
        } if !similar.is_empty() => {
            let similar = similar.join("” or “");
            return Some(
                format!("did you mean “{similar}”? “cuttlebone list” shows all backups").into(),
            );
        }
        RepoError::NoBackup { .. } => {
            "run “cuttlebone list” to see the backups; an id needs at least 4 digits"
        }
        RepoError::Uncertain {
            found: Some(found), ..
        } => {
            let (id, time) = (found.id.to_string(), found.time);
            return Some(
                format!(
                    "to use the newest one that can be read, name it: {}, of {}. “cuttlebone \
                     check” shows lost objects; copy them from another copy of the repository",
                    short_id(&id),
                    time.strftime("%Y-%m-%d %H:%M:%SZ"),
                )
                .into(),
            );
        }
        RepoError::Uncertain { found: None, .. } => {
            "“cuttlebone list” shows the backups that can be read; copy the record from \
             another copy of the repository"
        }
        RepoError::AmbiguousBackup { matches, .. } => {
            let matches = matches.join(", ");
            return Some(format!("give the id of one of them: {matches}").into());
        }
        RepoError::Cache { .. } => {
            "name a writable directory with --cache-dir; the cache can be deleted at any time"
        }
        RepoError::Role(_) => "“cuttlebone key list” shows the keys and their roles",
        RepoError::NotCertified => {
            "ask the holder of a key with the role “full” for another key; “cuttlebone key list” \
             shows the keys"
        }
        RepoError::Retired { .. } => {
            "back up there; the backups of this project can be read, forgotten and pruned as before"
        }
        RepoError::OtherVolumes { patterns, .. } => {
            let patterns = patterns.join(", ");
            return Some(
                format!("it may back up {patterns}; a key with the role “full” may back up all")
                    .into(),
            );
        }
        RepoError::QuarantineFull => "delete old files in quarantine/: no command needs them",
        RepoError::SettingsNotChanged { .. } => {
            "run it again when no other process changes the settings, then “cuttlebone check”"
        }
        RepoError::LostRace => "run it again; nothing is lost",
        RepoError::RecordTooLarge { .. } => "nothing was stored; use fewer or shorter labels",
        RepoError::LeaseLost => "run it again; an object in leases/ was deleted",
        RepoError::Kdf(_) => "free some memory: unlocking this key needs more than is available",
        RepoError::Storage(_)
        | RepoError::Cancelled(_)
        | RepoError::Random(_)
        | RepoError::Parity(_)
        | RepoError::Compress(_) => return None,
    };
    Some(hint.into())
}
