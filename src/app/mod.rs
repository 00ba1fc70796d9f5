//! The code that all front ends share: settings, locations, passwords, opening repositories,
//! requests, messages with their text, and failures with their hints.
//!
//! Nothing here depends on a command line or a terminal, and nothing here ends the process.

mod attach;
mod attachment_message;
mod audit_message;
mod backend;
mod check_message;
mod client_memory;
mod cluster;
mod consequences;
mod copy_message;
mod damage_message;
mod diff_message;
mod environment;
mod failure;
mod hints;
mod human;
mod json_time;
mod key_change;
mod location;
mod message;
mod opening;
mod password;
mod permission;
mod prompt;
mod prune_message;
mod repair_message;
mod replicate_message;
mod report;
mod report_html;
mod request;
mod rescue_map;
mod restore_mark;
mod restore_message;
mod session;
mod settings;
mod state_dir;
mod stats;
mod table;
mod text;
mod volume_status;

pub(crate) use attach::read_attached;
pub(crate) use attachment_message::{AttachmentEntry, Attachments};
pub(crate) use audit_message::{AuditEntries, DrillEntry, ReportKeyText, ReportVerified};
pub(crate) use check_message::{CheckSummary, DataRead, Extent, FindingText, KeylessSummary};
pub(crate) use client_memory::{ClientMemory, Lost, history_lost};
pub(crate) use cluster::ClusterOptions;
pub(crate) use consequences::{Repairable, consequences, findings};
pub(crate) use copy_message::{CopiedBackup, CopySummary};
pub(crate) use diff_message::{
    DiffEntry, DiffImage, DiffStream, ExportSummary, MergeSummary, Metadata,
};
pub(crate) use environment::Environment;
pub(crate) use failure::{Code, Failure, one_line};
pub(crate) use human::{
    count, duration, printable, printable_lines, shell_word, short_id, wrapped,
};
pub(crate) use key_change::{KeyChange, RevokedVolume};
pub(crate) use message::{
    BackupDetail, BackupEntry, BackupSummary, CacheInfo, CompareSummary, ForgetSummary,
    ForgetVolume, HeadStatement, InitSummary, KeptBackup, KeyEntry, LabelSummary, ListEntry,
    Message, MetDamageEntry, RemovedBackup, Status,
};
pub(crate) use opening::{
    create, host_name, load_records, notice_damaged, notice_several_newest, notice_state, open,
    open_ahead, open_objects, open_or_create, open_project, open_records, open_target, project,
    refuse_if_lost, slot_info,
};
pub(crate) use password::{PasswordFor, PasswordOptions, Passwords};
pub(crate) use permission::Attempt;
pub(crate) use prompt::{Prompt, TerminalLoan};
pub(crate) use prune_message::{PackAmount, PrunePlan, PruneSummary};
pub(crate) use repair_message::{ParitySummary, RepairStepEntry, RepairSummary};
pub(crate) use replicate_message::ReplicateSummary;
pub(crate) use report::{Report, WholeBackup};
pub(crate) use report_html::report_html;
pub(crate) use request::{
    AcceptedBackups, BackupRequest, BackupSource, CacheRequest, CheckRequest, CopyRequest,
    CopySelection, CopyTarget, DrillRequest, ExportRequest, ForgetRequest, ForgetSelection,
    ImageMode, ImageRequest, KeyRequest, LabelRequest, ListRequest, MergeRequest, NewKeyAccess,
    NewKeyRequest, PruneRequest, RbdPattern, ReadFrom, RepairRequest, ReplicateRequest,
    RequestedSource, RestoreImageRequest, RestoreRequest, Since, SnapshotsRequest, StatusRequest,
    VolumeName, WriteTo, backup_selector, check_name, names_stdin, volume_name,
};
pub(crate) use rescue_map::rescue_map;
pub(crate) use restore_mark::{MarkPlaces, RestoreMark};
pub(crate) use restore_message::{RestoreSummary, RestoredImage};
pub(crate) use session::Session;
pub(crate) use settings::{
    CONNECTIONS_MAX, RepositoryOptions, RepositorySettings, THREADS_MAX, worker_threads,
};
pub(crate) use stats::{Stats, VolumeStats};
pub(crate) use text::{
    affected_entry, audits, backups, counts_bytes, diff, diffs, done, drill, extents, fields,
    finding, finding_at, forget_plan, full_read, hole_extents, keys, lost_history, lost_parts,
    message, notice, phase, snapshots, status, volume_statuses,
};
pub(crate) use volume_status::{
    ImageStateName, ImageStatusEntry, SnapshotEntry, SnapshotsSummary, StatusSummary,
    VolumeStatusEntry,
};
