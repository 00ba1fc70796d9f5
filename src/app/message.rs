//! The messages of commands as data. Serialized, a message is a JSON line; [`text`](super::text)
//! formats it for people.
//!
//! Field names are an interface: published names never change. New fields may be added.
//! Sizes are in bytes, durations in seconds, and times in RFC 3339 and UTC. Ids are written in
//! full, in hexadecimal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::attachment_message::{AttachmentEntry, Attachments};
use super::audit_message::{CoverageEntry, DrillEntry, ReportKeyText, ReportVerified, RunEntry};
use super::check_message::{AffectedEntry, CheckSummary, Extent, FindingText, KeylessSummary};
use super::copy_message::{CopiedBackup, CopySummary};
use super::diff_message::{
    DiffEntry, DiffImage, DiffStream, ExportSummary, MergeSummary, Metadata,
};
use super::json_time::{optional_rfc3339, rfc3339};
use super::key_change::KeyChange;
use super::prune_message::PruneSummary;
use super::repair_message::{ParitySummary, RepairStepEntry, RepairSummary};
use super::replicate_message::ReplicateSummary;
use super::restore_message::RestoreSummary;
use super::stats::{Stats, VolumeStats};
use super::volume_status::{SnapshotEntry, SnapshotsSummary, StatusSummary, VolumeStatusEntry};
use crate::format::ByteString;

/// One line of `--json`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(crate) enum Message {
    /// The progress of an operation.
    Status(Status),
    /// `init` created a repository.
    #[serde(rename = "summary")]
    Init(InitSummary),
    #[serde(rename = "summary")]
    Backup(BackupSummary),
    #[serde(rename = "summary")]
    Restore(RestoreSummary),
    #[serde(rename = "summary")]
    Compare(CompareSummary),
    /// The result of `show`.
    #[serde(rename = "backup")]
    Detail(Box<BackupDetail>),
    /// The result of `show --attachments` and `restore --attachments`.
    Attachments(Attachments),
    /// Damage that `check`, `prune`, `replicate` or `repair packs` found.
    Error(FindingText),
    Check(CheckSummary),
    /// The result of `check --keyless`.
    #[serde(rename = "check")]
    Keyless(KeylessSummary),
    Stats(Stats),
    /// The result of `stats VOLUME`.
    #[serde(rename = "stats")]
    VolumeStats(VolumeStats),
    /// The result of `key add`, `remove`, `revoke`, `passwd`, `test` or `export`.
    KeyChange(KeyChange),
    Cache(CacheInfo),
    /// The properties of the image in a stream of version 2. The diffs of the stream follow.
    DiffImage(DiffImage),
    /// The result of `diff inspect` for a stream as a whole, after the diffs of the stream.
    DiffStream(DiffStream),
    #[serde(rename = "summary")]
    Merge(MergeSummary),
    #[serde(rename = "summary")]
    Export(ExportSummary),
    #[serde(rename = "summary")]
    Forget(ForgetSummary),
    Prune(Box<PruneSummary>),
    #[serde(rename = "summary")]
    Label(LabelSummary),
    /// The result of `copy` for one backup.
    Copied(CopiedBackup),
    #[serde(rename = "summary")]
    Copy(CopySummary),
    #[serde(rename = "summary")]
    Replicate(ReplicateSummary),
    Head(HeadStatement),
    /// The result of `status`, after its volumes.
    #[serde(rename = "summary")]
    VolumeStatus(StatusSummary),
    /// The result of `snapshots`, after the snapshots.
    #[serde(rename = "summary")]
    Snapshots(SnapshotsSummary),
    RepairStep(RepairStepEntry),
    Repair(RepairSummary),
    Parity(ParitySummary),
    /// The result of `audit public-key`.
    ReportKey(ReportKeyText),
    /// The result of `audit verify-report`.
    ReportVerified(ReportVerified),
}

/// The result of `head`: a statement of the current state of a project's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HeadStatement {
    pub(crate) project: String,
    pub(crate) project_id: String,
    /// The number of the newest entry of the log.
    pub(crate) number: u64,
    /// The hash of that entry.
    pub(crate) entry: String,
    /// The public key that signs the log.
    pub(crate) signing_key: String,
    /// The first 20 bytes of the BLAKE3 hash of that key.
    pub(crate) fingerprint: String,
    /// When the entry was written.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// Two words that reveal a mistake when someone copies the statement.
    pub(crate) checksum: String,
    /// Whether this run wrote the entry. If not, there was nothing new.
    pub(crate) written: bool,
    /// The number of objects that this run put into the log.
    pub(crate) objects_added: u64,
    /// The number of objects that this entry and the entries before it cover.
    pub(crate) objects: u64,
    /// The content of the QR code: the statement in one line.
    pub(crate) qr_content: String,
    /// The QR code, as text; `None` if it is not printed.
    #[serde(skip)]
    pub(crate) qr: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Status {
    /// The part that is done, from 0 to 1. Like the other optional numbers, `None` if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) percent_done: Option<f64>,
    pub(crate) bytes_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_bytes: Option<u64>,
    pub(crate) seconds_elapsed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_remaining: Option<u64>,
    /// `index`, `backup`, `verify_sample`, `compare_target`, `restore`, `check_structure`,
    /// `check_data`, `mark`, `repack`, `inspect_diff`, `merge_diffs`, `export_diff`, `replicate` or
    /// `store_parity`. The numbers of each phase start at 0. `check_structure` counts backups
    /// instead of bytes, and `mark` counts trees or backups.
    pub(crate) phase: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct InitSummary {
    pub(crate) repository: String,
    pub(crate) repository_id: String,
    pub(crate) project: String,
    pub(crate) chunk_size: u32,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackupSummary {
    /// `None` for a dry run.
    pub(crate) backup_id: Option<String>,
    pub(crate) volume: String,
    /// The snapshot that was backed up, if the source named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<ByteString>,
    /// Whether the volume already had this backup, so that no new one was created.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) existing: bool,
    pub(crate) size: u64,
    /// Bytes of whole chunks that differ from the base. For a stream, bytes of chunks that the
    /// project did not have.
    pub(crate) bytes_changed: u64,
    /// Bytes that were read from the source.
    pub(crate) bytes_read: u64,
    /// Bytes of the new chunks before compression.
    pub(crate) bytes_new: u64,
    /// Bytes that were written to the repository.
    pub(crate) bytes_stored: u64,
    /// The number of chunks that were stored.
    pub(crate) chunks_new: u64,
    /// The number of chunks outside the list of extents that were compared with the base; `None`
    /// without a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chunks_verified: Option<u64>,
    pub(crate) duration: f64,
    /// The id of the backup that this one was compared with.
    pub(crate) base: Option<String>,
    /// Whether only the name of a snapshot connects the diff with the base.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) base_by_name: bool,
    /// Bytes that changed and that the cluster did not list; `None` if this was not tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_missed: Option<u64>,
    /// Damage of the repository that was found during the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<MetDamageEntry>,
}

/// Damage of the repository that was found during a backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MetDamageEntry {
    /// Packs that the index names and that are missing or too short.
    pub(crate) packs_missing: u64,
    /// Packs with parts that are known to be damaged. No other pack held the content of these
    /// parts.
    pub(crate) packs_damaged: u64,
    /// The backup that the new one was compared with, if that backup cannot be restored completely.
    pub(crate) base: Option<AffectedEntry>,
    /// The parts of the new backup that cannot be restored.
    pub(crate) extents: Vec<Extent>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CompareSummary {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) identical: bool,
    pub(crate) size_a: u64,
    pub(crate) size_b: u64,
    pub(crate) extents: u64,
    pub(crate) bytes_different: u64,
}

/// An entry of `list`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackupEntry {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    /// The snapshot that was backed up, if the source named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<ByteString>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) size: u64,
    pub(crate) bytes_stored: Option<u64>,
    pub(crate) host: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether the writer of the backup withdrew it.
    pub(crate) withdrawn: bool,
    /// Whether the log says that the backup was removed.
    pub(crate) forgotten: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackupDetail {
    #[serde(flatten)]
    pub(crate) entry: BackupEntry,
    pub(crate) project: String,
    pub(crate) volume_id: String,
    /// `image` or `stream`.
    pub(crate) kind: &'static str,
    pub(crate) chunk_size: u32,
    pub(crate) root: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) finished: Timestamp,
    /// If the backup was copied, or its labels were changed: the id of its first record.
    pub(crate) original: Option<String>,
    pub(crate) base: Option<String>,
    /// The part of the record that describes the source.
    pub(crate) source: serde_json::Value,
    /// Contents that belong to the backup but are not part of the volume.
    pub(crate) attachments: Vec<AttachmentEntry>,
    /// Ceph's metadata of the image; `None` if there is none, or if it was not read.
    pub(crate) metadata: Option<Vec<Metadata>>,
    pub(crate) bytes_changed: Option<u64>,
    pub(crate) bytes_read: Option<u64>,
    pub(crate) bytes_new: Option<u64>,
    pub(crate) chunks_new: Option<u64>,
    pub(crate) tool: Option<String>,
}

/// The backups of one volume that `forget` keeps and removes, oldest first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForgetVolume {
    pub(crate) volume: String,
    /// Empty if the user named the backups to remove.
    pub(crate) keep: Vec<KeptBackup>,
    pub(crate) remove: Vec<RemovedBackup>,
    /// Backups that are kept although the rules do not count them: their times cannot be right, or
    /// their writer withdrew them.
    pub(crate) uncounted: Vec<String>,
    /// The backups of a volume can form several lines: no backup of one line follows a backup of
    /// another. These are the ids of the newest backup of each line, newest first.
    pub(crate) newest: Vec<String>,
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeptBackup {
    pub(crate) backup_id: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// For example `daily`, `oldest monthly`, `within 7d`, `label a=b`.
    pub(crate) reasons: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RemovedBackup {
    pub(crate) backup_id: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// Whether the log says that an earlier run removed this backup. If so, that run was
    /// interrupted, or the backup was put back from a copy.
    pub(crate) unfinished: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForgetSummary {
    pub(crate) backups_removed: u64,
    pub(crate) dry_run: bool,
    /// In a dry run: about how many bytes a prune could free after the backups are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_freed: Option<u64>,
    /// Whether a prune follows in the same command.
    #[serde(skip)]
    pub(crate) prunes: bool,
}

/// The result of `label` for one backup.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LabelSummary {
    /// The new id.
    pub(crate) backup_id: String,
    /// The old id; `None` if the backup had these labels already.
    pub(crate) replaces: Option<String>,
    pub(crate) volume: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An entry of `key list`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyEntry {
    pub(crate) key_id: String,
    /// `repository` or `project`.
    pub(crate) scope: &'static str,
    /// The name of the project that the key opens; `None` if the key opens the repository.
    pub(crate) project: Option<String>,
    pub(crate) role: &'static str,
    /// Patterns of the names of volumes that the key may back up. Empty if it may back up all.
    pub(crate) volumes: Vec<String>,
    pub(crate) label: Option<String>,
    #[serde(serialize_with = "optional_rfc3339")]
    pub(crate) created: Option<Timestamp>,
    pub(crate) user: Option<String>,
    pub(crate) host: Option<String>,
    /// Whether the given password opens this key.
    pub(crate) current: bool,
    /// Whether the key was added without a full key, or was revoked.
    pub(crate) foreign: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CacheInfo {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// The number of places of chunks and nodes that the index lists. `None` after `cache clear`.
    pub(crate) chunks: Option<u64>,
}

/// An entry of a list. Each entry is a JSON line; as text, all entries are formatted together.
#[derive(Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(crate) enum ListEntry<'a> {
    Backup(&'a BackupEntry),
    Key(&'a KeyEntry),
    Extent(&'a Extent),
    /// A part that could not be restored.
    Hole(&'a Extent),
    Diff(&'a DiffEntry),
    Forget(&'a ForgetVolume),
    Coverage(&'a CoverageEntry),
    Run(&'a RunEntry),
    Drill(&'a DrillEntry),
    Volume(&'a VolumeStatusEntry),
    Snapshot(&'a SnapshotEntry),
}
