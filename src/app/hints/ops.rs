//! Converts the errors of operations (backup, prune and others) into failures.

use std::borrow::Cow;

use crate::app::failure::{Code, Failure};
use crate::app::human::{shell_word, short_id, shortened};
use crate::format::DiffErrorKind;
use crate::ops::OpsError;
use crate::volume::FreezeError;

/// The next step if the user gave a list of extents, but not the snapshot that it starts from.
const LIST_START: &str = "name it with --from-snapshot NAME, if the volume's newest \
    backup is of that snapshot, or with --base BACKUP; or back up without --extents. For a list of \
    all data, as “rbd diff” without --from-snap prints it, give --from-nothing";

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Repo(error) => error.into(),
            OpsError::Volume(error) => error.into(),
            OpsError::Rbd(error) => error.into(),
            error => Self::from_error(code(&error), &error).hint_if(hint(&error)),
        }
    }
}

fn code(error: &OpsError) -> Code {
    match error {
        OpsError::OtherSource { .. }
        | OpsError::AttachmentName { .. }
        | OpsError::AttachmentsTooLarge { .. }
        | OpsError::ListWithoutStart
        | OpsError::NotMissing { .. }
        | OpsError::SeveralMissing { .. }
        | OpsError::SameProject
        | OpsError::DiffAsContent { .. } => Code::Usage,
        OpsError::PartOfChunk { .. } | OpsError::LabelOfWriteKey { .. } => Code::NotAllowed,
        OpsError::NoVolume { .. } | OpsError::NoProjectId { .. } => Code::NotFound,
        OpsError::LostRace { .. }
        | OpsError::LostToPrune { .. }
        | OpsError::PruneRuns { .. }
        | OpsError::AlwaysChanging { .. }
        | OpsError::BackupRuns
        | OpsError::PausedTooLong => Code::Busy,
        OpsError::BaseKind { .. }
        | OpsError::NotFollowing { .. }
        | OpsError::NoBase { .. }
        | OpsError::BaseNotNewest { .. }
        | OpsError::AmbiguousBase { .. }
        | OpsError::SeveralNewest { .. }
        | OpsError::BaseOfOtherKey { .. }
        | OpsError::BaseWithdrawn { .. }
        | OpsError::NeedsNoBase { .. }
        | OpsError::BaseOfOtherVolume { .. }
        | OpsError::BaseOfOtherSnapshot { .. }
        | OpsError::SnapshotTaken { .. }
        | OpsError::OtherImage { .. }
        | OpsError::OtherStated { .. }
        | OpsError::NothingShared { .. }
        | OpsError::ListBeyondEnd { .. }
        | OpsError::BaseCutOtherwise { .. }
        | OpsError::ListIncomplete { .. }
        | OpsError::NoDiff { .. }
        | OpsError::NoSnapshot { .. } => Code::WrongBase,
        OpsError::HistoryCut { missing } if missing.is_only_damage() => Code::Damage,
        OpsError::HistoryGap { .. } | OpsError::HistoryCut { .. } | OpsError::NoBackups { .. } => {
            Code::HistoryLost
        }
        // An empty diff counts as damaged: it was cut short before its first byte.
        OpsError::NotADiff { source, .. } if source.kind == DiffErrorKind::Empty => Code::Damage,
        OpsError::Unreadable { .. }
        | OpsError::DamagedDiff { .. }
        | OpsError::AttachmentDamaged { .. }
        | OpsError::NotCopied { .. }
        | OpsError::CopyLost { .. }
        | OpsError::DamagedTarget { .. }
        | OpsError::Holes { .. }
        | OpsError::Hole { .. }
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
        OpsError::EmptySource { .. } => {
            "no backup was created; check whether the device has a medium, and whether the program \
             that feeds a pipe failed. If the source is really empty, use --allow-empty"
        }
        OpsError::DiffAsContent { .. } => {
            "no backup was created; to back up the image, pipe the diff into “cuttlebone backup \
             --diff - --volume NAME”, or name its file with --diff. To store the diff itself, use \
             --allow-diff"
        }
        OpsError::SourceChanged { .. } => {
            "back up a snapshot of it, or stop the program that writes to it, and run this again"
        }
        OpsError::Rbd(_) => return None,
        OpsError::MirroredImage { .. } => {
            "back up the image in the cluster where it is primary, or a snapshot that the mirror \
             has: rbd:POOL/IMAGE@SNAPSHOT"
        }
        OpsError::Freeze(FreezeError::NotThawed(_)) => {
            "thaw them by hand. No backup was created, and all new snapshots were removed"
        }
        OpsError::Freeze(_) => {
            "no backup was created, and all new snapshots were removed. If the command before the \
             snapshot ran, the command after the snapshot has run, too"
        }
        OpsError::NoLease => {
            "no snapshot was removed; run the command on a host that can write to the repository"
        }
        OpsError::BackupRuns => {
            "no snapshot was removed; run the command again when no backup of the project runs"
        }
        OpsError::ExistingParameters { .. } => {
            "leave out the options for a new image, or name a new image"
        }
        OpsError::MirrorTarget { .. } => {
            "restore to the image in the cluster where it is primary, or to a new image"
        }
        OpsError::OtherImageSize { .. } => {
            "add --resize to give the image the size of the backup, or restore to a new image"
        }
        OpsError::ImageOpened { .. } => {
            "the image is a mixture of old and restored data; stop the program that uses it, and \
             run this again"
        }
        OpsError::MixedImage { .. } => {
            "complete the restore with --in-place, or add --allow-interrupted-restore to back up \
             the image as it is"
        }
        OpsError::NoSeries { .. } => {
            "with --from BACKUP, name an older backup of the same volume: “cuttlebone list VOLUME”"
        }
        OpsError::SeriesNameTwice { .. } => {
            "with --from BACKUP, name a backup after the first of the two"
        }
        OpsError::AttachmentName { .. } => "rename the file, or leave it out",
        OpsError::AttachmentsTooLarge { .. } => {
            "back up large files as a volume of their own, for example with --command 'tar c …'"
        }
        OpsError::NotAnImage { .. } => "restore it to a file, or to standard output",
        OpsError::WrongExport { .. } => {
            "no backup was created; run it again. If this happens again, check the program that \
             --rbd-command names"
        }
        OpsError::BaseKind { .. } => "leave --base out, or name a backup of the same kind",
        OpsError::OtherSource { .. } => {
            "if both sources hold the same volume, use --volume with its name; otherwise use \
             --volume with another name"
        }
        OpsError::PartOfChunk { .. } => {
            "only a key with the role “full” can use this diff. With the role “write”, back up the \
             whole image, or use --extents with a mapped device"
        }
        OpsError::LabelOfWriteKey { .. } => {
            "give the labels when the host backs up: backup --label KEY=VALUE. To change them \
             later, a full key would have to sign the new record, and would then state that the \
             data was verified"
        }
        OpsError::NoVolume { .. } => "run “cuttlebone list” to see the volumes",
        OpsError::Protected { .. } => "nothing was removed; use --force to remove it anyway",
        OpsError::LastOfVolume { .. } => "nothing was removed; to remove this backup, give its id",
        OpsError::LostRace { .. } => {
            "nothing was removed; wait for the other forget to end, then run this again"
        }
        OpsError::LostToPrune { .. } => {
            "run the backup again; it uses the data stored so far, and earlier backups are intact"
        }
        OpsError::PruneRuns { .. } => {
            "wait for the other prune to end, then run this again. A lease that its process \
             has not renewed for 10 minutes is ignored. If you know that the other prune has \
             ended, delete the file of its lease"
        }
        OpsError::PausedTooLong => "run it again; nothing that is needed was deleted",
        OpsError::Unreadable { .. } => {
            "nothing was deleted; run this as a user who can read these files, and copy damaged \
             ones from another copy of the repository. To give up the backups of damaged records, \
             name each record with --accept-loss NAME; “replicate --mirror” later deletes them \
             from copies, too"
        }
        OpsError::ReadDiff { .. } | OpsError::ReadList { .. } => {
            "check the disk, or whether the program that feeds the pipe failed"
        }
        OpsError::NotADiff { source, .. } if source.kind == DiffErrorKind::Empty => {
            "nothing was applied; check whether the program that should write the diff failed"
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
            listed,
            ..
        } => {
            return Some(if *listed {
                no_list_base_hint(known, *empty).into()
            } else {
                no_base_hint(volume, known, *empty).into()
            });
        }
        OpsError::BaseNotNewest { base, .. } => {
            return Some(
                format!(
                    "nothing was stored; if no other snapshot of that name was made since, name \
                     the backup: --base {}. Otherwise back up everything, and give each snapshot \
                     a name of its own, with date and time",
                    short_id(&base.id)
                )
                .into(),
            );
        }
        OpsError::ListWithoutStart => LIST_START,
        OpsError::AmbiguousBase { backups, .. } => {
            return Some(format!("choose one with --base: {}", backups.join(" or ")).into());
        }
        OpsError::SeveralNewest { backups, .. } => {
            let ids = [&backups[0].id, &backups[1].id].map(|id| short_id(id));
            return Some(
                format!(
                    "nothing was stored; name the backup that the list of extents starts from: \
                     --base {} or --base {}. Or back up without --extents: this reads everything, \
                     and the new backup follows both",
                    ids[0], ids[1]
                )
                .into(),
            );
        }
        OpsError::BaseOfOtherKey { .. } => {
            "nothing was stored; back up the whole source (without --extents, or as a full diff), \
             or name the right base with --base. Name this backup only if you trust the holder of \
             its key"
        }
        OpsError::HistoryGap { .. } => {
            "the changes may start from a backup that is missing. If you know that they start from \
             another one, name it with --base; or back up the whole source. “cuttlebone check” \
             lists everything that is missing"
        }
        OpsError::HistoryCut { .. } => {
            "nothing was deleted. Find out who can change files in the repository, and copy the \
             missing ones from another copy of it (projects/*/backups/NAME, projects/*/log/NAME, \
             and projects/*/writers/NAME with NAME.copy for certificates). To accept the loss of \
             those that you cannot find, name each with --accept-loss NAME, or give \
             --accept-loss all. What a damaged log entry stated is then unknown: keys that only \
             this entry revoked count again until you revoke them again. Backups of a key without \
             its certificate no longer count. The data that only lost backups use is then deleted \
             for ever, and “replicate --mirror” later deletes it from copies, too"
        }
        OpsError::OtherRepository { .. } => {
            "nothing was copied; give a directory that is empty, or that has a copy of the same \
             repository"
        }
        OpsError::AlwaysChanging { .. } => "run this again while no prune runs",
        OpsError::NoProjectId { .. } => {
            "give the id of a project: “cuttlebone head” shows it, and it is the name of its \
             directory in projects/"
        }
        OpsError::NoBackups { .. } => {
            "nothing was deleted. If there were backups, copy projects/*/backups from another \
             copy of the repository. If there never was a backup, or you need none, delete all \
             data with --accept-loss all"
        }
        OpsError::NotMissing { .. } => {
            "give names that the error message or “cuttlebone check” shows, with all 64 digits or \
             at least the first 8"
        }
        OpsError::SeveralMissing { .. } => "give more digits of the name",
        OpsError::NeedsNoBase { .. } => "leave --base out",
        OpsError::BaseWithdrawn { .. } => {
            "leave --base out, or name another backup; a backup is withdrawn if data that it needs \
             may be missing"
        }
        OpsError::BaseOfOtherVolume { .. } | OpsError::BaseOfOtherSnapshot { .. } => {
            "leave --base out to use the right base. --force-base uses this one anyway; if the \
             diff does not start from its content, the new backup is wrong"
        }
        OpsError::SnapshotTaken { .. } => {
            "no backup was created; give each snapshot a name of its own, with date and time. If \
             this is another image, back it up to another volume with --volume"
        }
        OpsError::SnapshotTwice { .. } => {
            "no backup was created; an image cannot have two snapshots of the same name: export it \
             from the cluster again"
        }
        OpsError::OtherImage { .. } => {
            "nothing was stored; back it up to another volume with --volume"
        }
        OpsError::AttachmentTooLarge { .. } => {
            "if the image really has this much metadata, export single snapshots with “rbd \
             export-diff”"
        }
        OpsError::AttachmentDamaged { .. } => {
            "the volume's content is stored separately, and can be restored"
        }
        OpsError::DryRunOfChain { .. } => {
            "to see what the stream contains, run “cuttlebone diff inspect”"
        }
        OpsError::OtherStated { .. } | OpsError::NothingShared { .. } => {
            "no backup was created; if this is another image, back it up to another volume with \
             --volume. If the volume has other content now, use --new-content"
        }
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
            "give a list that was made for this image, up to the snapshot that is mapped"
        }
        OpsError::BaseCutOtherwise { .. } => "back up once without --extents",
        OpsError::ListIncomplete { .. } => {
            "nothing was stored; the list does not start from the snapshot of the base, or change \
             tracking missed a change. Run this again without --extents to read everything"
        }
        OpsError::NoDiff { .. } => {
            "give two backups of the same image; run “cuttlebone list” to see the backups"
        }
        OpsError::Holes { .. } => {
            "nothing was written; restore all other parts with --keep-going, or try an older \
             backup. “cuttlebone check” shows all damage"
        }
        OpsError::Hole { .. } => {
            "the target is incomplete, and a new file was not created; restore all other parts \
             with --keep-going, or try an older backup. “cuttlebone check” shows all damage"
        }
        OpsError::NotCopied { .. } => {
            "“cuttlebone check --read-data” shows the damage, and “cuttlebone restore \
             --keep-going” restores all other parts of this backup. If another copy of the \
             repository has the data, repair this one with “cuttlebone repair parity --from REPO \
             --yes”, and run the command again"
        }
        OpsError::CopyOfWriteKey { .. } => {
            "to copy such backups, too, add --accept-write-keys. The holder of a write key can \
             make a backup with any content, even with data of other volumes. The key of the \
             target signs the copy, which then counts like any backup there. So do this only if \
             you trust the holders of all write keys"
        }
        OpsError::CopyTooLarge { .. } => "restore it, and back up the result",
        OpsError::CopyLost { .. } => {
            "“cuttlebone check” of the target shows the damage. Repair the target with “cuttlebone \
             repair parity --yes”, or remove this copy there with “cuttlebone forget”, and run the \
             command again"
        }
        OpsError::DamagedTarget { .. } => {
            "“cuttlebone check --read-data” of the target shows the damage, and “cuttlebone \
             repair parity” shows whether it can be repaired. The backups that were copied until \
             now are complete"
        }
        OpsError::CopyWithdrawn { .. } => {
            "restore it, and back up the result, if its data is complete"
        }
        OpsError::SameProject => {
            "name a repository that was made with “cuttlebone init”. To copy a repository with \
             the same keys, use “cuttlebone replicate”"
        }
        OpsError::OtherVolume { .. } => {
            "nothing was copied. If both volumes are the same disk, copy the backups of this \
             volume alone, and give the same name with --to-volume. Otherwise, give another name \
             with --to-volume"
        }
        OpsError::TargetChanged { .. } => {
            "the target is a mixture of old and restored data; stop the program that writes to it, \
             and run this again with --in-place"
        }
        OpsError::NoSnapshot { .. } => {
            "with --from-snapshot NAME, name the snapshot of the image that has this content"
        }
        OpsError::Repo(_)
        | OpsError::Volume(_)
        | OpsError::Thread(_)
        | OpsError::Threads(_)
        | OpsError::Internal(_) => {
            return None;
        }
    };
    Some(hint.into())
}

/// Returns the next step if the volume has no backup of the snapshot that a diff starts from.
/// `known` has the snapshots of the volume's backups, oldest first. `empty` is true if the volume
/// has no backups.
fn no_base_hint(volume: &str, known: &[String], empty: bool) -> String {
    let Some(newest) = known.last() else {
        let known = if empty {
            "the volume has no backups"
        } else {
            "none of the volume's backups is of a snapshot"
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
        newest_names(known),
        shell_word(newest)
    )
}

/// Returns the next step if the volume has no backup of the snapshot that a list of extents starts
/// from.
fn no_list_base_hint(known: &[String], empty: bool) -> String {
    let known = match known.last() {
        Some(_) => format!("it has backups of the snapshots {}", newest_names(known)),
        None if empty => "the volume has no backups".to_owned(),
        None => "no backup of the volume is of a snapshot".to_owned(),
    };
    format!(
        "{known}. Nothing was stored; back up the whole image once: without --extents and \
         --from-snapshot, and with --to-snapshot NAME"
    )
}

/// Lists the newest names, at most 10, and says how many older ones there are. `known` has the
/// newest last.
fn newest_names(known: &[String]) -> String {
    const SHOWN: usize = 10;
    let (left_out, shown) = known.split_at(known.len().saturating_sub(SHOWN));
    let shown: Vec<_> = shown.iter().map(|name| shortened(name, 60)).collect();
    let shown = shown.join(", ");
    match left_out.len() {
        0 => shown,
        more => format!("{shown} and {more} older"),
    }
}
