//! The operations on a repository, such as backup and restore, and what they share. Nothing here
//! depends on the command line or prints anything.

mod affected;
mod attachments;
mod backup;
mod cancellable_reader;
mod check;
mod compare;
mod context;
mod coverage;
mod diff;
mod diff_error;
mod drill;
mod error;
mod forget;
mod head;
mod history;
mod ids;
mod image_backups;
mod image_mark;
mod keyless;
mod missing;
mod parity;
mod pipeline;
mod prune;
mod repair_index;
mod replicate;
mod restore;
mod revoke;
mod snapshot_names;
mod space;
mod statement;
mod stats;
mod survey;
mod volume_ages;
mod walk_blobs;

pub use affected::{AffectedBackup, LossCause};
pub use attachments::{attached_files, image_metadata, is_safe_name, read_attachment};
pub use backup::{
    Accept, AttachedFile, BackupOptions, BackupReport, CopyOptions, CopyReport, EachCopy,
    ImageOfGroup, ListTest, LiveOptions, MetDamage, MissedChanges, NextBackup, Point, SnapshotNeed,
    SnapshotUse, Stated, backup, backup_image, backup_together, copy, read_extents, relabel,
    volume_of_image,
};
pub use check::{
    AffectedVolume, CheckReport, DataPart, Finding, ReadData, ReadReport, StatementFault, check,
};
pub use compare::{CompareReport, DifferentExtent, compare};
pub use context::Context;
pub use coverage::{AuditList, Coverage, audit_list};
pub use diff::{
    DiffPart, DiffReport, DiffSummary, ExportReport, MergeReport, SnapshotNames, examine_diff,
    export_diff, inspect_diff, merge_diffs,
};
pub use drill::{choose_drill, note_drills};
pub use error::OpsError;
pub use forget::{
    Candidate, Count, Forget, ForgetPlan, LabelMatch, Link, ParsePolicyError, Period, Policy,
    Reason, Removal, Rule, Span, VolumePlan, forget, plan_forget,
};
pub use head::{Head, head};
pub use history::{AcceptedLoss, LostName, ParseLostNameError, lost_certificates, require_history};
pub use image_backups::found_incomplete_by;
pub use keyless::{KeylessReport, check_keyless};
pub use missing::{DamagedHistory, MissingCertificate, MissingHistory, MissingRecord};
pub use parity::{
    AddedParity, ParityAction, ParityRepair, ParityState, ParityStep, ProtectedObject,
    RepairSources, add_parity, has_parity, parity_state, plan_repair,
};
pub use prune::{
    Amount, MaxUnused, PackAction, PackRepair, PackStep, Prune, PruneOptions, PrunePlan,
    PruneReport, RepairedPacks, plan_pack_repair, plan_prune,
};
pub use repair_index::{IndexAction, IndexRepair, IndexStep, plan_index_repair};
pub use replicate::{ReplicateOptions, ReplicateReport, Side, replicate};
pub use restore::{
    ImageTarget, InPlaceOptions, InPlaceReport, OnDamage, RestoreReport, restore, restore_despite,
    restore_image, restore_image_in_place, restore_series, series,
};
pub use revoke::{backups_of_key, revoke_key, that_count};
pub use space::{Space, space};
pub use statement::{Statement, StatementError};
pub use stats::{StatsReport, VolumeStats, stats, volume_stats};
pub use survey::{
    RemovedSnapshots, SnapshotRemoval, Survey, SurveyScope, SurveyedImage, remove_snapshots, survey,
};
pub use volume_ages::{VolumeAge, volume_ages};
