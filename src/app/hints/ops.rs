//! Failures of operations.

use std::borrow::Cow;

use crate::app::failure::{Code, Failure};
use crate::app::human::{short_id, shortened};
use crate::format::DiffErrorKind;
use crate::ops::OpsError;

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Repo(error) => error.into(),
            OpsError::Volume(error) => error.into(),
            error => Self::from_error(code(&error), &error).hint_if(hint(&error)),
        }
    }
}

fn code(error: &OpsError) -> Code {
    match error {
        OpsError::OtherSource { .. } => Code::Usage,
        OpsError::PartOfChunk { .. } => Code::NotAllowed,
        OpsError::LostRace { .. }
        | OpsError::LostToPrune { .. }
        | OpsError::PruneRuns { .. }
        | OpsError::PausedTooLong => Code::Busy,
        OpsError::BaseKind { .. }
        | OpsError::NotFollowing { .. }
        | OpsError::NoBase { .. }
        | OpsError::AmbiguousBase { .. }
        | OpsError::SeveralNewest { .. }
        | OpsError::BaseOfOtherKey { .. }
        | OpsError::NeedsNoBase { .. }
        | OpsError::BaseOfOtherVolume { .. }
        | OpsError::BaseOfOtherSnapshot { .. }
        | OpsError::SnapshotTaken { .. }
        | OpsError::OtherImage { .. }
        | OpsError::ListBeyondEnd { .. }
        | OpsError::BaseCutOtherwise { .. }
        | OpsError::ListIncomplete { .. }
        | OpsError::NoDiff { .. }
        | OpsError::NoSnapshot { .. } => Code::WrongBase,
        OpsError::HistoryGap { .. } => Code::HistoryLost,
        OpsError::Unreadable { .. }
        | OpsError::DamagedDiff { .. }
        | OpsError::AttachmentDamaged { .. }
        | OpsError::SnapshotTwice { .. } => Code::Damage,
        _ => Code::Failed,
    }
}

#[expect(clippy::too_many_lines, reason = "a table, with an arm for each error")]
fn hint(error: &OpsError) -> Option<Cow<'static, str>> {
    let hint = match error {
        OpsError::ReadStream { .. } => {
            "no backup was created; check whether the program that feeds the pipe failed"
        }
        OpsError::SourceChanged { .. } => {
            "back up a snapshot of it, or stop the program that writes to it, and run this again"
        }
        OpsError::BaseKind { .. } => "leave --base out, or name a backup of the same kind",
        OpsError::OtherSource { .. } => {
            "name the volume with --volume NAME; use the same name if it is the same volume"
        }
        OpsError::PartOfChunk { .. } => {
            "with the role “write”, back up the whole image, or the changed extents of a mapped \
             device with --extents; a key with the role “full” can use the diff"
        }
        OpsError::NoVolume { .. } => "run “cuttlebone list” to see the volumes",
        OpsError::Protected { .. } => "nothing was removed; use --force to remove it anyway",
        OpsError::LastOfVolume { .. } => "nothing was removed; to remove it, give its id",
        OpsError::LostRace { .. } => {
            "nothing was removed; wait for the other forget to end, then run this again"
        }
        OpsError::LostToPrune { .. } => {
            "run the backup again; it uses the data stored so far, and earlier backups are intact"
        }
        OpsError::PruneRuns { .. } => {
            "wait for it to end, then run this again; a prune that died is ignored after 10 minutes"
        }
        OpsError::PausedTooLong => "run it again; nothing that is needed was deleted",
        OpsError::Unreadable { .. } => {
            "nothing was deleted; run this as a user who can read these files. Copy damaged ones \
             from another copy of the repository, or delete them to give up their backups"
        }
        OpsError::ReadDiff { .. } | OpsError::ReadList { .. } => {
            "check the disk, or whether the program that feeds the pipe failed"
        }
        OpsError::NotADiff { .. } => {
            "give the output of “rbd export-diff” or “rbd export --export-format 2”"
        }
        OpsError::DamagedDiff { source, .. } => match source.kind {
            DiffErrorKind::Cut(_) => {
                "nothing was applied; check whether the program that wrote it failed, and export \
                 it from the cluster again"
            }
            _ => "do not apply it; export it from the cluster again",
        },
        OpsError::NotFollowing { .. } => {
            "give the diffs oldest first, each starting from the snapshot that the previous one \
             leads to"
        }
        OpsError::NotSeekable { .. } => "store it in a file, and give the file",
        OpsError::NoBase {
            volume,
            known,
            empty,
            ..
        } => return Some(no_base_hint(volume, known, *empty).into()),
        OpsError::AmbiguousBase { backups, .. } => {
            return Some(format!("choose one with --base: {}", backups.join(" or ")).into());
        }
        OpsError::SeveralNewest { backups, .. } => {
            let ids = [&backups[0].id, &backups[1].id].map(|id| short_id(id));
            return Some(
                format!(
                    "nothing was stored; name the one that the list of extents starts from: \
                     --base {} or --base {}. Or back up without --extents, which reads everything \
                     and joins the two",
                    ids[0], ids[1]
                )
                .into(),
            );
        }
        OpsError::BaseOfOtherKey { .. } => {
            "nothing was stored; back up without --extents, or name it with --base if you trust \
             the holder of that key"
        }
        OpsError::HistoryGap { .. } => {
            "the changes may start from the vanished backup. If you know that they start from \
             another one, name it with --base; or back up the whole source. “cuttlebone check” \
             shows all that is missing"
        }
        OpsError::NeedsNoBase { .. } => "leave --base out",
        OpsError::BaseOfOtherVolume { .. } | OpsError::BaseOfOtherSnapshot { .. } => {
            "leave --base out to use the right one. --force-base uses it anyway; the backup is \
             wrong if the diff does not start from its content"
        }
        OpsError::SnapshotTaken { .. } => {
            "no backup was created; if this is another image, back it up to another volume with \
             --volume"
        }
        OpsError::SnapshotTwice { .. } => {
            "no backup was created; no image has two snapshots of one name: export it from the \
             cluster again"
        }
        OpsError::OtherImage { .. } => {
            "nothing was stored; back it up to another volume with --volume"
        }
        OpsError::AttachmentTooLarge { .. } => {
            "if the image has so much metadata, export single snapshots with “rbd export-diff”"
        }
        OpsError::AttachmentDamaged { .. } => {
            "the volume's content is kept apart from it, and can be restored"
        }
        OpsError::DryRunOfChain { .. } => "run “cuttlebone diff inspect” to see its content",
        OpsError::TooLarge { .. } => {
            "no Ceph image is that large; export it from the cluster again"
        }
        OpsError::NotAList { .. } => {
            "give the output of “rbd diff --format json”, and check whether that command failed; \
             if nothing changed, it writes []"
        }
        OpsError::LongList { .. } => {
            "back up without --extents, or with a diff: “rbd export-diff”, then “backup --diff”"
        }
        OpsError::ListBeyondEnd { .. } => {
            "give the list of this image, up to the snapshot that is mapped"
        }
        OpsError::BaseCutOtherwise { .. } => "back up once without --extents",
        OpsError::ListIncomplete { .. } => {
            "nothing was stored; the list does not start from the snapshot of the base, or change \
             tracking missed a change. Run this again without --extents, which reads everything"
        }
        OpsError::NoDiff { .. } => {
            "give two backups of the same image; run “cuttlebone list” to see the backups"
        }
        OpsError::NoSnapshot { .. } => {
            "name the snapshot of the image that has this content with --from-snapshot NAME"
        }
        OpsError::Repo(_) | OpsError::Volume(_) | OpsError::Threads(_) | OpsError::Internal(_) => {
            return None;
        }
    };
    Some(hint.into())
}

/// Returns what to do if no backup is of the snapshot that a diff starts from.
fn no_base_hint(volume: &str, known: &[String], empty: bool) -> String {
    let Some(newest) = known.last() else {
        let known = if empty {
            "the volume has no backups"
        } else {
            "no backup of the volume is of a snapshot"
        };
        return format!(
            "{known}; start with a full diff: rbd export-diff POOL/IMAGE@SNAP - | \
             cuttlebone backup --diff - --volume {volume}"
        );
    };
    format!(
        "it has backups of the snapshots {}; export from one of them: rbd export-diff \
         --from-snap {} POOL/IMAGE@SNAP - | cuttlebone backup --diff - --volume {volume}; \
         or export everything, without --from-snap",
        known_names(known),
        word(newest)
    )
}

/// Quotes a name for a shell if needed.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-.,:+@%/".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

/// Returns the newest few names of a list.
fn known_names(known: &[String]) -> String {
    const SHOWN: usize = 10;
    let (left_out, shown) = known.split_at(known.len().saturating_sub(SHOWN));
    let shown: Vec<_> = shown.iter().map(|name| shortened(name, 60)).collect();
    let shown = shown.join(", ");
    match left_out.len() {
        0 => shown,
        more => format!("{shown} and {more} older ones"),
    }
}
