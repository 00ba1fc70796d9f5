//! Types and functions for all layers: ids, sizes, progress, cancellation, private files, threads.
//! This module imports nothing from the rest of the crate.

mod buffer;
mod cancel;
mod child;
mod directory;
mod id;
mod image_event;
mod mapping;
mod memory;
mod observe;
mod parity_rate;
mod private_dir;
mod private_file;
mod role;
mod sync;
mod text;
mod threads;
mod units;
mod zero;

pub use buffer::{Buffer, DIRECT_ALIGN};
pub use cancel::{Cancel, Cancelled};
pub(crate) use child::{ChildGroup, child_command, kill_child_groups};
pub(crate) use directory::{lacks_links, sync_directory};
pub use id::{
    BlobId, LeaseId, ObjectHash, ParseIdError, ProjectId, RepositoryId, Root, SignerId, VolumeId,
};
pub use image_event::{FullRead, ImageEvent, NotCompared, WholeCompare};
pub(crate) use mapping::Mapping;
pub use memory::Memory;
pub use observe::{Notice, Observer, Phase, Progress, RebuildReason, Silent};
pub use parity_rate::{ParityRate, ParityRateError};
pub(crate) use private_dir::{create_private_dir, remove_unless_private};
pub(crate) use private_file::{replace_file, replace_file_durably};
pub use role::{ParseRoleError, Role};
pub(crate) use sync::{lock, read_lock, recover, write_lock};
pub(crate) use text::is_deceptive;
pub(crate) use threads::{join, map_in_threads};
pub(crate) use units::to_usize;
pub use units::{
    ByteSize, CHUNK_SIZE_DEFAULT, CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, ChunkSize, LEAF_SIZE,
    ParseSizeError, TAG_LEN,
};
pub use zero::{data_runs, is_zero};
