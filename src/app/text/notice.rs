//! The text of notices.

use std::path::Path;

use crate::app::human::{count, short_id};
use crate::base::{Notice, ObjectHash, RebuildReason};

use super::image_event::image_event;

/// Returns the text of a notice.
#[expect(
    clippy::too_many_lines,
    reason = "a table, with an arm for each notice"
)]
pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::IndexRebuilt(reason) => rebuild_reason(reason),
        Notice::CopyDamaged { problem } => {
            format!("{problem}; using its other copy (“cuttlebone check” shows details)")
        }
        Notice::Resumed { packs } => format!(
            "an earlier run was interrupted; using the {} that it stored",
            count(*packs, "pack")
        ),
        Notice::PacksUnindexed { packs } => format!(
            "the index does not list {}: reading the listings in the packs themselves",
            count(*packs, "pack")
        ),
        Notice::SegmentDamaged { problem } => {
            format!("{problem}; reading the listings of its packs instead")
        }
        Notice::ListingDamaged { problem } => problem.clone(),
        Notice::PackStays { problem } => pack_stays(problem),
        Notice::KeySlotDamaged { problem } => format!("{problem}; ignoring this key"),
        Notice::KeySlotSkipped { key, problem } => {
            let key = key.to_string();
            format!("key {} cannot be tried: {problem}", short_id(&key))
        }
        Notice::KeySlotsIgnored { directory, slots } => format!(
            "ignoring {} in {directory}: each is unusable, or not among the 64 that are tried",
            count(*slots, "more key slot")
        ),
        Notice::SettingsDamaged { problem } => format!("{problem}; ignoring these settings"),
        Notice::CertificateDamaged { problem } => {
            format!("{problem}; ignoring it, so objects that its key signed may count as foreign")
        }
        Notice::RecordDamaged { problem } => {
            format!("{problem}; “cuttlebone check” shows details")
        }
        Notice::DamageAccepted { problem } => damage_accepted(problem),
        Notice::PacksNotNeeded { packs } => format!(
            "{} that the index names {} missing or damaged, but no backup needs the lost data; \
             “cuttlebone prune” removes them",
            count(*packs, "pack"),
            if *packs == 1 { "is" } else { "are" }
        ),
        Notice::PacksMissing { packs } => format!(
            "{} that the index names {} missing or too short: storing again all data that this \
             backup needs from there; “cuttlebone check” shows which backups are damaged",
            count(*packs, "pack"),
            if *packs == 1 { "is" } else { "are" }
        ),
        Notice::NoBackupOfHost { host, known } => {
            let known = match &known[..] {
                [] => "no backup names its host".to_owned(),
                known => format!("hosts with backups: {}", known.join(", ")),
            };
            format!("no backup was made by host “{host}”; {known}")
        }
        Notice::SeenBefore { repository, time } => format!(
            "this host saw another repository there ({repository}, on {time}). If the disk of that \
             repository is not mounted now, delete the new repository"
        ),
        Notice::TargetLarger { target, bytes, cut } => {
            let what = if *cut {
                "will be cut off"
            } else {
                "will stay as they are"
            };
            format!("{target} is larger than the backup: its last {bytes} bytes {what}")
        }
        Notice::PacksDamaged { packs } => format!(
            "parts of {} are damaged: storing again all data that this backup needs from there; \
             “cuttlebone check --read-data” shows which backups are damaged",
            count(*packs, "pack")
        ),
        Notice::RecordMissing { record } => format!(
            "backup record {record} is missing, although it was not forgotten; “cuttlebone check” \
             shows details"
        ),
        Notice::NoRestoreMark { problem } => format!(
            "could not store the mark of a running restore ({problem}): if the restore is \
            interrupted, no later command will report this"
        ),
        Notice::SourceInUse { device, user } => format!(
            "{device} may change while it is read, since {user}: the backup may be a mixture of \
            old and new data. Back up a snapshot of it"
        ),
        Notice::SourceUnchanged => {
            "the file was not written to since the last backup: its content \
            was taken from there (--reread reads the file anyway)"
                .to_owned()
        }
        Notice::NoBaseForExtents => "there is no backup to build on: all data outside the list of \
            extents is assumed to be zero"
            .to_owned(),
        Notice::BaseByName { volume, snapshot } => format!(
            "only the name of snapshot “{snapshot}” connects this diff with volume “{volume}”: \
             give the image's id with --image-id, here and in later backups, to be sure of the \
             image"
        ),
        Notice::HeadOfImage => "the last diff of the stream is of the image itself, not of a \
            snapshot: if the image was in use, this backup may mix data of several points in time"
            .to_owned(),
        Notice::ReadWithoutLease { problem } => format!(
            "reading without a lease, since the repository cannot be written ({problem}): do not \
            run “prune --grace 0” on the repository until this command has ended"
        ),
        Notice::LedgerNotStored { problem } => format!(
            "could not note in the repository which data this run verified ({problem}): later runs \
             verify it again"
        ),
        Notice::GoodWhenReadAgain { problem } => format!(
            "{problem}; it was good when it was read again: check the memory, the network and the \
             disks of this host"
        ),
        Notice::PartsUnknown => "this key cannot tell which parts of a damaged pack can still be \
            read: all data in it counts as damaged. Run the command with a full key to learn more"
            .to_owned(),
        Notice::CopyInUse { location } => format!(
            "another process works in {location} (there are files in projects/*/leases). If it is \
             a prune, run “cuttlebone replicate” again after the prune has ended"
        ),
        Notice::ConcurrentPrune => "a prune is running at the same time: storing again the data \
            that this backup needs and that the prune marked"
            .to_owned(),
        Notice::LabelsKept { backup } => {
            format!("backup {backup} exists already and keeps its own labels")
        }
        Notice::NotAttached { backup } => {
            format!("backup {backup} exists already: the files were not attached to it")
        }
        Notice::SeveralNewest { volume, newest } => several_newest(volume, newest),
        Notice::NamedByWriteKeysOnly { records, first } => named_by_write_keys(*records, first),
        Notice::HistoryLost { problem } => history_lost(problem),
        Notice::Behind { location, backups } => format!(
            "this repository is at least {} behind {location}",
            count(*backups as u64, "backup")
        ),
        Notice::MemoryDamaged { path, problem } => format!(
            "could not read {}, which lists what this host saw of the repository ({problem}): a \
             new file replaces it, so this host will not notice earlier losses",
            path.display()
        ),
        Notice::MemoryUnusable { path, problem } => memory_unusable(path, problem),
        Notice::Withdrawn { backup } => withdrawn(backup),
        Notice::MayLackChanges { backup, found_by } => may_lack_changes(backup, found_by),
        Notice::Forgotten { backup } => forgotten(backup),
        Notice::Image { image, event } => image_event(image, event),
        Notice::PasswordFileReadable { file } => {
            format!("other users of this host can read {file}; run “chmod 600” on it")
        }
    }
}

fn pack_stays(problem: &str) -> String {
    format!("{problem}; the pack stays as it is (“cuttlebone check” shows details)")
}

fn several_newest(volume: &str, newest: &[ObjectHash]) -> String {
    let ids: Vec<_> = newest.iter().map(ToString::to_string).collect();
    let ids: Vec<_> = ids.iter().map(|id| short_id(id)).collect();
    format!(
        "volume “{volume}” has {} separate lines of backups. Their newest backups are {}; the \
         first of these counts as the newest of the volume",
        ids.len(),
        ids.join(", ")
    )
}

fn named_by_write_keys(records: u64, first: &ObjectHash) -> String {
    let (object, subject) = match records {
        1 => ("it", "it was"),
        _ => ("them", "they were"),
    };
    format!(
        "{} cannot be found ({first}), and only backups of write keys name {object}: {subject} \
         deleted soon after creation, or invented by someone with a stolen key",
        count(records, "backup")
    )
}

fn damage_accepted(problem: &str) -> String {
    format!(
        "{problem}; the log says that it was removed or given up. “cuttlebone prune” deletes it if \
         it is a file"
    )
}

fn history_lost(problem: &str) -> String {
    format!("{problem}; “cuttlebone check” shows the next steps")
}

fn memory_unusable(path: &Path, problem: &str) -> String {
    format!(
        "{} cannot be used ({problem}): if backups vanish from the repository, this host may not \
         notice",
        path.display()
    )
}

fn withdrawn(backup: &ObjectHash) -> String {
    format!(
        "the writer of backup {} withdrew it: data that it needs may be missing",
        short_id(&backup.to_string())
    )
}

fn may_lack_changes(backup: &ObjectHash, found_by: &ObjectHash) -> String {
    format!(
        "backup {} may lack changes: it read only those that Ceph listed, and backup {}, which \
         read all data, showed that the lists were incomplete",
        short_id(&backup.to_string()),
        short_id(&found_by.to_string())
    )
}

fn forgotten(backup: &ObjectHash) -> String {
    format!(
        "backup {} was forgotten, but still exists: the “forget” was interrupted, or someone put \
         the backup back",
        short_id(&backup.to_string())
    )
}

fn rebuild_reason(reason: &RebuildReason) -> String {
    match reason {
        RebuildReason::Directory { path, problem } => format!(
            "the cache in {} cannot be used ({problem}): building the index in memory; choose \
            another directory with --cache-dir",
            path.display()
        ),
        RebuildReason::Unusable { problem } => format!("rebuilding the local index: {problem}"),
        RebuildReason::Stale => {
            "rebuilding the local index: it names packs that no longer exist".to_owned()
        }
    }
}
