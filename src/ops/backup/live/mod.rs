//! Backup of an image in a cluster. The base is a backup of a snapshot that still exists and still
//! has the same id. The cluster lists the changes since that snapshot. Without such a backup, all
//! data is read and compared with the newest backup of the volume.
//!
//! The order of the steps makes every interruption harmless. A run first loads the records and
//! makes the snapshot. Then it exports and stores the data, verifies the snapshots, and commits.
//! Only then does it remove older snapshots. A run that is killed before its commit leaves a
//! snapshot that the next run removes.

mod change_list;
mod kept;
mod labels;
mod luks;
mod needs;
mod plan;
mod run;
mod together;
mod tracking;

pub(crate) use needs::{Circumstances, snapshot_uses};
pub use needs::{SnapshotNeed, SnapshotUse};
pub use plan::{NextBackup, volume_of_image};
pub use run::{LiveOptions, Point, backup_image};
pub use together::{ImageOfGroup, backup_together};
