//! The messages of commands as data. Serialized, a message is a JSON line; [`text`](super::text)
//! formats it for people.
//!
//! Field names are an interface: once published, they stay. New fields may be added.
//! Sizes are bytes, durations seconds, times RFC 3339 in UTC, ids full hexadecimal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::format::ByteString;

/// One line of `--json`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(crate) enum Message {
    /// How far the work is.
    Status(Status),
    /// `init` has made a repository.
    #[serde(rename = "summary")]
    Init(InitSummary),
    #[serde(rename = "summary")]
    Backup(BackupSummary),
    #[serde(rename = "summary")]
    Restore(RestoreSummary),
    #[serde(rename = "summary")]
    Compare(CompareSummary),
    /// `show`: a backup in full.
    #[serde(rename = "backup")]
    Detail(Box<BackupDetail>),
    /// Damage that `check` found.
    Error(Damage),
    Check(CheckSummary),
    Stats(Stats),
    /// What `key add`, `remove`, `passwd` and `test` did, to which key.
    KeyChange(KeyChange),
    Cache(CacheInfo),
    /// How the image of a v2 stream was made; its diffs follow.
    DiffImage(DiffImage),
    /// A stream as a whole, after its diffs.
    DiffStream(DiffStream),
    #[serde(rename = "summary")]
    Merge(MergeSummary),
    #[serde(rename = "summary")]
    Export(ExportSummary),
    #[serde(rename = "summary")]
    Forget(ForgetSummary),
    Prune(Box<PruneSummary>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Status {
    /// From 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) percent_done: Option<f64>,
    pub(crate) bytes_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_bytes: Option<u64>,
    pub(crate) seconds_elapsed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_remaining: Option<u64>,
    /// `index`, `backup`, `restore`, `check_structure`, `check_data`, `mark`, `repack`,
    /// `inspect_diff`, `merge_diffs` or `export_diff`; each starts at 0.
    /// `mark` counts trees instead of bytes.
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
    /// None for a dry run.
    pub(crate) backup_id: Option<String>,
    pub(crate) volume: String,
    /// The snapshot that it is of, where the source named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<ByteString>,
    /// The volume had this backup already, and nothing was committed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) existing: bool,
    pub(crate) size: u64,
    pub(crate) bytes_changed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_new: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) chunks_new: u64,
    /// Chunks outside the list of extents that were compared with the base; `None` without a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chunks_verified: Option<u64>,
    pub(crate) duration: f64,
    /// The id of the backup that this one was compared with.
    pub(crate) base: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoreSummary {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    pub(crate) target: String,
    pub(crate) size: u64,
    pub(crate) bytes_written: u64,
    pub(crate) bytes_fetched: u64,
    pub(crate) duration: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CompareSummary {
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) identical: bool,
    pub(crate) extents: u64,
    pub(crate) bytes_different: u64,
}

/// A line of `list`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BackupEntry {
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    /// The snapshot that it is of, where the source named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<ByteString>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    pub(crate) size: u64,
    pub(crate) bytes_stored: Option<u64>,
    pub(crate) host: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
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
    pub(crate) base: Option<String>,
    /// What the source said of itself.
    pub(crate) source: serde_json::Value,
    pub(crate) bytes_changed: Option<u64>,
    pub(crate) bytes_read: Option<u64>,
    pub(crate) bytes_new: Option<u64>,
    pub(crate) chunks_new: Option<u64>,
    pub(crate) tool: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Damage {
    /// What is damaged: an object's name, or a backup.
    pub(crate) item: String,
    /// In which way.
    pub(crate) message: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckSummary {
    pub(crate) errors: u64,
    pub(crate) packs_damaged: u64,
    /// Their ids.
    pub(crate) backups_affected: Vec<String>,
    pub(crate) backups: u64,
    pub(crate) packs: u64,
    pub(crate) bytes_read: u64,
    pub(crate) duration: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stats {
    pub(crate) volumes: u64,
    pub(crate) backups: u64,
    /// The sizes of all backups together.
    pub(crate) bytes_backed_up: u64,
    pub(crate) chunks: u64,
    /// The plain sizes of the chunks that are held.
    pub(crate) bytes_unique: u64,
    /// What they take in the store.
    pub(crate) bytes_stored: u64,
    pub(crate) packs: u64,
}

/// What `forget` keeps and removes of one volume, oldest first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForgetVolume {
    pub(crate) volume: String,
    /// Nothing, or next to nothing, where backups were named.
    pub(crate) keep: Vec<KeptBackup>,
    pub(crate) remove: Vec<RemovedBackup>,
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeptBackup {
    pub(crate) backup_id: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// Such as `daily`, `oldest monthly`, `within 7d`, `label a=b`.
    pub(crate) reasons: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct RemovedBackup {
    pub(crate) backup_id: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Timestamp,
    /// An earlier run had begun to.
    pub(crate) unfinished: bool,
}

/// Packs, and their bytes in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PackAmount {
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

/// What `prune` found, and what that means for the packs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PrunePlan {
    /// Those that stay as they are.
    pub(crate) keep: PackAmount,
    /// Of these, bytes that nothing uses.
    pub(crate) bytes_unused: u64,
    /// Those that nothing uses, and that are marked.
    pub(crate) mark: PackAmount,
    /// Those of which what is used is packed again, and that are marked then.
    pub(crate) repack: PackAmount,
    pub(crate) repack_bytes_used: u64,
    /// Those that were marked before, and whose time has come.
    pub(crate) delete: PackAmount,
    /// Those that were marked before, and whose time has not come.
    pub(crate) waiting: PackAmount,
    /// Those that nothing uses, and that are too young or may belong to a backup that runs.
    pub(crate) young: PackAmount,
    pub(crate) grace_seconds: u64,
}

/// What `prune` did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PruneSummary {
    pub(crate) dry_run: bool,
    pub(crate) plan: PrunePlan,
    pub(crate) deleted: PackAmount,
    /// Marked now, and still there.
    pub(crate) marked: PackAmount,
    pub(crate) repacked: PackAmount,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    /// Marked before, and in use again.
    pub(crate) packs_rescued: u64,
    /// What uploads that were cut short had left.
    pub(crate) uploads_removed: u64,
    pub(crate) duration: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ForgetSummary {
    pub(crate) backups_removed: u64,
    pub(crate) dry_run: bool,
}

/// A line of `key list`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyEntry {
    pub(crate) key_id: String,
    /// `repository` or `project`.
    pub(crate) scope: &'static str,
    pub(crate) label: Option<String>,
    #[serde(serialize_with = "optional_rfc3339")]
    pub(crate) created: Option<Timestamp>,
    pub(crate) user: Option<String>,
    pub(crate) host: Option<String>,
    /// The password that was given opens this one.
    pub(crate) current: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct KeyChange {
    /// `added`, `removed`, `changed`, `opens` or `exported`.
    pub(crate) action: &'static str,
    pub(crate) key_id: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CacheInfo {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Chunks it knows; none if there is no cache.
    pub(crate) chunks: Option<u64>,
}

/// One diff of a stream. Names are texts, or `{"hex": …}` where they are not UTF-8.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffEntry {
    /// None if it builds on no image.
    pub(crate) from: Option<ByteString>,
    /// None if it leads to the image's head.
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    /// Where the stream says it.
    pub(crate) protected: Option<bool>,
    pub(crate) extents: u64,
    pub(crate) extents_data: u64,
    pub(crate) extents_zero: u64,
    pub(crate) bytes_data: u64,
    /// Of the data, in blocks of 4 KiB.
    pub(crate) bytes_zero_in_data: u64,
    pub(crate) bytes_zero: u64,
    /// Leaves of 4 MiB that it touches.
    pub(crate) leaves: u64,
    /// Chunks of 64 KiB that it touches.
    pub(crate) chunks: u64,
    /// The first byte of the image that it touches.
    pub(crate) first: Option<u64>,
    /// The last one.
    pub(crate) last: Option<u64>,
    /// False if the stream is damaged here.
    pub(crate) whole: bool,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffImage {
    pub(crate) order: Option<u8>,
    pub(crate) features: Option<u64>,
    pub(crate) feature_names: Vec<String>,
    pub(crate) stripe_unit: Option<u64>,
    pub(crate) stripe_count: Option<u64>,
    pub(crate) metadata: Vec<Metadata>,
    /// How many there should be.
    pub(crate) diffs: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Metadata {
    pub(crate) key: ByteString,
    pub(crate) value: ByteString,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffStream {
    pub(crate) source: String,
    /// 1 or 2; none if the stream is cut before it says that.
    pub(crate) version: Option<u8>,
    /// Diffs that are whole.
    pub(crate) diffs: u64,
    /// Up to its end, or to the damage.
    pub(crate) bytes: u64,
    pub(crate) whole: bool,
    /// What is wrong, and at which byte.
    pub(crate) damage: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct MergeSummary {
    pub(crate) target: String,
    pub(crate) from: Option<ByteString>,
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    /// Diffs that it was made of.
    pub(crate) diffs: u64,
    pub(crate) extents: u64,
    pub(crate) bytes_data: u64,
    pub(crate) bytes_zero: u64,
    pub(crate) bytes_written: u64,
    pub(crate) duration: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ExportSummary {
    /// The backup that the diff leads to.
    pub(crate) backup_id: String,
    pub(crate) volume: String,
    /// The backup that it builds on, if any.
    pub(crate) from_backup_id: Option<String>,
    pub(crate) target: String,
    /// The snapshot that it builds on; none if it builds on no image.
    pub(crate) from: Option<ByteString>,
    /// The snapshot that it leads to; none if that is the image's head.
    pub(crate) to: Option<ByteString>,
    pub(crate) size: u64,
    pub(crate) extents: u64,
    pub(crate) bytes_data: u64,
    pub(crate) bytes_zero: u64,
    pub(crate) bytes_written: u64,
    pub(crate) bytes_fetched: u64,
    pub(crate) duration: f64,
}

fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn optional_rfc3339<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// An entry of a list. As text, the entries make one table.
#[derive(Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub(crate) enum ListEntry<'a> {
    Backup(&'a BackupEntry),
    Key(&'a KeyEntry),
    Extent(&'a Extent),
    Diff(&'a DiffEntry),
    Forget(&'a ForgetVolume),
}
