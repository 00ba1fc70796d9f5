//! Sources and targets of volumes: raw files, block devices, streams, images in a Ceph cluster, and
//! files that describe changes of a volume.
//!
//! An operation reads a [`Source`] or writes to a [`Target`]. The front end opens the files,
//! devices and streams that the user named.

mod announced_target;
mod buffered;
mod child_output;
mod command;
mod contents;
mod cursor;
mod data_extents;
mod device_directory;
mod device_target;
mod diff_target;
mod error;
mod file_target;
mod freeze;
mod identity;
mod image_writer;
mod input;
mod input_file;
mod input_range;
mod listed_image;
mod mounts;
mod open_target;
mod output;
mod output_file;
mod pending;
mod raw_image;
mod rbd;
mod source;
mod stdin;
mod stream_source;
mod stream_target;
mod sys;
mod target;
mod updates_times;
mod users;
mod witness;

pub use announced_target::AnnouncedTarget;
pub use command::CommandSource;
pub use contents::Contents;
pub use device_target::DeviceTarget;
pub use diff_target::{DiffTarget, DiffTotals};
pub use error::{Unsuitable, VolumeError, VolumeErrorKind, VolumeOperation};
pub use file_target::FileTarget;
pub use freeze::{Freeze, FreezeError, FreezeOptions, Thaw, guard_freeze};
pub use identity::ImageIdentity;
pub use input::{InputStream, NamedInput};
pub use input_file::InputFile;
pub use input_range::InputRange;
pub use listed_image::ListedImage;
pub use open_target::open_target;
pub use output::{NamedOutput, OutputStream};
pub use output_file::OutputFile;
pub use raw_image::RawImage;
pub use rbd::{
    CHOSEN_FEATURES, ExportEnd, ExportedSnapshot, ImageState, LiveImage, RbdClient, RbdError,
    RbdErrorKind, RbdExport, RbdImport, RbdOptions, RbdSpec, Snapshot, TrashedImage, feature_bits,
};
pub use source::{ExtentIter, Gaps, ImageSource, Source, SourceData};
pub use stdin::Stdin;
pub use stream_source::{DiffSource, StreamSource};
pub use stream_target::StreamTarget;
pub use sys::ImageKind;
pub use target::{Existing, ReadTarget, Target, WriteOrder};
