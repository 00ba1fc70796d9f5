//! Requests of users as plain checked values. A front end makes them from its own syntax, for
//! example from a command line.

mod backup;
mod check;
mod copy;
mod drill;
mod forget;
mod key;
mod label;
mod list;
mod names;
mod read_write;
mod repair;
mod replicate;
mod restore;
mod status;

pub(crate) use backup::{
    BackupRequest, BackupSource, ImageRequest, RbdPattern, RequestedSource, VolumeName,
};
pub(crate) use check::CheckRequest;
pub(crate) use copy::{CopyRequest, CopySelection, CopyTarget};
pub(crate) use drill::DrillRequest;
pub(crate) use forget::{ForgetRequest, ForgetSelection, PruneRequest};
pub(crate) use key::{AcceptedBackups, CacheRequest, KeyRequest, NewKeyAccess, NewKeyRequest};
pub(crate) use label::LabelRequest;
pub(crate) use list::{ListRequest, Since};
pub(crate) use names::{backup_selector, check_name, volume_name};
pub(crate) use read_write::{ReadFrom, WriteTo, names_stdin};
pub(crate) use repair::RepairRequest;
pub(crate) use replicate::ReplicateRequest;
pub(crate) use restore::{
    ExportRequest, ImageMode, MergeRequest, RestoreImageRequest, RestoreRequest,
};
pub(crate) use status::{SnapshotsRequest, StatusRequest};
