//! Opens the target that a user named by its path.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::device_target::DeviceTarget;
use super::error::VolumeError;
use super::file_target::FileTarget;
use super::target::{Existing, Target};

/// Opens the target at `path` for an image of `size` bytes: a file or a block device. A block
/// device is always updated in place. `existing` decides how to treat an existing file, or a device
/// that is not blank.
pub fn open_target(
    path: impl AsRef<Path>,
    size: u64,
    existing: Existing,
) -> Result<Box<dyn Target>, VolumeError> {
    let path = path.as_ref();
    let metadata = path.metadata();
    if metadata.is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        return Ok(Box::new(match existing {
            Existing::Refuse => DeviceTarget::open_blank(path, size)?,
            Existing::Replace | Existing::Update => DeviceTarget::open(path, size)?,
        }));
    }
    Ok(Box::new(match existing {
        Existing::Refuse => FileTarget::create_new(path, size)?,
        Existing::Replace => FileTarget::replace(path, size)?,
        Existing::Update => FileTarget::in_place(path, size)?,
    }))
}
