//! The text of what a check finds.

use std::error::Error;

use crate::app::failure::one_line;
use crate::app::message::{FindingKind, FindingText};
use crate::ops::Finding;
use crate::repo::RepoError;

/// Returns the damaged item, and the problem.
pub(crate) fn finding(finding: &Finding) -> FindingText {
    match finding {
        Finding::ObjectDamaged { object, problem } => {
            let why = match &**problem {
                // The item names the object already.
                RepoError::Damaged { source, .. } => one_line(source),
                other => one_line(other),
            };
            damage(object, why)
        }
        Finding::ObjectForeign { object, problem } => {
            let why = problem.source().map(one_line).unwrap_or_default();
            FindingText {
                kind: FindingKind::Foreign,
                ..damage(object, format!("it is foreign and is ignored: {why}"))
            }
        }
        Finding::CopyDamaged {
            object,
            name,
            is_second,
            problem,
        } => {
            let which = if *is_second { "second" } else { "first" };
            let why = problem.source().map(one_line).unwrap_or_default();
            damage(
                object,
                format!(
                    "its {which} copy ({name}) is damaged: {why}; put the other copy in its place"
                ),
            )
        }
        Finding::PackMissing { pack } => damage(pack, "it is missing"),
        Finding::PackWrongSize {
            pack,
            expected,
            found,
        } => damage(
            pack,
            format!("its size is {found} bytes, {expected} were expected"),
        ),
        Finding::PackUnindexed { pack } => damage(
            pack,
            "backups need it, but no index segment names it; a prune adds it to the index",
        ),
        Finding::BlobUnusable { id, problem } => {
            damage(&format!("blob {id}"), one_line(&**problem))
        }
        Finding::RepositoryDamaged { problem } => damage(&"the repository", one_line(&**problem)),
        Finding::BackupAffected { backup } => {
            damage(&format!("backup {backup}"), "it cannot be restored whole")
        }
        Finding::RecordVanished { record } => damage(
            &format!("backup record {record}"),
            "it existed when later backups were made, but does not exist now",
        ),
        Finding::EntryVanished { entry } => damage(
            &format!("log entry {entry}"),
            "it existed when later entries were made, but does not exist now",
        ),
    }
}

fn damage(item: &impl ToString, message: impl Into<String>) -> FindingText {
    FindingText {
        kind: FindingKind::Damaged,
        item: item.to_string(),
        message: message.into(),
    }
}
