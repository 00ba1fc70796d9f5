//! The text of the findings of a check.

use std::error::Error;
use std::ops::Range;

use crate::app::check_message::{AffectedEntry, Extent, FindingKind, FindingText};
use crate::app::client_memory::Lost;
use crate::app::failure::one_line;
use crate::app::location::Location;
use crate::ops::{AffectedBackup, Finding, StatementFault};
use crate::repo::RepoError;

/// Returns the damaged or foreign item, and the problem.
pub(crate) fn finding(finding: &Finding) -> FindingText {
    match finding {
        Finding::ObjectDamaged { object, problem } => {
            let why = match &**problem {
                // `item` names the object already.
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
            format!("its size is {found} bytes, but {expected} were expected"),
        ),
        Finding::PackUnindexed { pack } => damage(
            pack,
            "backups need it, but no index segment names it; “repair index” adds it to the index",
        ),
        Finding::BlobUnusable { id, problem } => {
            damage(&format!("blob {id}"), one_line(&**problem))
        }
        Finding::RepositoryDamaged { problem } => damage(&"the repository", one_line(&**problem)),
        Finding::BackupAffected(affected) => FindingText {
            backup: Some(affected_entry(affected)),
            ..damage(
                &format!("backup {}", affected.id),
                lost_parts(&affected.holes, affected.size, &affected.attachments),
            )
        },
        Finding::RecordVanished { record, volume } => {
            let of = match volume {
                Some(volume) => format!(" of volume “{volume}”"),
                None => String::new(),
            };
            damage(
                &format!("backup record {record}{of}"),
                "later backups or the log name it, but it does not exist now",
            )
        }
        Finding::CertificateVanished { certificate } => damage(
            &format!("certificate {certificate}"),
            "the log names it, but it does not exist now: all objects that its key signed are \
             ignored",
        ),
        Finding::EntryVanished { entry } => damage(
            &format!("log entry {entry}"),
            "it existed when later entries were made, but does not exist now",
        ),
        Finding::ProjectVanished {
            project: Some(project),
        } => damage(
            &format!("project {project}"),
            "the copy has it, but it does not exist now",
        ),
        Finding::ProjectVanished { project: None } => damage(
            &"the repository",
            "it has no project, although each repository is made with one",
        ),
        Finding::StatementBroken { fault } => damage(&"the statement", statement_fault(*fault)),
    }
}

/// Returns the text of a finding about one of two repositories, with the location of this
/// repository.
pub(crate) fn finding_at(found: &Finding, location: &Location) -> FindingText {
    let text = finding(found);
    let message = match found {
        Finding::RecordVanished { .. } | Finding::EntryVanished { .. } => {
            "the log names it, or the copy has it, but it does not exist now".to_owned()
        }
        _ => text.message,
    };
    FindingText {
        item: format!("{} in {location}", text.item),
        message,
        ..text
    }
}

fn statement_fault(fault: StatementFault) -> &'static str {
    match fault {
        StatementFault::NoProject => {
            "its project does not exist: the repository was replaced, or this is another one"
        }
        StatementFault::Unreadable => "it cannot be compared: the project object is damaged",
        StatementFault::OtherKey => {
            "another key signs the log: the project was replaced, or this is another one"
        }
        StatementFault::NoEntry => {
            "the log does not have its entry: the repository was replaced by an older state"
        }
    }
}

/// Describes a loss that this host noticed.
pub(crate) fn lost_history(lost: &Lost) -> FindingText {
    let unexplained = match lost.id() {
        Some(_) => ", although the log does not say that it was removed",
        None => "",
    };
    damage(&"the history", format!("{lost}{unexplained}"))
}

fn damage(item: &impl ToString, message: impl Into<String>) -> FindingText {
    FindingText {
        kind: FindingKind::Damaged,
        item: item.to_string(),
        message: message.into(),
        backup: None,
        affects: None,
    }
}

/// Describes a backup that cannot be restored completely.
pub(crate) fn affected_entry(affected: &AffectedBackup) -> AffectedEntry {
    AffectedEntry {
        backup_id: affected.id.to_string(),
        volume: affected.volume.clone(),
        time: affected.time,
        size: affected.size,
        extents: hole_extents(&affected.holes),
        attachments: affected.attachments.clone(),
    }
}

/// Returns the offsets and lengths of the lost parts of a content.
pub(crate) fn hole_extents(holes: &[Range<u64>]) -> Vec<Extent> {
    let extent = |hole: &Range<u64>| Extent {
        offset: hole.start,
        length: hole.end - hole.start,
    };
    holes.iter().map(extent).collect()
}

/// Describes which parts of a backup cannot be restored.
pub(super) fn lost_parts_of(backup: &AffectedEntry) -> String {
    let hole = |extent: &Extent| extent.offset..extent.offset + extent.length;
    let holes: Vec<_> = backup.extents.iter().map(hole).collect();
    lost_parts(&holes, backup.size, &backup.attachments)
}

/// Describes what cannot be restored: parts of a content of `size` bytes, and attachments.
pub(crate) fn lost_parts(holes: &[Range<u64>], size: u64, attachments: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = holes.iter().take(SHOWN).map(range).collect();
    let more = match holes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more parts"),
    };
    let content = (!holes.is_empty()).then(|| {
        let size = exact_size(size);
        format!("bytes {}{more} of {size}", shown.join(", "))
    });
    let attachments = attachments.iter();
    let attachments = attachments.map(|name| format!("attachment “{name}”"));
    let parts: Vec<_> = content.into_iter().chain(attachments).collect();
    match parts.len() {
        0 => "it cannot be restored completely".to_owned(),
        _ => format!("{} cannot be restored", parts.join(" and ")),
    }
}

fn range(hole: &Range<u64>) -> String {
    format!("{} to {}", exact_size(hole.start), exact_size(hole.end))
}

/// Formats a number of bytes in the largest unit in which the number is exact.
fn exact_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, shift): &(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= *shift;
    match units.into_iter().find(fits) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(holes: &[Range<u64>], attachments: &[&str]) -> String {
        let attachments: Vec<_> = attachments.iter().map(|&name| name.to_owned()).collect();
        lost_parts(holes, 8 << 30, &attachments)
    }

    #[test]
    fn the_parts_of_a_backup_that_are_lost_are_named_without_rounding() {
        let one = 4 << 20..8 << 20;
        assert_eq!(
            lost(std::slice::from_ref(&one), &[]),
            "bytes 4 MiB to 8 MiB of 8 GiB cannot be restored"
        );
        assert_eq!(
            lost(&[0..65_536, 65_537..1 << 30], &["meta"]),
            "bytes 0 to 64 KiB, 65537 to 1 GiB of 8 GiB and attachment “meta” cannot be restored"
        );
        let many: Vec<_> = (0..10).map(|n| 2 * n..2 * n + 1).collect();
        assert!(lost(&many, &[]).contains("14 to 15 and 2 more parts of 8 GiB"));
        assert_eq!(lost(&[], &[]), "it cannot be restored completely");
    }
}
