//! Makes backups. An image is cut into leaves, and leaves into chunks of one size. The content of a
//! stream decides where its chunks begin. Each chunk gets an id. Chunks that the project does not
//! have are compressed, sealed, packed and stored. Then the tree, the last index segment and the
//! record are stored.

mod assembler;
mod attached_file;
mod attachment;
mod base;
mod content;
mod copy;
mod coverage;
mod diff;
mod extent_list;
mod image;
mod image_spec;
mod leaf_merger;
mod leaves;
mod listed;
mod live;
mod options;
mod pack;
mod present;
mod protect;
mod record;
mod relabel;
mod sample;
mod shared;
mod snapshots;
mod source;
mod stream;
mod task;

pub use attached_file::AttachedFile;
pub use copy::{CopyOptions, CopyReport, EachCopy, copy};
pub use extent_list::read_extents;
pub(super) use live::{Circumstances, snapshot_uses};
pub use live::{
    ImageOfGroup, LiveOptions, NextBackup, Point, SnapshotNeed, SnapshotUse, backup_image,
    backup_together, volume_of_image,
};
pub use options::{
    Accept, BackupOptions, BackupReport, ListTest, MetDamage, MissedChanges, Stated,
};
pub use relabel::relabel;
pub use source::backup;
